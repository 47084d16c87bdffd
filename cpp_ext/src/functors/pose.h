// The pose of a face: Huber-weighted fit of the mean face to its points with a similarity.
//
// Rotation by Horn's quaternion method (Horn, "Closed-form solution of absolute orientation using
// unit quaternions", J. Opt. Soc. Am. A 4, 1987). A Team is the threads that share one face.
// rank() and size() assign points to threads, always in the same way. sum() adds values over all
// threads; each gets the result. clear() empties the bins, count() counts values in them, and
// locate() returns to all threads the bin that holds a rank, and the rank within that bin.
#pragma once

#include "common.h"

namespace posgan {

constexpr int kPoseSize = 14;  // scale, rotation (3, 3) row by row, translation, residual
constexpr int kMostPosePoints = 8192;

constexpr int kBins = 256;

struct HostTeam {
  int* bins;  // kBins

  static int rank() { return 0; }
  static int size() { return 1; }
  template <int N>
  static void sum(float (&)[N]) {}
  void clear() const { memset(bins, 0, kBins * sizeof(int)); }
  void count(uint32_t bin) const { ++bins[bin]; }
  uint32_t locate(int* rank) const {
    uint32_t bin = 0;
    for (; bin + 1 < kBins && bins[bin] <= *rank; ++bin) *rank -= bins[bin];
    return bin;
  }
};

// Rotates rows and columns p and q of m so that m[p][q] becomes zero; v accumulates the rotations.
POSGAN_HD void jacobi(float (&m)[4][4], float (&v)[4][4], int p, int q) {
  if (m[p][q] == 0.0f) return;
  const float theta = (m[q][q] - m[p][p]) / (2.0f * m[p][q]);
  const float t = (theta < 0.0f ? -1.0f : 1.0f) / (fabsf(theta) + sqrtf(theta * theta + 1.0f));
  const float c = 1.0f / sqrtf(t * t + 1.0f), s = t * c;
  POSGAN_UNROLL
  for (int k = 0; k < 4; ++k) {
    const float a = m[k][p], b = m[k][q];
    m[k][p] = c * a - s * b;
    m[k][q] = s * a + c * b;
  }
  POSGAN_UNROLL
  for (int k = 0; k < 4; ++k) {
    const float a = m[p][k], b = m[q][k];
    m[p][k] = c * a - s * b;
    m[q][k] = s * a + c * b;
  }
  POSGAN_UNROLL
  for (int k = 0; k < 4; ++k) {
    const float a = v[k][p], b = v[k][q];
    v[k][p] = c * a - s * b;
    v[k][q] = s * a + c * b;
  }
}

// Eigenvector of the largest eigenvalue of a symmetric (4, 4) matrix, by cyclic Jacobi rotations.
POSGAN_HD void largest_eigenvector(float (&m)[4][4], float* out) {
  float v[4][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
  for (int sweep = 0; sweep < 8; ++sweep) {
    float off = 0.0f, on = 0.0f;
    POSGAN_UNROLL
    for (int p = 0; p < 4; ++p) {
      on += m[p][p] * m[p][p];
      POSGAN_UNROLL
      for (int q = p + 1; q < 4; ++q) off += m[p][q] * m[p][q];
    }
    if (!(off > 1e-16f * on)) break;
    POSGAN_UNROLL
    for (int p = 0; p < 3; ++p) {
      POSGAN_UNROLL
      for (int q = p + 1; q < 4; ++q) jacobi(m, v, p, q);
    }
  }
  float best = m[0][0], length = 0.0f;
  for (int k = 0; k < 4; ++k) out[k] = v[k][0];
  POSGAN_UNROLL
  for (int p = 1; p < 4; ++p) {
    const bool larger = m[p][p] > best;
    best = larger ? m[p][p] : best;
    for (int k = 0; k < 4; ++k) out[k] = larger ? v[k][p] : out[k];
  }
  for (int k = 0; k < 4; ++k) length += out[k] * out[k];
  length = sqrtf(length);
  for (int k = 0; k < 4; ++k) out[k] /= length;
}

struct Fit {
  float scale, r[3][3], t[3];

  POSGAN_HD float residual(const float* mean, const float* point, const float* origin) const {
    float square = 0.0f;
    for (int i = 0; i < 3; ++i) {
      const float turned = r[i][0] * mean[0] + r[i][1] * mean[1] + r[i][2] * mean[2];
      const float d = scale * turned + t[i] - (point[i] - origin[i]);
      square += d * d;
    }
    return sqrtf(square);
  }
};

// points (N, stride, 3) of which the first `count` are fitted, mean (count, 3) -> out (N, 14):
// points ~ scale * R @ mean + t, and the root-mean-square distance of the fit divided by scale.
// `residuals` is memory of this team for `count` floats.
template <class Team>
struct FitPose {
  const float* points;
  const float* mean;
  float* out;
  int count;
  size_t stride;
  int iterations;

  POSGAN_HD void operator()(const Team& team, size_t face, float* residuals) const {
    const float* target = points + 3 * stride * face;
    const float origin[3] = {target[0], target[1], target[2]};
    Fit fit;
    float limit = -1.0f;
    for (int iteration = 0; iteration < iterations; ++iteration) {
      fit = solve(team, target, origin, residuals, limit);
      if (iteration + 1 == iterations) break;
      for (int i = team.rank(); i < count; i += team.size())
        residuals[i] = fit.residual(mean + 3 * i, target + 3 * i, origin);
      limit = fmaxf(1.5f * select(team, residuals, count / 2), 1e-9f * fit.scale);
    }
    float squares[1] = {0.0f};
    for (int i = team.rank(); i < count; i += team.size()) {
      const float r = fit.residual(mean + 3 * i, target + 3 * i, origin);
      squares[0] += r * r;
    }
    team.sum(squares);
    const float residual = sqrtf(squares[0] / static_cast<float>(count)) / fit.scale;
    if (team.rank() == 0) write(fit, origin, residual, out + kPoseSize * face);
  }

  static POSGAN_HD void write(const Fit& fit, const float* origin, float residual, float* p) {
    float check = fit.scale;
    for (int i = 0; i < 3; ++i) {
      check += fit.t[i];
      for (int j = 0; j < 3; ++j) check += fit.r[i][j];
    }
    // Without a scale above zero, or with NaN in any part, there is no pose.
    const float bad = fit.scale > 0.0f && check - check == 0.0f ? 0.0f : not_a_number();
    p[0] = fit.scale + bad;
    for (int i = 0; i < 9; ++i) p[1 + i] = fit.r[i / 3][i % 3] + bad;
    for (int i = 0; i < 3; ++i) p[10 + i] = fit.t[i] + origin[i] + bad;
    p[13] = residual + bad;
  }

  // The Huber weight is 1 up to the limit; a limit below zero means no limit.
  static POSGAN_HD float weight(float residual, float limit) {
    return limit < 0.0f || residual <= limit ? 1.0f : limit / residual;
  }

  POSGAN_HD Fit solve(const Team& team, const float* target, const float* origin,
                      const float* residuals, float limit) const {
    float first[7] = {0, 0, 0, 0, 0, 0, 0};  // weight, sums of the mean face and of the points
    for (int i = team.rank(); i < count; i += team.size()) {
      const float w = limit < 0.0f ? 1.0f : weight(residuals[i], limit);
      first[0] += w;
      for (int k = 0; k < 3; ++k) {
        first[1 + k] += w * mean[3 * i + k];
        first[4 + k] += w * (target[3 * i + k] - origin[k]);
      }
    }
    team.sum(first);
    float ms[3], mt[3];
    for (int k = 0; k < 3; ++k) {
      ms[k] = first[1 + k] / first[0];
      mt[k] = first[4 + k] / first[0];
    }
    float second[10] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};  // covariance, spread of the mean face
    for (int i = team.rank(); i < count; i += team.size()) {
      const float w = limit < 0.0f ? 1.0f : weight(residuals[i], limit);
      for (int a = 0; a < 3; ++a) {
        const float t = target[3 * i + a] - origin[a] - mt[a];
        const float s = mean[3 * i + a] - ms[a];
        second[9] += w * s * s;
        for (int b = 0; b < 3; ++b) second[3 * a + b] += w * t * (mean[3 * i + b] - ms[b]);
      }
    }
    team.sum(second);
    Fit fit;
    turn(second, fit.r);
    float dot = 0.0f;
    for (int k = 0; k < 9; ++k) dot += fit.r[k / 3][k % 3] * second[k];
    fit.scale = dot / second[9];
    for (int a = 0; a < 3; ++a) {
      const float* r = fit.r[a];
      fit.t[a] = mt[a] - fit.scale * (r[0] * ms[0] + r[1] * ms[1] + r[2] * ms[2]);
    }
    return fit;
  }

  // The rotation r with the largest sum over a, b of r[a][b] c[3 a + b].
  static POSGAN_HD void turn(const float* c, float (&r)[3][3]) {
    float m[4][4] = {{c[0] + c[4] + c[8], c[7] - c[5], c[2] - c[6], c[3] - c[1]},
                     {0, c[0] - c[4] - c[8], c[1] + c[3], c[6] + c[2]},
                     {0, 0, c[4] - c[0] - c[8], c[5] + c[7]},
                     {0, 0, 0, c[8] - c[0] - c[4]}};
    for (int p = 0; p < 4; ++p)
      for (int q = 0; q < p; ++q) m[p][q] = m[q][p];
    float q[4];
    largest_eigenvector(m, q);
    const float w = q[0], x = q[1], y = q[2], z = q[3];
    r[0][0] = w * w + x * x - y * y - z * z;
    r[0][1] = 2.0f * (x * y - w * z);
    r[0][2] = 2.0f * (x * z + w * y);
    r[1][0] = 2.0f * (x * y + w * z);
    r[1][1] = w * w - x * x + y * y - z * z;
    r[1][2] = 2.0f * (y * z - w * x);
    r[2][0] = 2.0f * (x * z - w * y);
    r[2][1] = 2.0f * (y * z + w * x);
    r[2][2] = w * w - x * x - y * y + z * z;
  }

  // The value of this rank among non-negative values, found byte by byte from the highest: such
  // floats have the same order as their bits.
  POSGAN_HD float select(const Team& team, const float* values, int rank) const {
    uint32_t found = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      team.clear();
      for (int i = team.rank(); i < count; i += team.size()) {
        const uint32_t bin = (as_bits(values[i]) ^ found) >> shift;
        if (bin < kBins) team.count(bin);  // the higher bytes agree with those found
      }
      found |= team.locate(&rank) << shift;
    }
    return as_float(found);
  }
};

}  // namespace posgan
