// Three colour channels as one value: a compiler's vector type on the host if it has one.
#pragma once

#include "common.h"

namespace posgan {

#if !defined(__CUDACC__) && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12))
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define POSGAN_VECTORS
#endif
#endif

#if defined(POSGAN_VECTORS)

typedef float Color __attribute__((vector_size(16)));

inline Color color(float a, float b, float c) { return Color{a, b, c, 0.0f}; }

// Reads a fourth byte; the caller makes sure that it exists.
inline Color load_color(const uint8_t* p) {
  typedef uint8_t Bytes __attribute__((vector_size(16)));
  typedef uint16_t Shorts __attribute__((vector_size(16)));
  typedef int32_t Words __attribute__((vector_size(16)));
  // Widening by interleaving zeros: compilers turn each step into one instruction.
  int32_t four;
  memcpy(&four, p, sizeof four);
  const Words word{four, 0, 0, 0};
  const Bytes bytes = (Bytes)word;
  const Shorts shorts = (Shorts)__builtin_shufflevector(bytes, Bytes{}, 0, 16, 1, 17, 2, 18, 3, 19,
                                                        4, 20, 5, 21, 6, 22, 7, 23);
  const Words words =
      (Words)__builtin_shufflevector(shorts, Shorts{}, 0, 8, 1, 9, 2, 10, 3, 11);
  return __builtin_convertvector(words, Color);
}

#else

struct Color {
  float v[3];
  POSGAN_HD float operator[](int i) const { return v[i]; }
};

POSGAN_HD Color operator+(Color a, Color b) {
  return {{a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2]}};
}
POSGAN_HD Color operator*(float w, Color a) { return {{w * a.v[0], w * a.v[1], w * a.v[2]}}; }

POSGAN_HD Color color(float a, float b, float c) { return {{a, b, c}}; }

POSGAN_HD Color load_color(const uint8_t* p) {
  return {{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2])}};
}

#endif

}  // namespace posgan
