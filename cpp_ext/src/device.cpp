#include "device.h"

#include <cerrno>

#if defined(__linux__)
#include <sys/uio.h>
#include <unistd.h>
#endif

namespace posgan::device {

namespace {

// cuMemGetAddressRange is looked up in the driver at run time. The module does not link to the
// driver, so that it loads on a machine without one.
using AddressRange = int (*)(unsigned long long* base, size_t* size, unsigned long long address);

AddressRange address_range() {
  static const AddressRange found = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 13000
    const cudaError_t status = cudaGetDriverEntryPointByVersion(
        "cuMemGetAddressRange", &entry, 12000, cudaEnableDefault, &result);
#else
    const cudaError_t status =
        cudaGetDriverEntryPoint("cuMemGetAddressRange", &entry, cudaEnableDefault, &result);
#endif
    return status == cudaSuccess ? reinterpret_cast<AddressRange>(entry) : nullptr;
  }();
  return found;
}

// The driver uses a stream handle as a pointer, so an invalid one would crash the process.
bool readable(uintptr_t address) {
#if defined(__linux__)
  char byte;
  iovec here{&byte, 1}, there{reinterpret_cast<void*>(address), 1};
  return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1 || errno == ENOSYS ||
         errno == EPERM;
#else
  return address != 0;
#endif
}

[[noreturn]] void refuse(const char* name, const std::string& why) {
  throw std::invalid_argument(std::string(name) + ": " + why);
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears the error, so that the next call does not report it
  throw CudaError(std::string(what) + ": " + cudaGetErrorString(status) + " (" +
                  cudaGetErrorName(status) + ")");
}

void check_pointer(const char* name, uintptr_t address, size_t bytes, size_t alignment) {
  if (address == 0) refuse(name, "is a null pointer");
  if (address % alignment) {
    refuse(name, "must be aligned to " + std::to_string(alignment) + " bytes");
  }
  cudaPointerAttributes attributes;
  check(cudaPointerGetAttributes(&attributes, reinterpret_cast<const void*>(address)), name);
  if (attributes.type == cudaMemoryTypeUnregistered || attributes.devicePointer == nullptr) {
    refuse(name, "is not memory that the device can reach");
  }
  // Host memory has no range. A segment that is mapped in pieces, such as PyTorch's expandable
  // segments, has a range for each piece: adjoining ranges are followed.
  const AddressRange range = address_range();
  unsigned long long base = 0, end = address;
  size_t size = 0;
  if (range == nullptr || range(&base, &size, address) != 0) return;
  do {
    end = base + size;
  } while (end - address < bytes && range(&base, &size, end) == 0 && base == end && size > 0);
  if (end - address < bytes) {
    refuse(name, "needs " + std::to_string(bytes) + " bytes, its allocation has " +
                     std::to_string(end - address) + " from there");
  }
}

void check_stream(uintptr_t stream) {
  // 0, 1 and 2 stand for the default streams.
  if (stream > 2 && (stream % 8 != 0 || !readable(stream))) {
    refuse("stream", "is not a stream handle");
  }
  cudaStreamCaptureStatus status;
  const cudaError_t result =
      cudaStreamIsCapturing(reinterpret_cast<cudaStream_t>(stream), &status);
  if (result == cudaErrorInvalidResourceHandle || result == cudaErrorInvalidValue ||
      result == cudaErrorContextIsDestroyed) {
    cudaGetLastError();
    refuse("stream", "does not exist in this context");
  }
  check(result, "stream");
}

int device_count(std::string* reason) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    *reason = cudaGetErrorString(status);
    return 0;
  }
  if (count == 0) *reason = "no CUDA device";
  return count;
}

Graph::Graph(uintptr_t stream, const std::function<void()>& work) {
  const auto queue = reinterpret_cast<cudaStream_t>(stream);
  check_stream(stream);
  check(cudaStreamBeginCapture(queue, cudaStreamCaptureModeThreadLocal), "capture");
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(queue, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(queue, &graph), "capture");
  const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "capture");
}

Graph::~Graph() { close(); }

void Graph::launch(uintptr_t stream) const {
  if (executable_ == nullptr) throw std::invalid_argument("graph: is closed");
  check_stream(stream);
  check(cudaGraphLaunch(executable_, reinterpret_cast<cudaStream_t>(stream)), "graph");
}

void Graph::close() {
  if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
  executable_ = nullptr;
}

}  // namespace posgan::device
