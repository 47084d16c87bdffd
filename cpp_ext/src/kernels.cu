#include "operations.h"
#include "device.h"

#include <cuda_runtime.h>

#include <type_traits>

namespace posgan::device {

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// Transforms and places may lie in host memory, which the device does not cache: each block reads them
// once, into shared memory.

template <class Functor>
__global__ void __launch_bounds__(kThreads) each_point(Functor functor, size_t count) {
  __shared__ float transform[6];
  if (threadIdx.x < 6) transform[threadIdx.x] = functor.transforms[6 * blockIdx.y + threadIdx.x];
  __syncthreads();
  const size_t point = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (point < count) functor(blockIdx.y, point, transform);
}

template <class Functor>
__global__ void __launch_bounds__(kThreads) each_pixel(Functor functor, int size) {
  __shared__ float transform[6];
  const int thread = threadIdx.y * 32 + threadIdx.x;
  if (thread < 6) transform[thread] = functor.transforms[6 * blockIdx.z + thread];
  __syncthreads();
  const int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * kWarps + threadIdx.y;
  if (column < size && row < size) functor(blockIdx.z, row, column, transform);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    each_placed_pixel(CropNormalize<BgrFrame, T> functor, const FramePlace* place, int size) {
  __shared__ float transform[6];
  __shared__ int64_t found[4];
  const int thread = threadIdx.y * 32 + threadIdx.x;
  if (thread < 6) transform[thread] = functor.transforms[6 * blockIdx.z + thread];
  if (thread < 4) found[thread] = (&place->data)[thread];
  __syncthreads();
  functor.source = {reinterpret_cast<const uint8_t*>(found[0]), static_cast<size_t>(found[1]),
                    static_cast<int>(found[2]), static_cast<int>(found[3])};
  const int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * kWarps + threadIdx.y;
  if (column < size && row < size) functor(blockIdx.z, row, column, transform);
}

// The threads of one block.
struct BlockTeam {
  static constexpr int kMost = 10;  // largest number of values added at once
  float* room;                      // shared memory: kMost floats for each warp
  int* bins;                        // shared memory: kBins, one for each warp, and two

  __device__ static int rank() { return threadIdx.x; }
  __device__ static int size() { return kThreads; }

  template <int N>
  __device__ void sum(float (&values)[N]) const {
    static_assert(N <= kMost, "the room is too small");
    for (int k = 0; k < N; ++k)
      for (int step = 16; step > 0; step /= 2)
        values[k] += __shfl_xor_sync(0xffffffffu, values[k], step);
    if (threadIdx.x % 32 == 0)
      for (int k = 0; k < N; ++k) room[kMost * (threadIdx.x / 32) + k] = values[k];
    __syncthreads();
    for (int k = 0; k < N; ++k) {
      values[k] = room[k];
      for (int warp = 1; warp < kWarps; ++warp) values[k] += room[kMost * warp + k];
    }
    __syncthreads();
  }

  __device__ void clear() const {
    for (int i = threadIdx.x; i < kBins; i += kThreads) bins[i] = 0;
    __syncthreads();
  }

  __device__ void count(uint32_t bin) const { atomicAdd(bins + bin, 1); }

  // Each thread has two bins; the thread whose bin holds the rank publishes it.
  __device__ uint32_t locate(int* rank) const {
    static_assert(kBins == 2 * kThreads, "two bins for each thread");
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int* warps = bins + kBins;
    int* found = warps + kWarps;
    __syncthreads();
    const int low = bins[2 * threadIdx.x], both = low + bins[2 * threadIdx.x + 1];
    int upto = both;  // values in the bins of this thread and of all threads before it
    for (int step = 1; step < 32; step *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, upto, step);
      upto += lane >= step ? before : 0;
    }
    if (lane == 31) warps[warp] = upto;
    __syncthreads();
    for (int i = 0; i < warp; ++i) upto += warps[i];
    const int within = *rank - (upto - both);
    if (within >= 0 && within < both) {
      found[0] = 2 * threadIdx.x + (within >= low ? 1 : 0);
      found[1] = within - (within >= low ? low : 0);
    }
    __syncthreads();
    *rank = found[1];
    return found[0];
  }
};

__global__ void __launch_bounds__(kThreads, 1) each_face(FitPose<BlockTeam> fit) {
  __shared__ float room[BlockTeam::kMost * kWarps];
  __shared__ int bins[kBins + kWarps + 2];
  extern __shared__ float residuals[];
  fit(BlockTeam{room, bins}, blockIdx.x, residuals);
}

}  // namespace

void extract_landmarks(const LandmarkBatch& b, uintptr_t stream) {
  const size_t count = b.count + b.rest_count;
  const dim3 grid(static_cast<unsigned>((count + kThreads - 1) / kThreads),
                  static_cast<unsigned>(b.faces));
  const auto queue = reinterpret_cast<cudaStream_t>(stream);
  if (b.half) {
    each_point<<<grid, kThreads, 0, queue>>>(functor<Half>(b), count);
  } else {
    each_point<<<grid, kThreads, 0, queue>>>(functor<float>(b), count);
  }
  check(cudaGetLastError(), "extract_landmarks");
}

void crop_normalize(const CropBatch& b, uintptr_t stream) {
  const dim3 block(32, kWarps);
  const dim3 grid((b.size + 31) / 32, (b.size + kWarps - 1) / kWarps,
                  static_cast<unsigned>(b.faces));
  const auto queue = reinterpret_cast<cudaStream_t>(stream);
  with_functor(b, [&](auto functor) {
    if constexpr (std::is_same_v<decltype(functor.source), BgrFrame>) {
      if (b.place != nullptr) {
        each_placed_pixel<<<grid, block, 0, queue>>>(functor, b.place, b.size);
        return;
      }
    }
    each_pixel<<<grid, block, 0, queue>>>(functor, b.size);
  });
  check(cudaGetLastError(), "crop_normalize");
}

void pose_fit(const PoseBatch& b, uintptr_t stream) {
  const FitPose<BlockTeam> fit{b.points, b.mean, b.out, b.count, b.stride, b.iterations};
  each_face<<<static_cast<unsigned>(b.faces), kThreads, sizeof(float) * b.count,
              reinterpret_cast<cudaStream_t>(stream)>>>(fit);
  check(cudaGetLastError(), "pose_fit");
}

}  // namespace posgan::device
