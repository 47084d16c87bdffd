// The operations for ctypes, on the host or on the emulated device, and a CUDA runtime that knows
// the memory and streams that a test names. Every entry returns null or what went wrong.
#include "cuda_runtime_api.h"
#include "device.h"
#include "operations.h"

#include <string>
#include <utility>
#include <vector>

namespace {

std::vector<std::pair<unsigned long long, size_t>> chunks;  // what the driver calls allocations

int address_range(unsigned long long* base, size_t* size, unsigned long long address) {
  for (const auto& chunk : chunks) {
    if (address < chunk.first || address >= chunk.first + chunk.second) continue;
    *base = chunk.first;
    *size = chunk.second;
    return 0;
  }
  return 1;
}

template <class Work>
const char* guarded(Work work) {
  static std::string message;
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

}  // namespace

const char* cudaGetErrorString(cudaError_t) { return "an error"; }
const char* cudaGetErrorName(cudaError_t) { return "cudaError"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* address) {
  unsigned long long base;
  size_t size;
  const auto at = reinterpret_cast<unsigned long long>(address);
  const bool known = address_range(&base, &size, at) == 0;
  *found = {known ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered,
            known ? const_cast<void*>(address) : nullptr};
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** entry, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult*) {
  *entry = reinterpret_cast<void*>(&address_range);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus*) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { return cudaSuccess; }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) { return cudaSuccess; }
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long) {
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }

extern "C" {

const char* extract_landmarks(bool device, const void* maps, bool half, const float* uv,
                              const float* transforms, float* points, float* facing,
                              float* rest, size_t faces, size_t count, size_t rest_count,
                              int height, int width) {
  const posgan::LandmarkBatch batch{maps, half,  uv,    transforms, points, facing,
                                    rest, faces, count, rest_count, height, width};
  return guarded([&] {
    device ? posgan::device::extract_landmarks(batch, 0) : posgan::host::extract_landmarks(batch);
  });
}

// With a place (four int64 on the device), the frame's address and size are written there, and the
// kernel finds them there.
const char* crop_normalize(bool device, const uint8_t* data, const uint8_t* chroma, size_t pitch,
                           size_t chroma_pitch, int height, int width, bool bt709, bool full,
                           const float* transforms, void* out, bool half, size_t faces, int size,
                           float blue, float green, float red, posgan::FramePlace* place) {
  posgan::CropBatch batch{
      {chroma != nullptr, data, chroma, pitch, chroma_pitch, height, width, bt709, full},
      transforms, out, half, faces, size, {blue, green, red}, nullptr};
  if (device && place != nullptr) {
    *place = {reinterpret_cast<int64_t>(data), static_cast<int64_t>(pitch), height, width};
    batch.frame = {};
    batch.place = place;
  }
  return guarded([&] {
    device ? posgan::device::crop_normalize(batch, 0) : posgan::host::crop_normalize(batch);
  });
}

const char* pose_fit(bool device, const float* points, const float* mean, float* out,
                     size_t faces, size_t stride, int count, int iterations) {
  const posgan::PoseBatch batch{points, mean, out, faces, stride, count, iterations};
  return guarded(
      [&] { device ? posgan::device::pose_fit(batch, 0) : posgan::host::pose_fit(batch); });
}

float value_of_rank(const float* values, int count, int rank) {
  int bins[posgan::kBins];
  const posgan::FitPose<posgan::HostTeam> fit{nullptr, nullptr, nullptr, count, 0, 0};
  return fit.select(posgan::HostTeam{bins}, values, rank);
}

// Names what the driver calls an allocation; of no bytes: forgets them all.
void emulator_chunk(unsigned long long base, size_t size) {
  if (size == 0) chunks.clear();
  else chunks.emplace_back(base, size);
}

const char* check_pointer(uintptr_t address, size_t bytes, size_t alignment) {
  return guarded([&] { posgan::device::check_pointer("points", address, bytes, alignment); });
}

}  // extern "C"
