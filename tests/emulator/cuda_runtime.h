// A stand-in for CUDA's device side: what kernels.cu uses, run on the CPU by emulator.cpp.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulator {

extern dim3 thread, block;  // of the thread that runs now

// One launch: every block in turn, its threads as fibers.
void run(dim3 grid, dim3 size, size_t dynamic, cudaStream_t stream,
         const std::function<void()>& body);

// Shared memory of the block that runs now; `line` names the declaration.
void* shared_bytes(size_t bytes, int line);
void* dynamic_bytes();
template <class Array>
Array& shared(int line) {
  return *static_cast<Array*>(shared_bytes(sizeof(Array), line));
}

void barrier(int line);
// Every lane's bits, once all 32 threads of the warp are at this line.
const uint64_t* exchange(uint64_t bits, int line);
int add(int* address, int value);

template <class T>
T from_lane(T value, int lane, int line) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = exchange(bits, line)[lane];
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline int lane() { return static_cast<int>(thread.x % 32); }

}  // namespace emulator

#define threadIdx (emulator::thread)
#define blockIdx (emulator::block)

inline void __syncthreads(int line = __builtin_LINE()) { emulator::barrier(line); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int step, int line = __builtin_LINE()) {
  return emulator::from_lane(value, emulator::lane() ^ step, line);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int step, int line = __builtin_LINE()) {
  const int from = emulator::lane() - step;
  return emulator::from_lane(value, from < 0 ? emulator::lane() : from, line);
}

inline int atomicAdd(int* address, int value) { return emulator::add(address, value); }
