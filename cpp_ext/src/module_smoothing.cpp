// The Python class of the filter of a track's faces.
#include "arguments.h"
#include "smoothing.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>

namespace posgan {

namespace {

using Numbers = std::vector<std::tuple<double, double, double>>;
using Parts = std::vector<std::tuple<size_t, size_t, std::vector<std::pair<size_t, size_t>>>>;

double finite(const char* name, double value, double low) {
  if (!std::isfinite(value) || value < low) refuse(name, "has numbers that cannot be used");
  return value;
}

const double* finite_doubles(const char* name, const Array& array) {
  const auto* data = static_cast<const double*>(array.data());
  for (size_t i = 0; i < array.size(); ++i) finite(name, data[i], -INFINITY);
  return data;
}

FaceFilter* made(const Numbers& cutoffs_, const Parts& parts_, size_t points) {
  bounded("points", static_cast<int64_t>(points), 1, 1 << 16);
  if (cutoffs_.size() != 4 + parts_.size()) refuse("cutoffs", "give four, and one for each part");
  std::vector<Cutoffs> cutoffs;
  for (const auto& [at_rest, per_speed, derivative] : cutoffs_) {
    cutoffs.push_back({finite("cutoffs", at_rest, 0), finite("cutoffs", per_speed, 0),
                       finite("cutoffs", derivative, 0)});
  }
  std::vector<Part> parts;
  for (const auto& [first, end, pairs] : parts_) {
    bool fits = first <= end && end <= points && !pairs.empty();
    for (const auto& [upper, lower] : pairs) fits = fits && upper < points && lower < points;
    if (!fits) refuse("parts", "has landmarks that are not there");
    parts.push_back({first, end, pairs});
  }
  return new FaceFilter(cutoffs, std::move(parts), points);
}

nb::tuple step(FaceFilter& filter, nb::handle landmarks_, double scale, nb::handle rotation_,
               nb::handle translation_, double seconds) {
  const auto points = static_cast<int64_t>(filter.points());
  const Array landmarks = array("landmarks", landmarks_, {kFloat}, {points, 3});
  const Array rotation = array("rotation", rotation_, {kDouble}, {3, 3});
  const Array translation = array("translation", translation_, {kDouble}, {3});
  Placement pose;
  pose.scale = finite("scale", scale, 1e-300);
  std::copy_n(finite_doubles("rotation", rotation), 9, pose.rotation.begin());
  std::copy_n(finite_doubles("translation", translation), 3, pose.translation.begin());
  finite("seconds", seconds, 1e-9);
  float* shown;
  const nb::object out = created<float>({filter.points(), 3}, kFloat, &shown);
  std::copy_n(static_cast<const float*>(landmarks.data()), landmarks.size(), shown);
  for (size_t i = 0; i < landmarks.size(); ++i) finite("landmarks", shown[i], -INFINITY);
  filter.step(pose, shown, seconds);
  double *turned, *moved;
  const nb::object rotated = created<double>({3, 3}, kDouble, &turned);
  const nb::object translated = created<double>({3}, kDouble, &moved);
  std::copy(pose.rotation.begin(), pose.rotation.end(), turned);
  std::copy(pose.translation.begin(), pose.translation.end(), moved);
  return nb::make_tuple(out, pose.scale, rotated, translated);
}

nb::object map(FaceFilter& filter, nb::handle xyz_, nb::handle crop_, double side,
               nb::handle windows_, nb::handle weights_) {
  const Array xyz = array("xyz", xyz_, {kFloat}, {3, kAny, kAny});
  const size_t size = xyz.shape(1);
  bounded("xyz (side)", static_cast<int64_t>(size), 1, 1 << 13);
  if (xyz.shape(2) != size) refuse("xyz", "is not square");
  const Array crop = array("crop", crop_, {kDouble}, {2, 3});
  const Array windows = array("windows", windows_, {kInt}, {static_cast<int64_t>(filter.parts()), 4});
  const Array weights = array("weights", weights_, {kFloat}, {kAny});
  const auto* bounds = static_cast<const int32_t*>(windows.data());
  const auto most = static_cast<int32_t>(size);
  size_t pixels = 0;
  for (size_t part = 0; part < filter.parts(); ++part, bounds += 4) {
    if (bounds[0] < 0 || bounds[1] < bounds[0] || bounds[1] > most || bounds[2] < 0 ||
        bounds[3] < bounds[2] || bounds[3] > most) {
      refuse("windows", "lie outside the map");
    }
    pixels += static_cast<size_t>(bounds[1] - bounds[0]) * static_cast<size_t>(bounds[3] - bounds[2]);
  }
  if (pixels != weights.shape(0)) refuse("weights", "are not as many as the windows have pixels");
  if (!filter.stepped()) refuse("xyz", "no landmarks were filtered before");
  finite_doubles("crop", crop);
  finite("side", side, 1e-300);
  float* out;
  nb::object filtered = created<float>({3, size, size}, kFloat, &out);
  nb::gil_scoped_release unlocked;
  filter.map(static_cast<const float*>(xyz.data()), size, static_cast<const double*>(crop.data()),
             side, static_cast<const int32_t*>(windows.data()),
             static_cast<const float*>(weights.data()), out);
  return filtered;
}

}  // namespace

void add_smoothing(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<FaceFilter>(module, "FaceFilter")
      .def(nb::new_(&made), "cutoffs"_a, "parts"_a, "points"_a)
      .def("step", &step, "landmarks"_a, "scale"_a, "rotation"_a, "translation"_a, "seconds"_a)
      .def("map", &map, "xyz"_a, "crop"_a, "side"_a, "windows"_a, "weights"_a);
}

}  // namespace posgan
