// From Python arguments to checked batches; every refusal names the argument.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <initializer_list>
#include <string>

#include "operations.h"

namespace posgan {

namespace nb = nanobind;
using Array = nb::ndarray<nb::ro, nb::device::cpu>;

constexpr int64_t kAny = -1;
constexpr size_t kMostFaces = 65535;  // a grid's second and third dimension

[[noreturn]] void refuse(const char* name, const std::string& why);

// An array of this type and shape (kAny: any length), C-contiguous unless `rows` says that only
// the rows must be. Raises TypeError for what is no array or has another dtype, ValueError for
// another shape or layout.
Array array(const char* name, nb::handle value, std::initializer_list<nb::dlpack::dtype> types,
            std::initializer_list<int64_t> shape, bool rows = false);

// A whole number of these bounds, for sizes and counts. Raises ValueError.
int64_t bounded(const char* name, int64_t value, int64_t low, int64_t high);

// Transforms (N, 2, 3) on the host: finite, of a scale above zero. Raises ValueError.
void check_transforms(const Array& transforms);

// "float32" or "float16" -> whether it is half. Raises ValueError.
bool is_half(const char* name, const std::string& type);

// "bt601" or "bt709" -> whether it is the second. Raises ValueError.
bool is_bt709(const std::string& matrix);

// Three values 0..255, B, G, R, into the batch. Raises ValueError.
void set_border(CropBatch& batch, const std::array<float, 3>& bgr);

}  // namespace posgan
