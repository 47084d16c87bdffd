// The Python module: functions on NumPy arrays; module_cuda.cpp adds those on device memory.
#include "arguments.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

namespace posgan {

void add_device(nb::module_& module);
void add_smoothing(nb::module_& module);

namespace {

nb::object extract_landmarks(nb::handle maps_, nb::handle uv_, nb::handle transforms_,
                             bool facing) {
  const Array maps = array("maps", maps_, {kFloat, kHalf}, {kAny, 3, kAny, kAny});
  const Array uv = array("uv", uv_, {kFloat}, {kAny, 2});
  const auto faces = static_cast<int64_t>(maps.shape(0));
  const Array transforms = array("transforms", transforms_, {kFloat}, {faces, 2, 3});
  LandmarkBatch batch{};
  batch.height = static_cast<int>(bounded("maps (height)", maps.shape(2), 1, 1 << 14));
  batch.width = static_cast<int>(bounded("maps (width)", maps.shape(3), 1, 1 << 14));
  batch.count = bounded("uv (points)", uv.shape(0), 1, 1 << 28);
  check_transforms(transforms);
  if (batch.count * maps.shape(0) > kMostValues / 3) {
    refuse("uv", std::to_string(batch.count) + " points of " + std::to_string(faces) +
                     " maps are more than 4 GiB");
  }
  batch.maps = maps.data();
  batch.half = maps.dtype() == kHalf;
  batch.uv = static_cast<const float*>(uv.data());
  batch.transforms = static_cast<const float*>(transforms.data());
  batch.faces = maps.shape(0);
  nb::object points = created<float>({batch.faces, batch.count, 3}, kFloat, &batch.points);
  nb::object cosines;
  if (facing) cosines = created<float>({batch.faces, batch.count}, kFloat, &batch.facing);
  {
    nb::gil_scoped_release unlocked;
    host::extract_landmarks(batch);
  }
  return facing ? nb::make_tuple(points, cosines) : points;
}

nb::object cropped(CropBatch& batch, nb::handle transforms_, int64_t size,
                   const std::string& dtype, const std::array<float, 3>& border) {
  const Array transforms = array("transforms", transforms_, {kFloat}, {kAny, 2, 3});
  batch.size = static_cast<int>(bounded("size", size, 1, 4096));
  batch.half = is_half("dtype", dtype);
  set_border(batch, border);
  check_transforms(transforms);
  batch.transforms = static_cast<const float*>(transforms.data());
  batch.faces = transforms.shape(0);
  const auto side = static_cast<size_t>(batch.size);
  // Memory is zeroed when it is made, so that too much of it would stop the machine.
  if (batch.faces > kMostValues / (3 * side * side)) {
    refuse("size", std::to_string(batch.faces) + " crops of " + std::to_string(side) +
                       " pixels are more than 4 GiB");
  }
  nb::object out;
  if (batch.half) {
    uint16_t* data;
    out = created<uint16_t>({batch.faces, 3, side, side}, kHalf, &data);
    batch.out = data;
  } else {
    float* data;
    out = created<float>({batch.faces, 3, side, side}, kFloat, &data);
    batch.out = data;
  }
  nb::gil_scoped_release unlocked;
  host::crop_normalize(batch);
  return out;
}

nb::object crop_normalize(nb::handle frame_, nb::handle transforms, int64_t size,
                          const std::string& dtype, const std::array<float, 3>& border) {
  const Array frame = array("frame", frame_, {kByte}, {kAny, kAny, 3}, true);
  CropBatch batch{};
  batch.frame.height = static_cast<int>(bounded("frame (height)", frame.shape(0), 1, 1 << 16));
  batch.frame.width = static_cast<int>(bounded("frame (width)", frame.shape(1), 1, 1 << 16));
  batch.frame.data = static_cast<const uint8_t*>(frame.data());
  batch.frame.pitch = static_cast<size_t>(frame.stride(0));
  return cropped(batch, transforms, size, dtype, border);
}

nb::object crop_normalize_nv12(nb::handle luma_, nb::handle chroma_, nb::handle transforms,
                               int64_t size, const std::string& dtype,
                               const std::array<float, 3>& border, const std::string& matrix,
                               bool full_range) {
  const Array luma = array("luma", luma_, {kByte}, {kAny, kAny}, true);
  CropBatch batch{};
  FrameView& frame = batch.frame;
  frame.nv12 = true;
  frame.height = static_cast<int>(bounded("luma (height)", luma.shape(0), 1, 1 << 16));
  frame.width = static_cast<int>(bounded("luma (width)", luma.shape(1), 1, 1 << 16));
  const Array chroma = array("chroma", chroma_, {kByte},
                             {(frame.height + 1) / 2, (frame.width + 1) / 2, 2}, true);
  frame.data = static_cast<const uint8_t*>(luma.data());
  frame.chroma = static_cast<const uint8_t*>(chroma.data());
  frame.pitch = static_cast<size_t>(luma.stride(0));
  frame.chroma_pitch = static_cast<size_t>(chroma.stride(0));
  frame.bt709 = is_bt709(matrix);
  frame.full = full_range;
  return cropped(batch, transforms, size, dtype, border);
}

nb::object pose_fit(nb::handle points_, nb::handle mean_, int64_t iterations) {
  const Array points = array("points", points_, {kFloat}, {kAny, kAny, 3});
  const auto count = static_cast<int64_t>(points.shape(1));
  const Array mean = array("mean", mean_, {kFloat}, {count, 3});
  PoseBatch batch{};
  batch.count = static_cast<int>(bounded("mean (points)", count, 3, kMostPosePoints));
  batch.iterations = static_cast<int>(bounded("iterations", iterations, 1, 100));
  batch.points = static_cast<const float*>(points.data());
  batch.mean = static_cast<const float*>(mean.data());
  batch.faces = points.shape(0);
  batch.stride = points.shape(1);
  nb::object out = created<float>({batch.faces, size_t{kPoseSize}}, kFloat, &batch.out);
  nb::gil_scoped_release unlocked;
  host::pose_fit(batch);
  return out;
}

}  // namespace

NB_MODULE(_native, module) {
  using namespace nb::literals;
  // Objects may be alive when Python ends, for example those of a thread; that is no error.
  nb::set_leak_warnings(false);
  const std::array<float, 3> black{0.0f, 0.0f, 0.0f};
  module.def("extract_landmarks", &extract_landmarks, "maps"_a, "uv"_a, "transforms"_a,
             "facing"_a = false);
  module.def("crop_normalize", &crop_normalize, "frame"_a, "transforms"_a, "size"_a,
             "dtype"_a = "float32", "border"_a = black);
  module.def("crop_normalize_nv12", &crop_normalize_nv12, "luma"_a, "chroma"_a, "transforms"_a,
             "size"_a, "dtype"_a = "float32", "border"_a = black, "matrix"_a = "bt601",
             "full_range"_a = false);
  module.def("pose_fit", &pose_fit, "points"_a, "mean"_a, "iterations"_a = 4);
  add_smoothing(module);
  module.attr("built") = POSGAN_BUILT;
#if defined(POSGAN_WITH_CUDA)
  module.attr("with_cuda") = true;
  add_device(module);
#else
  module.attr("with_cuda") = false;
#endif
}

}  // namespace posgan
