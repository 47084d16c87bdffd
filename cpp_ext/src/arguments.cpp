#include "arguments.h"

#include <cmath>

namespace posgan {

namespace {

std::string text(const Array& a) {
  std::string out = "(";
  for (size_t i = 0; i < a.ndim(); ++i) out += (i ? ", " : "") + std::to_string(a.shape(i));
  return out + (a.ndim() == 1 ? ",)" : ")");
}

std::string text(std::initializer_list<int64_t> shape) {
  std::string out = "(";
  for (const int64_t n : shape) {
    out += (out.size() > 1 ? ", " : "") + (n == kAny ? std::string("any") : std::to_string(n));
  }
  return out + ")";
}

std::string text(nb::dlpack::dtype type) {
  const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
  const char* kind = code == nb::dlpack::dtype_code::Float ? "float"
                     : code == nb::dlpack::dtype_code::UInt ? "uint"
                     : code == nb::dlpack::dtype_code::Int  ? "int"
                                                            : "other ";
  return kind + std::to_string(type.bits);
}

}  // namespace

void refuse(const char* name, const std::string& why) {
  throw nb::value_error((std::string(name) + ": " + why).c_str());
}

Array array(const char* name, nb::handle value, std::initializer_list<nb::dlpack::dtype> types,
            std::initializer_list<int64_t> shape, bool rows) {
  Array found;
  if (!nb::try_cast<Array>(value, found, false) || !found.is_valid()) {
    throw nb::type_error((std::string(name) + ": give an array in host memory").c_str());
  }
  bool known = false;
  std::string wanted;
  for (const auto& type : types) {
    known = known || found.dtype() == type;
    wanted += (wanted.empty() ? "" : " or ") + text(type);
  }
  if (!known) {
    throw nb::type_error(
        (std::string(name) + ": is " + text(found.dtype()) + ", give " + wanted).c_str());
  }
  bool fits = found.ndim() == shape.size();
  size_t axis = 0;
  for (const int64_t n : shape) {
    fits = fits && (n == kAny || found.shape(axis) == static_cast<size_t>(n));
    ++axis;
  }
  if (!fits) refuse(name, "has shape " + text(found) + ", give " + text(shape));
  if (found.size() == 0) return found;  // strides of an empty array have no meaning
  int64_t expected = 1;
  for (size_t i = found.ndim(); i-- > (rows ? 1u : 0u);) {
    if (found.shape(i) > 1 && found.stride(i) != expected) {
      refuse(name, rows ? "must have contiguous rows" : "must be C-contiguous");
    }
    expected *= static_cast<int64_t>(found.shape(i));
  }
  if (rows && found.shape(0) > 1 && found.stride(0) < expected) {
    refuse(name, "has rows that overlap or run backwards");
  }
  return found;
}

int64_t bounded(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    refuse(name, "is " + std::to_string(value) + ", give " + std::to_string(low) + " to " +
                     std::to_string(high));
  }
  return value;
}

void check_transforms(const Array& transforms) {
  const auto* m = static_cast<const float*>(transforms.data());
  for (size_t i = 0; i < transforms.shape(0); ++i, m += 6) {
    if (std::isnan(Similarity::read(m).scale)) {
      refuse("transforms", "the one at " + std::to_string(i) + " has zero scale or is not finite");
    }
  }
}

bool is_half(const char* name, const std::string& type) {
  if (type != "float32" && type != "float16") {
    refuse(name, "is '" + type + "', give 'float32' or 'float16'");
  }
  return type == "float16";
}

bool is_bt709(const std::string& matrix) {
  if (matrix != "bt601" && matrix != "bt709") {
    refuse("matrix", "is '" + matrix + "', give 'bt601' or 'bt709'");
  }
  return matrix == "bt709";
}

void set_border(CropBatch& batch, const std::array<float, 3>& bgr) {
  for (int k = 0; k < 3; ++k) {
    if (!(bgr[k] >= 0.0f && bgr[k] <= 255.0f)) refuse("border", "give three values from 0 to 255");
    batch.border[k] = bgr[k];
  }
}

}  // namespace posgan
