// The three operations on whole batches, on the host and on the device.
#pragma once

#include "functors/crop.h"
#include "functors/landmarks.h"
#include "functors/pose.h"

namespace posgan {

struct LandmarkBatch {
  const void* maps;  // (faces, 3, height, width), float or Half
  bool half;
  const float* uv;          // (count + rest_count, 2)
  const float* transforms;  // (faces, 2, 3)
  float* points;            // (faces, count, 3)
  float* facing;            // (faces, count) or null
  float* rest;              // (faces, rest_count, 3)
  size_t faces, count, rest_count;
  int height, width;
};

struct FrameView {
  bool nv12;
  const uint8_t* data;    // BGR, or luma
  const uint8_t* chroma;  // NV12 only
  size_t pitch, chroma_pitch;
  int height, width;
  bool bt709;  // NV12 only; BT.601 otherwise
  bool full;   // NV12 only: values from 0 to 255; otherwise luma 16..235, chroma 16..240
};

// Where a BGR frame lies, read when the kernel runs: a captured graph serves frames at any address and
// of any size.
struct FramePlace {
  int64_t data, pitch, height, width;
};

struct CropBatch {
  FrameView frame;
  const float* transforms;  // (faces, 2, 3)
  void* out;                // (faces, 3, size, size), float or Half
  bool half;
  size_t faces;
  int size;
  float border[3];          // blue, green, red, 0..255
  const FramePlace* place;  // on the device, in place of `frame`; null: not used
};

struct PoseBatch {
  const float* points;  // (faces, stride, 3)
  const float* mean;    // (count, 3)
  float* out;           // (faces, 14)
  size_t faces, stride;
  int count, iterations;
};

template <class T>
ExtractLandmarks<T> functor(const LandmarkBatch& b) {
  return {static_cast<const T*>(b.maps), b.uv, b.transforms, b.points, b.facing, b.rest,
          b.height, b.width, b.count, b.rest_count};
}

// Calls visit with the functor of the frame's format and the output's type.
template <class Visit>
void with_functor(const CropBatch& b, Visit visit) {
  const FrameView& f = b.frame;
  const auto typed = [&](auto source) {
    using Source = decltype(source);
    if (b.half) {
      visit(CropNormalize<Source, Half>{source, b.transforms, static_cast<Half*>(b.out), b.size,
                                        {b.border[0], b.border[1], b.border[2]}});
    } else {
      visit(CropNormalize<Source, float>{source, b.transforms, static_cast<float*>(b.out), b.size,
                                         {b.border[0], b.border[1], b.border[2]}});
    }
  };
  // Conversion of luma and chroma to R, G and B for full range; for limited range both are scaled.
  const YuvMatrix bt601{1.0f, 0.0f, 1.402f, 0.344136f, 0.714136f, 1.772f};
  const YuvMatrix bt709{1.0f, 0.0f, 1.5748f, 0.187324f, 0.468124f, 1.8556f};
  const YuvMatrix bt601_limited{1.164384f, 16.0f, 1.596027f, 0.391762f, 0.812968f, 2.017232f};
  const YuvMatrix bt709_limited{1.164384f, 16.0f, 1.792741f, 0.213249f, 0.532909f, 2.112402f};
  if (!f.nv12) {
    typed(BgrFrame{f.data, f.pitch, f.height, f.width});
  } else {
    const YuvMatrix& matrix =
        f.full ? (f.bt709 ? bt709 : bt601) : (f.bt709 ? bt709_limited : bt601_limited);
    typed(Nv12Frame{f.data, f.chroma, f.pitch, f.chroma_pitch, f.height, f.width, matrix});
  }
}

namespace host {
void extract_landmarks(const LandmarkBatch& batch);
void crop_normalize(const CropBatch& batch);
void pose_fit(const PoseBatch& batch);
}  // namespace host

#if defined(POSGAN_WITH_CUDA)
// These are asynchronous on a stream (a cudaStream_t as an integer). They raise CudaError.
namespace device {
void extract_landmarks(const LandmarkBatch& batch, uintptr_t stream);
void crop_normalize(const CropBatch& batch, uintptr_t stream);
void pose_fit(const PoseBatch& batch, uintptr_t stream);
}  // namespace device
#endif

}  // namespace posgan
