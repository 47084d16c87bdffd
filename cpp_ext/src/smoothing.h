// The filter of the faces of one track; posgan_edge/faces/smoothing.py says what it does and why.
#pragma once

#include <array>
#include <cstddef>
#include <utility>
#include <vector>

namespace posgan {

using Vector = std::array<double, 3>;
using Matrix = std::array<double, 9>;  // (3, 3), row by row

// Cut-off frequencies in Hz: at rest, added for each unit of speed, and of the speed itself.
struct Cutoffs {
  double at_rest, per_speed, derivative;
};

// A One-Euro filter of several numbers with one cut-off (Casiez, Roussel and Vogel, CHI 2012).
class OneEuro {
 public:
  OneEuro(const Cutoffs& cutoffs, size_t count) : cutoffs_(cutoffs), speed_(count) {}

  // Filters values; speeds are in `unit`. Returns what share of the change was followed.
  double operator()(const double* values, double seconds, double unit);

  // Returns how much of a change to follow.
  double share(const double* change, double seconds);

  const std::vector<double>& value() const { return value_; }

 private:
  Cutoffs cutoffs_;
  std::vector<double> speed_, value_, change_;
};

struct Placement {
  double scale;
  Matrix rotation;
  Vector translation;
};

// A part of the face that opens: its landmarks, and the pairs that meet when it closes.
struct Part {
  size_t first, end;
  std::vector<std::pair<size_t, size_t>> pairs;
};

class FaceFilter {
 public:
  // cutoffs: of position, size, rotation and shape, then of each part.
  FaceFilter(const std::vector<Cutoffs>& cutoffs, std::vector<Part> parts, size_t points);

  // Filters a pose (y up, frame pixels) and landmarks (points, 3) in frame pixels, y down.
  void step(Placement& pose, float* landmarks, double seconds);

  // Filters a map xyz (3, size, size) of the last step, given its crop (2, 3) and the crop's side.
  // windows: for each part first row, end, first column, end; weights: their pixels, one after
  // another. out has the shape of xyz.
  void map(const float* xyz, size_t size, const double* crop, double side, const int* windows,
           const float* weights, float* out);

  size_t points() const { return points_; }
  size_t parts() const { return parts_.size(); }
  bool stepped() const { return started_; }

 private:
  void turn(Matrix& rotation, double seconds);

  size_t points_;
  std::vector<Part> parts_;
  OneEuro position_, size_, rotation_, shape_;
  std::vector<OneEuro> gaps_;
  Matrix turned_{};
  bool started_ = false;
  std::vector<double> shown_, apart_, upright_;
  double follow_ = 1;
  std::vector<double> more_;
  Placement raw_{}, filtered_{};
  std::vector<float> state_, share_;
};

}  // namespace posgan
