// Cutting crops out of a camera frame: bilinear, with a wider filter if the crop is made smaller.
#pragma once

#include "color.h"

namespace posgan {

// Interleaved 8-bit blue, green, red.
struct BgrFrame {
  const uint8_t* data;
  size_t pitch;
  int height, width;

  POSGAN_HD const uint8_t* at(int column, int row) const {
    return data + pitch * row + 3 * static_cast<size_t>(column);
  }
  POSGAN_HD Color fetch(int column, int row) const {
    const uint8_t* p = at(column, row);
    return color(p[0], p[1], p[2]);
  }
  // Not for the frame's last pixel: the byte after it must not be read.
  POSGAN_HD Color fetch_inside(int column, int row) const { return load_color(at(column, row)); }
};

// Factor of luma after its lowest value is subtracted, and factors of chroma for each colour.
struct YuvMatrix {
  float stretch, lowest, red_v, green_u, green_v, blue_u;
};

// NV12: a luma plane, and interleaved chroma at half the resolution.
struct Nv12Frame {
  const uint8_t* luma;
  const uint8_t* chroma;
  size_t luma_pitch, chroma_pitch;
  int height, width;
  YuvMatrix m;

  POSGAN_HD Color fetch(int column, int row) const {
    const uint8_t* uv = chroma + chroma_pitch * (row / 2) + 2 * static_cast<size_t>(column / 2);
    const float y = m.stretch * (luma[luma_pitch * row + column] - m.lowest);
    const float u = uv[0] - 128.0f, v = uv[1] - 128.0f;
    return color(clamp(y + m.blue_u * u), clamp(y - m.green_u * u - m.green_v * v),
                 clamp(y + m.red_v * v));
  }
  POSGAN_HD Color fetch_inside(int column, int row) const { return fetch(column, row); }

  static POSGAN_HD float clamp(float value) {
    return value > 0.0f ? (value < 255.0f ? value : 255.0f) : 0.0f;
  }
};

constexpr float kWidest = 64.0f;  // largest filter radius in frame pixels

// A tent filter over `taps` pixels of one axis, starting at `low`.
struct Tent {
  float offset, inverse;  // distance from the centre to pixel `low`; 1 / reach
  int low, taps;

  static POSGAN_HD Tent make(float centre, float reach, float inverse, int taps) {
    const int low = -whole(reach - centre);
    return {static_cast<float>(low) - centre, inverse, low, taps};
  }
  POSGAN_HD float weight(int i) const {
    const float w = 1.0f - fabsf(offset + static_cast<float>(i)) * inverse;
    return 0.5f * (w + fabsf(w));  // the positive part, exactly, and with no branch to mispredict
  }
  // The largest whole number not above a value.
  static POSGAN_HD int whole(float value) {
    const int i = static_cast<int>(value);
    return i - (static_cast<float>(i) > value ? 1 : 0);
  }
};

// A prepared crop: the frame pixel of each output pixel (row, column), and the filter's radius.
struct CropGrid {
  float a, b, x, c, d, y;
  float reach, inverse;  // NaN if the transform is invalid
  int taps;     // largest number of frame pixels that the filter covers

  static POSGAN_HD CropGrid make(const float* transform, int size) {
    const Similarity s = Similarity::read(transform);
    const float step = 1.0f / static_cast<float>(size);
    CropGrid g{s.a * step, s.b * step, 0.0f, s.c * step, s.d * step, 0.0f, 0.0f, 0.0f, 0};
    // Centres: output pixel j is crop unit (j + 0.5) / size, frame pixel i is coordinate i + 0.5.
    g.x = s.x + 0.5f * (g.a + g.b) - 0.5f;
    g.y = s.y + 0.5f * (g.c + g.d) - 0.5f;
    const float shrink = s.scale * step;
    g.reach = shrink > 1.0f ? (shrink < kWidest ? shrink : kWidest) : 1.0f + 0.0f * s.scale;
    g.inverse = 1.0f / g.reach;
    g.taps = g.reach > 0.0f ? -Tent::whole(-2.0f * g.reach) : 0;
    return g;
  }
};

// frame, transforms (N, 2, 3) -> out (N, 3, size, size), RGB in [0, 1].
template <class Source, class T>
struct CropNormalize {
  Source source;
  const float* transforms;
  T* out;
  int size;
  float border[3];  // blue, green, red

