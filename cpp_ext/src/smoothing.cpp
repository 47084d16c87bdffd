#include "smoothing.h"

#include <algorithm>
#include <cmath>

namespace posgan {

namespace {

constexpr double kPi = 3.14159265358979323846;

double blend(double cutoff, double seconds) {
  const double turned = 2 * kPi * cutoff * seconds;
  return turned / (1 + turned);
}

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix out{};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      for (int k = 0; k < 3; ++k) out[3 * i + j] += a[3 * i + k] * b[3 * k + j];
  return out;
}

Matrix transposed(const Matrix& m) {
  return {m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]};
}

// The quaternion (w, x, y, z), w >= 0, of a rotation (Shepperd, 1978).
std::array<double, 4> quaternion(const Matrix& r) {
  const std::array<double, 4> squares{r[0] + r[4] + r[8], r[0], r[4], r[8]};
  const auto largest = std::max_element(squares.begin(), squares.end()) - squares.begin();
  const double trace = squares[0];
  std::array<double, 4> q;
  switch (largest) {
    case 0:
      q = {1 + trace, r[7] - r[5], r[2] - r[6], r[3] - r[1]};
      break;
    case 1:
      q = {r[7] - r[5], 1 + 2 * r[0] - trace, r[1] + r[3], r[2] + r[6]};
      break;
    case 2:
      q = {r[2] - r[6], r[1] + r[3], 1 + 2 * r[4] - trace, r[5] + r[7]};
      break;
    default:
      q = {r[3] - r[1], r[2] + r[6], r[5] + r[7], 1 + 2 * r[8] - trace};
  }
  const double norm = std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
  const double sign = q[0] < 0 ? -1 : 1;
  for (double& part : q) part *= sign / norm;
  return q;
}

// The rotation vector of a rotation: its axis times its angle.
Vector rotation_vector(const Matrix& rotation) {
  const auto q = quaternion(rotation);
  const double sine = std::sqrt(q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
  const double scale = sine > 1e-12 ? 2 * std::atan2(sine, q[0]) / sine : 2;
  return {scale * q[1], scale * q[2], scale * q[3]};
}

// The rotation of a rotation vector (Rodrigues).
Matrix rotation_of(const Vector& v) {
  const double angle = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
  const double s = angle > 1e-12 ? std::sin(angle) / angle : 1;
  const double half = angle > 1e-12 ? std::sin(angle / 2) / angle : 0.5;
  const double c = 2 * half * half;
  const double squared = angle * angle;
  Matrix out{};
  const Matrix cross{0, -v[2], v[1], v[2], 0, -v[0], -v[1], v[0], 0};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      const double same = i == j ? 1.0 : 0.0;
      out[3 * i + j] = same + s * cross[3 * i + j] + c * (v[i] * v[j] - same * squared);
    }
  return out;
}

// A map's crop units (y down) to the shape's axes: (3, 3) and (3,).
void map_to_shape(const double* crop, double side, const Placement& pose, Matrix& turn,
                  Vector& shift) {
  const Matrix to_frame{crop[0], crop[1], 0, -crop[3], -crop[4], 0, 0, 0, side};
  Matrix back = transposed(pose.rotation);
  for (double& value : back) value /= pose.scale;
  turn = product(back, to_frame);
  const Vector at{crop[2] - pose.translation[0], -crop[5] - pose.translation[1],
                  -pose.translation[2]};
  for (int i = 0; i < 3; ++i)
    shift[i] = back[3 * i] * at[0] + back[3 * i + 1] * at[1] + back[3 * i + 2] * at[2];
}

