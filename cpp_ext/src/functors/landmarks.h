// Reading points off a position map, by bilinear sampling, and carrying them into the frame.
#pragma once

#include "common.h"

namespace posgan {

struct Tap {
  int offset, right, down;  // flat index of the upper left pixel and the steps to its neighbours
  float fu, fv;
};

// The pixel whose centre lies at or before coordinate u in [0, 1] over `size` pixels, and how far
// past it u is. Pixel i has its centre at (i + 0.5) / size; past the outermost centres the edge is
// held. The product is split into its rounded value and the rest, so that the fraction is good to
// the last bits at any size.
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
  POSGAN_HD float along_u(const Tap& t) const {
    return (v01 - v00) * (1.0f - t.fv) + (v11 - v10) * t.fv;
  }
  POSGAN_HD float along_v(const Tap& t) const {
    return (v10 - v00) * (1.0f - t.fu) + (v11 - v01) * t.fu;
  }
};

// maps (N, 3, H, W), uv (P, 2), transforms (N, 2, 3) -> points (N, P, 3), facing (N, P) or null.
template <class T>
struct ExtractLandmarks {
  const T* maps;
  const float* uv;
  const float* transforms;
  float* points;
  float* facing;
  int height, width;
  size_t count;

  POSGAN_HD Corners corners(const T* plane, const Tap& t) const {
    const T* p = plane + t.offset;
    return {load(p), load(p + t.right), load(p + t.down), load(p + t.down + t.right)};
  }

  POSGAN_HD void operator()(size_t face, size_t point) const {
    const Similarity to_frame = Similarity::read(transforms + 6 * face);
    const Tap t = tap(uv[2 * point], uv[2 * point + 1], height, width);
    const size_t plane = static_cast<size_t>(height) * width;
    const T* map = maps + 3 * plane * face;
    const Corners x = corners(map, t), y = corners(map + plane, t), z = corners(map + 2 * plane, t);
    const float px = x.value(t), py = y.value(t), pz = z.value(t);
    const size_t index = face * count + point;
    float* out = points + 3 * index;
    // Adding 0 * scale turns a transform that is no use into NaN in every coordinate.
    const float bad = 0.0f * to_frame.scale;
    out[0] = (to_frame.a * px + to_frame.b * py) + to_frame.x + bad;
    out[1] = (to_frame.c * px + to_frame.d * py) + to_frame.y + bad;
    out[2] = pz * to_frame.scale;
    if (facing != nullptr) {
      const float ux = x.along_u(t), uy = y.along_u(t), uz = z.along_u(t);
      const float vx = x.along_v(t), vy = y.along_v(t), vz = z.along_v(t);
      const float nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
      const float length = sqrtf(nx * nx + ny * ny + nz * nz);
      facing[index] = (length > 0.0f ? nz / length : length) + bad;
    }
  }
};

}  // namespace posgan
