// Checks Python arguments and makes batches of them. Every error names the argument.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <initializer_list>
#include <memory>
#include <string>

#include "operations.h"

namespace posgan {

namespace nb = nanobind;
using Array = nb::ndarray<nb::ro, nb::device::cpu>;

const nb::dlpack::dtype kFloat = nb::dtype<float>(), kDouble = nb::dtype<double>();
const nb::dlpack::dtype kByte = nb::dtype<uint8_t>(), kInt = nb::dtype<int32_t>();
const nb::dlpack::dtype kHalf{static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
constexpr int64_t kAny = -1;
constexpr size_t kMostFaces = 65535;  // a grid's second and third dimension
constexpr size_t kMostValues = size_t{1} << 30;  // of one result: 4 GiB of float

[[noreturn]] void refuse(const char* name, const std::string& why);

// Returns an array of this type and shape (kAny: any length). It must be C-contiguous; with `rows`,
// only its rows must be. Raises TypeError if it is not an array or has another dtype, and
// ValueError for another shape or memory layout.
Array array(const char* name, nb::handle value, std::initializer_list<nb::dlpack::dtype> types,
            std::initializer_list<int64_t> shape, bool rows = false);

// Returns a size or count within these bounds. Raises ValueError.
int64_t bounded(const char* name, int64_t value, int64_t low, int64_t high);

// Returns transforms (N, 2, 3) on the host: finite, with a scale above zero. Raises ValueError.
void check_transforms(const Array& transforms);

// Returns whether the type is "float16" and not "float32". Raises ValueError for others.
bool is_half(const char* name, const std::string& type);

// Returns whether the matrix is "bt709" and not "bt601". Raises ValueError for others.
bool is_bt709(const std::string& matrix);

// Copies three values from 0 to 255 (B, G, R) into the batch. Raises ValueError.
void set_border(CropBatch& batch, const std::array<float, 3>& bgr);

// A new NumPy array and a pointer to its values.
template <class T>
nb::object created(std::initializer_list<size_t> shape, nb::dlpack::dtype type, T** data) {
  size_t count = 1;
  for (const size_t n : shape) count *= n;
  auto owner = std::make_unique<T[]>(count ? count : 1);
  *data = owner.get();
  nb::capsule capsule(owner.release(), [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::cast(nb::ndarray<nb::numpy>(*data, shape, capsule, {}, type));
}

}  // namespace posgan