Matrix inverse(const Matrix& m) {
  const auto minor = [&](int a, int b, int c, int d) { return m[a] * m[d] - m[b] * m[c]; };
  const Matrix adjugate{minor(4, 5, 7, 8), minor(2, 1, 8, 7), minor(1, 2, 4, 5),
                        minor(5, 3, 8, 6), minor(0, 2, 6, 8), minor(2, 0, 5, 3),
                        minor(3, 4, 6, 7), minor(1, 0, 7, 6), minor(0, 1, 3, 4)};
  const double size = m[0] * adjugate[0] + m[1] * adjugate[3] + m[2] * adjugate[6];
  Matrix out;
  for (int i = 0; i < 9; ++i) out[i] = adjugate[i] / size;
  return out;
}

}  // namespace

double OneEuro::share(const double* change, double seconds) {
  const double part = blend(cutoffs_.derivative, seconds);
  double sum = 0;
  for (size_t i = 0; i < speed_.size(); ++i) {
    speed_[i] += part * (change[i] / seconds - speed_[i]);
    sum += speed_[i] * speed_[i];
  }
  const double speed = std::sqrt(sum / static_cast<double>(speed_.size()));
  return blend(cutoffs_.at_rest + cutoffs_.per_speed * speed, seconds);
}

double OneEuro::operator()(const double* values, double seconds, double unit) {
  const size_t count = speed_.size();
  if (value_.empty()) {
    value_.assign(values, values + count);
    change_.resize(count);
    return 1;
  }
  for (size_t i = 0; i < count; ++i) change_[i] = (values[i] - value_[i]) / unit;
  const double followed = share(change_.data(), seconds);
  for (size_t i = 0; i < count; ++i) value_[i] += followed * (values[i] - value_[i]);
  return followed;
}

FaceFilter::FaceFilter(const std::vector<Cutoffs>& cutoffs, std::vector<Part> parts, size_t points)
    : points_(points),
      parts_(std::move(parts)),
      position_(cutoffs[0], 3),
      size_(cutoffs[1], 1),
      rotation_(cutoffs[2], 3),
      shape_(cutoffs[3], 3 * points),
      upright_(3 * points),
      more_(parts_.size()) {
  for (size_t part = 0; part < parts_.size(); ++part) gaps_.emplace_back(cutoffs[4 + part], 1);
}

void FaceFilter::turn(Matrix& rotation, double seconds) {
  if (!started_) {
    turned_ = rotation;
    return;
  }
  Vector vector = rotation_vector(product(transposed(turned_), rotation));
  Vector degrees;
  for (int i = 0; i < 3; ++i) degrees[i] = vector[i] * (180 / kPi) * std::sqrt(3.0);
  const double share = rotation_.share(degrees.data(), seconds);
  for (double& value : vector) value *= share;
  turned_ = product(turned_, rotation_of(vector));
  rotation = turned_;
}

void FaceFilter::step(Placement& pose, float* landmarks, double seconds) {
  raw_ = pose;
  const double size = std::log(pose.scale);
  size_(&size, seconds, 1);
  position_(pose.translation.data(), seconds, 2 * pose.scale);
  turn(pose.rotation, seconds);
  // Landmarks in an upright, frontal pose, y up.
  for (size_t point = 0; point < points_; ++point) {
    const float* from = landmarks + 3 * point;
    const Vector off{from[0] - raw_.translation[0], -from[1] - raw_.translation[1],
                     from[2] - raw_.translation[2]};
    for (int j = 0; j < 3; ++j)
      upright_[3 * point + j] = (off[0] * raw_.rotation[j] + off[1] * raw_.rotation[3 + j] +
                                 off[2] * raw_.rotation[6 + j]) /
                                raw_.scale;
  }
  follow_ = shape_(upright_.data(), seconds, 2);
  for (size_t part = 0; part < parts_.size(); ++part) {
    double apart = 0;
    for (const auto& [upper, lower] : parts_[part].pairs) {
      double squared = 0;
      for (int j = 0; j < 3; ++j) {
        const double between = upright_[3 * upper + j] - upright_[3 * lower + j];
        squared += between * between;
      }
      apart += std::sqrt(squared);
    }
    apart /= static_cast<double>(parts_[part].pairs.size());
    more_[part] = std::max(0.0, gaps_[part](&apart, seconds, 2) - follow_);
  }
  if (!started_) shown_ = upright_;
  started_ = true;
  apart_.assign(points_, follow_);
  for (size_t part = 0; part < parts_.size(); ++part)
    for (size_t i = parts_[part].first; i < parts_[part].end; ++i) apart_[i] += more_[part];
  pose.scale = std::exp(size_.value()[0]);
  std::copy(position_.value().begin(), position_.value().end(), pose.translation.begin());
  for (size_t point = 0; point < points_; ++point) {
    double* shown = shown_.data() + 3 * point;
    for (int j = 0; j < 3; ++j) shown[j] += apart_[point] * (upright_[3 * point + j] - shown[j]);
    for (int j = 0; j < 3; ++j) {
      const double* row = pose.rotation.data() + 3 * j;
      const double at = pose.scale * (shown[0] * row[0] + shown[1] * row[1] + shown[2] * row[2]) +
                        pose.translation[j];
      landmarks[3 * point + j] = static_cast<float>(j == 1 ? -at : at);
    }
  }
  filtered_ = pose;
}

