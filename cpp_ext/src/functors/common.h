// Shared by host and device: macros, half precision, and the crop transform.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#define POSGAN_HD __host__ __device__ __forceinline__
#define POSGAN_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define POSGAN_HD inline __attribute__((always_inline))
#define POSGAN_UNROLL _Pragma("GCC unroll 8")
#else
#define POSGAN_HD inline
#define POSGAN_UNROLL
#endif

namespace posgan {

struct Half {
  uint16_t bits;
};

POSGAN_HD float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

POSGAN_HD uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

POSGAN_HD float not_a_number() { return as_float(0x7fc00000u); }

POSGAN_HD float load(const float* p) { return *p; }

POSGAN_HD float load(const Half* p) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(p->bits));
#else
  const uint32_t sign = static_cast<uint32_t>(p->bits & 0x8000u) << 16;
  const uint32_t rest = p->bits & 0x7fffu;
  if (rest >= 0x7c00u) return as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // Multiplying by 2^112 corrects the exponent's bias, and is exact for subnormals too.
  return as_float(sign | as_bits(as_float(rest << 13) * as_float(0x77800000u)));
#endif
}

POSGAN_HD void store(float* p, float value) { *p = value; }

POSGAN_HD void store(Half* p, float value) {
#if defined(__CUDA_ARCH__)
  p->bits = __half_as_ushort(__float2half_rn(value));
#else
  const uint32_t bits = as_bits(value), sign = (bits >> 16) & 0x8000u;
  const uint32_t rest = bits & 0x7fffffffu;
  uint32_t half;
  if (rest >= 0x7f800000u) {
    half = rest > 0x7f800000u ? 0x7e00u : 0x7c00u;
  } else if (rest < 0x38800000u) {
    // Subnormal: adding one half aligns the bits, and the addition rounds to nearest even.
    half = as_bits(as_float(rest) + 0.5f) - 0x3f000000u;
  } else {
    const uint32_t rounded = rest + 0xfffu + ((rest >> 13) & 1u);
    half = rounded >= 0x47800000u ? 0x7c00u : (rounded - 0x38000000u) >> 13;
  }
  p->bits = static_cast<uint16_t>(sign | half);
#endif
}

// A crop's similarity, (2, 3) row by row: crop units to frame pixels.
struct Similarity {
  float a, b, x, c, d, y;
  float scale;  // length of the first column: the crop's side in pixels; NaN if invalid

  static POSGAN_HD Similarity read(const float* m) {
    Similarity s{m[0], m[1], m[2], m[3], m[4], m[5], 0.0f};
    s.scale = sqrtf(s.a * s.a + s.c * s.c);
    // The sum is finite only if every part is, so that no overflow goes unnoticed.
    const float sum = fabsf(s.a) + fabsf(s.b) + fabsf(s.x) + fabsf(s.c) + fabsf(s.d) + fabsf(s.y);
    if (!(s.scale > 0.0f) || !(sum < 1e18f)) s.scale = not_a_number();
    return s;
  }
};

}  // namespace posgan
