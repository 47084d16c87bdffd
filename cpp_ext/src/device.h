// CUDA errors as exceptions, checks of pointers and streams, and captured graphs.
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

// Returns the number of devices. If it is 0, `reason` is set.
int device_count(std::string* reason);

// A CUDA graph: work that was captured from a stream.
class Graph {
 public:
  // Runs `work` while the stream captures. Raises CudaError if it cannot be captured, and any error
  // that `work` raises; the stream stays usable.
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