void FaceFilter::map(const float* xyz, size_t size, const double* crop, double side,
                     const int* windows, const float* weights, float* out) {
  Matrix turn, back;
  Vector shift, shift_back;
  map_to_shape(crop, side, filtered_, back, shift_back);
  back = inverse(back);
  map_to_shape(crop, side, raw_, turn, shift);
  float to[12], from[12];
  for (int i = 0; i < 3; ++i) {
    double moved = 0;
    for (int j = 0; j < 3; ++j) {
      to[4 * i + j] = static_cast<float>(turn[3 * i + j]);
      from[4 * i + j] = static_cast<float>(back[3 * i + j]);
      moved -= back[3 * i + j] * shift_back[j];
    }
    to[4 * i + 3] = static_cast<float>(shift[i]);
    from[4 * i + 3] = static_cast<float>(moved);
  }
  const size_t count = size * size;
  const bool first = state_.size() != 3 * count;
  if (first) state_.assign(3 * count, 0.0f);
  share_.assign(count, first ? 1.0f : static_cast<float>(follow_));
  if (!first) {
    for (size_t part = 0; part < parts_.size(); ++part) {
      const int* window = windows + 4 * part;
      for (int row = window[0]; row < window[1]; ++row)
        for (int column = window[2]; column < window[3]; ++column)
          share_[row * size + column] += static_cast<float>(more_[part]) * *weights++;
    }
  }
  // The arrays do not overlap: with that promise the compiler makes vector instructions of it.
  float *__restrict sx = state_.data(), *__restrict sy = sx + count, *__restrict sz = sy + count;
  const float *__restrict x = xyz, *__restrict y = x + count, *__restrict z = y + count;
  const float* __restrict share = share_.data();
  float *__restrict ox = out, *__restrict oy = ox + count, *__restrict oz = oy + count;
  for (size_t i = 0; i < count; ++i) {
    const float ux = to[0] * x[i] + to[1] * y[i] + to[2] * z[i] + to[3];
    const float uy = to[4] * x[i] + to[5] * y[i] + to[6] * z[i] + to[7];
    const float uz = to[8] * x[i] + to[9] * y[i] + to[10] * z[i] + to[11];
    const float vx = sx[i] + share[i] * (ux - sx[i]);
    const float vy = sy[i] + share[i] * (uy - sy[i]);
    const float vz = sz[i] + share[i] * (uz - sz[i]);
    sx[i] = vx;
    sy[i] = vy;
    sz[i] = vz;
    ox[i] = from[0] * vx + from[1] * vy + from[2] * vz + from[3];
    oy[i] = from[4] * vx + from[5] * vy + from[6] * vz + from[7];
    oz[i] = from[8] * vx + from[9] * vy + from[10] * vz + from[11];
  }
}

}  // namespace posgan
