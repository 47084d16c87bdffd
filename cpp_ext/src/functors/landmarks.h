// Bilinear reading of points of a position map, and their transform to frame pixels.
#pragma once

#include "common.h"

namespace posgan {

struct Tap {
  int offset, right, down;  // flat index of the upper left pixel and the steps to its neighbours
  float fu, fv;
};

// Finds the last pixel whose centre is at or before the coordinate u in [0, 1], of `size` pixels,
// and the distance of u from that centre. Pixel i has its centre at (i + 0.5) / size; outside the
// outermost centres the edge value is used. The product is split into its rounded value and the
// remainder, so that the fraction is exact at any size.
POSGAN_HD int split(float u, int size, float* fraction) {
  const float count = static_cast<float>(size);
  const float high = u * count, low = fmaf(u, count, -high);
  const float position = high - 0.5f;
  const float last = count - 1.0f;
  const float held = fminf(fmaxf(position, 0.0f), last);
  const int limit = size >= 2 ? size - 2 : 0;
  int index = static_cast<int>(held);
  index = index < limit ? index : limit;
  const float part = (position - static_cast<float>(index)) + low;
  *fraction = part <= 0.0f ? 0.0f : part >= 1.0f ? 1.0f : part;  // NaN stays
  if (size < 2 && part == part) *fraction = 0.0f;
  return index;
}

POSGAN_HD Tap tap(float u, float v, int height, int width) {
  Tap t;
  const int column = split(u, width, &t.fu), row = split(v, height, &t.fv);
  t.offset = row * width + column;
  t.right = width > 1 ? 1 : 0;
  t.down = height > 1 ? width : 0;
  return t;
}

struct Corners {
  float v00, v01, v10, v11;

  POSGAN_HD float value(const Tap& t) const {
    const float gu = 1.0f - t.fu, gv = 1.0f - t.fv;
    return v00 * (gv * gu) + v01 * (gv * t.fu) + v10 * (t.fv * gu) + v11 * (t.fv * t.fu);
  }
};

struct Point {
  float x, y, z;

  POSGAN_HD Point operator-(const Point& o) const { return {x - o.x, y - o.y, z - o.z}; }
};

// Step of the differences for a surface normal, in widths of the map: large enough to skip the
// folds of lids and lips.
constexpr float kFacingStep = 1.0f / 32.0f;

// maps (N, 3, H, W), uv (P + R, 2), transforms (N, 2, 3) -> points (N, P, 3), facing (N, P) or null,
// and rest (N, R, 3).
template <class T>
struct ExtractLandmarks {
  const T* maps;
  const float* uv;
  const float* transforms;
  float* points;
  float* facing;
  float* rest;
  int height, width;
  size_t count, rest_count;  // P and R

  POSGAN_HD float read(const T* plane, const Tap& t) const {
    const T* p = plane + t.offset;
    const Corners c{load(p), load(p + t.right), load(p + t.down), load(p + t.down + t.right)};
    return c.value(t);
  }

  POSGAN_HD Point read(const T* map, float u, float v) const {
    const Tap t = tap(u, v, height, width);
    const size_t plane = static_cast<size_t>(height) * width;
    return {read(map, t), read(map + plane, t), read(map + 2 * plane, t)};
  }

  // Differences of the surface over one step to either side, limited to the map.
  POSGAN_HD Point along(const T* map, float u, float v, float du, float dv) const {
    return read(map, held(u + du), held(v + dv)) - read(map, held(u - du), held(v - dv));
  }
  static POSGAN_HD float held(float value) { return fminf(fmaxf(value, 0.0f), 1.0f); }

  // `transform` is that of the face, or a copy of it.
  POSGAN_HD void operator()(size_t face, size_t point, const float* transform) const {
    const Similarity to_frame = Similarity::read(transform);
    const T* map = maps + 3 * static_cast<size_t>(height) * width * face;
    const float u = uv[2 * point], v = uv[2 * point + 1];
    const Point p = read(map, u, v);
    const size_t index = face * count + point;
    float* out = point < count ? points + 3 * index
                               : rest + 3 * (face * rest_count + (point - count));
    // Adding 0 * scale makes every coordinate NaN if the transform is invalid.
    const float bad = 0.0f * to_frame.scale;
    out[0] = (to_frame.a * p.x + to_frame.b * p.y) + to_frame.x + bad;
    out[1] = (to_frame.c * p.x + to_frame.d * p.y) + to_frame.y + bad;
    out[2] = p.z * to_frame.scale;
    if (facing != nullptr && point < count) {
      const Point a = along(map, u, v, kFacingStep, 0.0f), b = along(map, u, v, 0.0f, kFacingStep);
      const float x = a.y * b.z - a.z * b.y, y = a.z * b.x - a.x * b.z, z = a.x * b.y - a.y * b.x;
      const float length = sqrtf(x * x + y * y + z * z);
      facing[index] = (length > 0.0f ? z / length : length) + bad;
    }
  }
};

}  // namespace posgan