  POSGAN_HD void write(size_t face, int row, int column, Color bgr) const {
    const size_t plane = static_cast<size_t>(size) * size;
    T* p = out + 3 * plane * face + static_cast<size_t>(row) * size + column;
    bgr = (1.0f / 255.0f) * bgr;
    store(p, bgr[2]);
    store(p + plane, bgr[1]);
    store(p + 2 * plane, bgr[0]);
  }

  POSGAN_HD Color pixel(const CropGrid& g, int row, int column) const {
    const float x = g.a * column + g.b * row + g.x, y = g.c * column + g.d * row + g.y;
    if (g.reach == 1.0f && x >= 0.0f && y >= 0.0f && x < source.width - 2 &&
        y < source.height - 2) {
      return bilinear(x, y);
    }
    if (!(g.reach > 0.0f)) {
      return color(not_a_number(), not_a_number(), not_a_number());
    }
    if (!(x > -g.reach && y > -g.reach && x < source.width - 1 + g.reach &&
          y < source.height - 1 + g.reach)) {
      return color(border[0], border[1], border[2]);
    }
    return filtered(Tent::make(x, g.reach, g.inverse, g.taps),
                    Tent::make(y, g.reach, g.inverse, g.taps));
  }

  POSGAN_HD Color bilinear(float x, float y) const {
    const int column = static_cast<int>(x), row = static_cast<int>(y);
    const float fx = x - column, fy = y - row, gx = 1.0f - fx, gy = 1.0f - fy;
    const Color top = gx * source.fetch_inside(column, row) +
                      fx * source.fetch_inside(column + 1, row);
    const Color bottom = gx * source.fetch_inside(column, row + 1) +
                         fx * source.fetch_inside(column + 1, row + 1);
    return gy * top + fy * bottom;
  }

  POSGAN_HD Color filtered(const Tent& across, const Tent& down) const {
    if (across.low >= 0 && down.low >= 0 && across.low + across.taps < source.width &&
        down.low + down.taps < source.height) {
      switch (across.taps) {
        case 2: return inside<2>(across, down);
        case 3: return inside<3>(across, down);
        case 4: return inside<4>(across, down);
        case 5: return inside<5>(across, down);
        case 6: return inside<6>(across, down);
        case 7: return inside<7>(across, down);
        case 8: return inside<8>(across, down);
        default: return inside(across, down);
      }
    }
    Color sum = color(0.0f, 0.0f, 0.0f);
    float total = 0.0f;
    for (int j = 0; j < down.taps; ++j) {
      const int row = down.low + j;
      for (int i = 0; i < across.taps; ++i) {
        const int column = across.low + i;
        const float w = across.weight(i) * down.weight(j);
        const bool held = row >= 0 && column >= 0 && row < source.height && column < source.width;
        sum = sum + w * (held ? source.fetch(column, row) : color(border[0], border[1], border[2]));
        total += w;
      }
    }
    return (1.0f / total) * sum;
  }

  // The filter away from the frame's border.
  POSGAN_HD Color inside(const Tent& across, const Tent& down) const {
    Color sum = color(0.0f, 0.0f, 0.0f);
    float width = 0.0f, height = 0.0f;
    for (int i = 0; i < across.taps; ++i) width += across.weight(i);
    for (int j = 0; j < down.taps; ++j) {
      Color line = color(0.0f, 0.0f, 0.0f);
      for (int i = 0; i < across.taps; ++i) {
        line = line + across.weight(i) * source.fetch_inside(across.low + i, down.low + j);
      }
      const float w = down.weight(j);
      sum = sum + w * line;
      height += w;
    }
    return (1.0f / (width * height)) * sum;
  }

  // The same for the most common filter widths: the horizontal weights stay in registers.
  template <int N>
  POSGAN_HD Color inside(const Tent& across, const Tent& down) const {
    float weights[N], width = 0.0f, height = 0.0f;
    POSGAN_UNROLL
    for (int i = 0; i < N; ++i) width += weights[i] = across.weight(i);
    Color sum = color(0.0f, 0.0f, 0.0f);
    for (int j = 0; j < N; ++j) {
      Color line = color(0.0f, 0.0f, 0.0f);
      POSGAN_UNROLL
      for (int i = 0; i < N; ++i) {
        line = line + weights[i] * source.fetch_inside(across.low + i, down.low + j);
      }
      const float w = down.weight(j);
      sum = sum + w * line;
      height += w;
    }
    return (1.0f / (width * height)) * sum;
  }

  // `transform` is that of the face, or a copy of it.
  POSGAN_HD void operator()(size_t face, int row, int column, const float* transform) const {
    write(face, row, column, pixel(CropGrid::make(transform, size), row, column));
  }
};

}  // namespace posgan
