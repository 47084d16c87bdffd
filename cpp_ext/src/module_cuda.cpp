// Functions on device memory: pointers, shapes and a stream handle; nothing is copied.
#include "arguments.h"
#include "device.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <tuple>

namespace posgan {

namespace {

using Address = uint64_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

size_t width(bool half) { return half ? 2 : 4; }

// Raises CudaError if there is no device, before any pointer is checked.
void need_device() {
  std::string reason;
  if (device::device_count(&reason) == 0) throw device::CudaError("no CUDA device: " + reason);
}

void extract_landmarks(Address maps, Address uv, Address transforms, Address points,
                       Address facing, Address rest,
                       const std::tuple<int64_t, int64_t, int64_t>& shape, int64_t count,
                       int64_t rest_count, const std::string& dtype, Address stream) {
  LandmarkBatch batch{};
  batch.faces = bounded("shape (faces)", std::get<0>(shape), 0, kMostFaces);
  batch.height = static_cast<int>(bounded("shape (height)", std::get<1>(shape), 1, 1 << 14));
  batch.width = static_cast<int>(bounded("shape (width)", std::get<2>(shape), 1, 1 << 14));
  batch.count = bounded("count", count, 1, 1 << 28);
  batch.rest_count = bounded("rest_count", rest_count, 0, 1 << 28);
  batch.half = is_half("dtype", dtype);
  need_device();
  device::check_stream(stream);
  if (batch.faces == 0) return;
  const size_t map = static_cast<size_t>(batch.height) * batch.width;
  device::check_pointer("maps", maps, batch.faces * 3 * map * width(batch.half),
                        width(batch.half));
  device::check_pointer("uv", uv, (batch.count + batch.rest_count) * 8, 4);
  device::check_pointer("transforms", transforms, batch.faces * 24, 4);
  device::check_pointer("points", points, batch.faces * batch.count * 12, 4);
  if (batch.rest_count) {
    device::check_pointer("rest", rest, batch.faces * batch.rest_count * 12, 4);
  }
  if (facing) device::check_pointer("facing", facing, batch.faces * batch.count * 4, 4);
  batch.maps = pointer<const void>(maps);
  batch.uv = pointer<const float>(uv);
  batch.transforms = pointer<const float>(transforms);
  batch.points = pointer<float>(points);
  batch.facing = pointer<float>(facing);
  batch.rest = pointer<float>(rest);
  device::extract_landmarks(batch, stream);
}

void cropped(CropBatch& batch, Address transforms, Address out, int64_t faces, int64_t size,
             const std::string& dtype, const std::array<float, 3>& border, Address stream) {
  batch.faces = bounded("faces", faces, 0, kMostFaces);
  batch.size = static_cast<int>(bounded("size", size, 1, 4096));
  batch.half = is_half("dtype", dtype);
  set_border(batch, border);
  const FrameView& frame = batch.frame;
  need_device();
  device::check_stream(stream);
  if (batch.faces == 0) return;
  const auto bytes = [](size_t pitch, int rows, size_t last) { return pitch * (rows - 1) + last; };
  if (batch.place != nullptr) {
    device::check_pointer("place", reinterpret_cast<uintptr_t>(batch.place), sizeof(FramePlace), 8);
  } else if (frame.nv12) {
    const size_t across = (frame.width + 1) / 2 * size_t{2};
    device::check_pointer("luma", reinterpret_cast<uintptr_t>(frame.data),
                          bytes(frame.pitch, frame.height, frame.width), 1);
    device::check_pointer("chroma", reinterpret_cast<uintptr_t>(frame.chroma),
                          bytes(frame.chroma_pitch, (frame.height + 1) / 2, across), 1);
  } else {
    device::check_pointer("frame", reinterpret_cast<uintptr_t>(frame.data),
                          bytes(frame.pitch, frame.height, size_t{3} * frame.width), 1);
  }
  const size_t values = batch.faces * 3 * batch.size * batch.size;
  device::check_pointer("transforms", transforms, batch.faces * 24, 4);
  device::check_pointer("out", out, values * width(batch.half), width(batch.half));
  batch.transforms = pointer<const float>(transforms);
  batch.out = pointer<void>(out);
  device::crop_normalize(batch, stream);
}

using FrameShape = std::tuple<int64_t, int64_t, int64_t>;  // height, width, pitch in bytes

void set_frame(FrameView& frame, const FrameShape& shape, int64_t pixel) {
  frame.height = static_cast<int>(bounded("shape (height)", std::get<0>(shape), 1, 1 << 16));
  frame.width = static_cast<int>(bounded("shape (width)", std::get<1>(shape), 1, 1 << 16));
  frame.pitch = bounded("shape (pitch)", std::get<2>(shape), pixel * frame.width, 1 << 24);
}

void crop_normalize(Address frame, Address place, Address transforms, Address out,
                    const FrameShape& shape, int64_t faces, int64_t size, const std::string& dtype,
                    const std::array<float, 3>& border, Address stream) {
  CropBatch batch{};
  batch.place = pointer<const FramePlace>(place);
  if (place == 0) {
    set_frame(batch.frame, shape, 3);
    batch.frame.data = pointer<const uint8_t>(frame);
  }
  cropped(batch, transforms, out, faces, size, dtype, border, stream);
}

void crop_normalize_nv12(Address luma, Address chroma, Address transforms, Address out,
                         const FrameShape& shape, int64_t chroma_pitch, int64_t faces,
                         int64_t size, const std::string& dtype,
                         const std::array<float, 3>& border, const std::string& matrix,
                         bool full_range, Address stream) {
  CropBatch batch{};
  batch.frame.nv12 = true;
  set_frame(batch.frame, shape, 1);
  batch.frame.chroma_pitch =
      bounded("chroma_pitch", chroma_pitch, (batch.frame.width + 1) / 2 * 2, 1 << 24);
  batch.frame.bt709 = is_bt709(matrix);
  batch.frame.full = full_range;
  batch.frame.data = pointer<const uint8_t>(luma);
  batch.frame.chroma = pointer<const uint8_t>(chroma);
  cropped(batch, transforms, out, faces, size, dtype, border, stream);
}

void pose_fit(Address points, Address mean, Address out, int64_t faces, int64_t count,
              int64_t stride, int64_t iterations, Address stream) {
  PoseBatch batch{};
  batch.faces = bounded("faces", faces, 0, kMostFaces);
  batch.count = static_cast<int>(bounded("count", count, 3, kMostPosePoints));
  batch.stride = stride == 0 ? count : bounded("stride", stride, count, 1 << 28);
  batch.iterations = static_cast<int>(bounded("iterations", iterations, 1, 100));
  need_device();
  device::check_stream(stream);
  if (batch.faces == 0) return;
  const size_t last = (batch.faces - 1) * batch.stride + batch.count;
  device::check_pointer("points", points, last * 12, 4);
  device::check_pointer("mean", mean, batch.count * size_t{12}, 4);
  device::check_pointer("out", out, batch.faces * kPoseSize * sizeof(float), 4);
  batch.points = pointer<const float>(points);
  batch.mean = pointer<const float>(mean);
  batch.out = pointer<float>(out);
  device::pose_fit(batch, stream);
}

}  // namespace

void add_device(nb::module_& module) {
  using namespace nb::literals;
  const std::array<float, 3> black{0.0f, 0.0f, 0.0f};
  nb::module_ cuda = module.def_submodule("cuda");
  nb::exception<device::CudaError>(module, "CudaError", PyExc_RuntimeError);
  cuda.attr("architectures") = POSGAN_ARCHITECTURES;
  cuda.def("device_count", [] {
    std::string reason;
    const int count = device::device_count(&reason);
    return nb::make_tuple(count, reason);
  });
  cuda.def("extract_landmarks", &extract_landmarks, nb::kw_only(), "maps"_a, "uv"_a,
           "transforms"_a, "points"_a, "facing"_a = 0, "rest"_a = 0, "shape"_a,
           "count"_a, "rest_count"_a = 0, "dtype"_a = "float32", "stream"_a = 0);
  cuda.def("crop_normalize", &crop_normalize, nb::kw_only(), "frame"_a = 0, "place"_a = 0,
           "transforms"_a, "out"_a, "shape"_a = FrameShape{0, 0, 0}, "faces"_a, "size"_a,
           "dtype"_a = "float32", "border"_a = black, "stream"_a = 0);
  cuda.def("crop_normalize_nv12", &crop_normalize_nv12, nb::kw_only(), "luma"_a, "chroma"_a,
           "transforms"_a, "out"_a, "shape"_a, "chroma_pitch"_a, "faces"_a, "size"_a,
           "dtype"_a = "float32", "border"_a = black, "matrix"_a = "bt601", "full_range"_a = false,
           "stream"_a = 0);
  cuda.def("pose_fit", &pose_fit, nb::kw_only(), "points"_a, "mean"_a, "out"_a, "faces"_a,
           "count"_a, "stride"_a = 0, "iterations"_a = 4, "stream"_a = 0);
  nb::class_<device::Graph>(cuda, "Graph")
      .def(
          "__init__",
          [](device::Graph* self, Address stream, nb::callable work) {
            need_device();
            new (self) device::Graph(stream, [&] { work(); });
          },
          "stream"_a, "work"_a)
      .def("launch", [](const device::Graph& self, Address stream) { self.launch(stream); },
           "stream"_a)
      .def("close", &device::Graph::close);
}

}  // namespace posgan
