#include "operations.h"

#include <vector>

namespace posgan::host {

namespace {

template <class Functor>
void each_point(const Functor& functor, size_t faces) {
  const size_t count = functor.count + functor.rest_count;
  for (size_t face = 0; face < faces; ++face)
    for (size_t point = 0; point < count; ++point)
      functor(face, point, functor.transforms + 6 * face);
}

}  // namespace

void extract_landmarks(const LandmarkBatch& batch) {
  if (batch.half) {
    each_point(functor<Half>(batch), batch.faces);
  } else {
    each_point(functor<float>(batch), batch.faces);
  }
}

void crop_normalize(const CropBatch& batch) {
  with_functor(batch, [&](auto functor) {
    for (size_t face = 0; face < batch.faces; ++face) {
      const CropGrid grid = CropGrid::make(batch.transforms + 6 * face, batch.size);
      for (int row = 0; row < batch.size; ++row) {
        for (int column = 0; column < batch.size; ++column) {
          functor.write(face, row, column, functor.pixel(grid, row, column));
        }
      }
    }
  });
}

void pose_fit(const PoseBatch& batch) {
  std::vector<float> residuals(batch.count);
  int bins[kBins];
  const FitPose<HostTeam> fit{batch.points, batch.mean,   batch.out,
                              batch.count,  batch.stride, batch.iterations};
  for (size_t face = 0; face < batch.faces; ++face) fit(HostTeam{bins}, face, residuals.data());
}

}  // namespace posgan::host
