// The CUDA runtime's errors as exceptions, checks of pointers and streams, and captured graphs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include <cuda_runtime_api.h>

namespace posgan::device {

struct CudaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Raises CudaError with CUDA's own message.
void check(cudaError_t status, const char* what);

// Raises std::invalid_argument naming the argument unless `bytes` from this address lie in one
// allocation that the device can reach.
void check_pointer(const char* name, uintptr_t address, size_t bytes, size_t alignment);

// Raises std::invalid_argument unless this is a stream of the current context.
void check_stream(uintptr_t stream);

// How many devices there are; where there are none, `reason` says why.
int device_count(std::string* reason);

// Work captured from a stream, to be launched as one.
class Graph {
 public:
  // Runs `work` while the stream captures. Raises CudaError when it cannot be captured, and
  // whatever `work` raises; the stream is usable again in either case.
  Graph(uintptr_t stream, const std::function<void()>& work);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(uintptr_t stream) const;
  void close();

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace posgan::device
