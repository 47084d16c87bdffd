"""The data types that travel through the pipeline: frame, box, position map, face.

Coordinates are continuous image coordinates everywhere: pixel ``i`` spans ``[i, i + 1)``,
so the centre of the top-left pixel is ``(0.5, 0.5)``; x right, y down, z towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from posgan_edge.geometry.crop import Crop
    from posgan_edge.geometry.pose import Pose

FloatArray = NDArray[np.floating]
#: A picture (H, W, 3) uint8, BGR unless said. (OpenCV's stubs do not state the dtype.)
Image = NDArray[Any]


@dataclass(frozen=True)
class Frame:
    """One picture on its way through the pipeline.

    ``image`` is (H, W, 3) uint8, BGR. ``timestamp`` is in seconds from the start of the source;
    ``captured`` is when a live loop took it, on ``time.perf_counter``'s clock.
    """

    image: Image
    index: int = 0
    timestamp: float = 0.0
    name: str = ""
    captured: float = 0.0


@dataclass(frozen=True)
class FaceBox:
    """An axis-aligned box in frame pixels, with what the detector knows beside it.

    ``roll`` is the in-plane angle of the face in degrees, clockwise as seen on the screen;
    ``score`` lies in [0, 1].
    """

    x: float
    y: float
    width: float
    height: float
    score: float = 1.0
    roll: float = 0.0

    @property
    def center(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2

    def iou(self, other: FaceBox) -> float:
        """Intersection over union with another box, in [0, 1]."""
        w = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        h = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if w <= 0 or h <= 0:
            return 0.0
        return w * h / (self.width * self.height + other.width * other.height - w * h)

    @classmethod
    def around(cls, points: FloatArray, score: float = 1.0) -> FaceBox:
        """The tight box of points (P, 2 or 3) in frame pixels."""
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        return cls(
            float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]), score
        )


@dataclass(frozen=True)
class PositionMap:
    """A UV position map: each pixel is the x, y, z of one fixed point of the face.

    ``xyz`` is (3, M, M) float32 in units of the crop's side (the crop spans 0..1 in x and y;
    z is up to an offset). ``layout`` names the UV layout that says which point each pixel is.
    """

    xyz: NDArray[np.float32]
    layout: str

    @property
    def resolution(self) -> int:
        return int(self.xyz.shape[-1])

    def resampled(self, resolution: int = 256) -> PositionMap:
        """This map at another resolution (256 for PRNet-style users), bilinear."""
        from posgan_edge.geometry.sampling import resample_map

        return PositionMap(resample_map(self.xyz, resolution), self.layout)


@dataclass(frozen=True)
class Face:
    """What the pipeline knows of one face in one frame.

    ``landmarks`` is (68, 3) float32 in frame pixels, iBUG order; ``facing`` (68,) float32 the
    cosine between the surface there and the direction to the camera, above zero where it can be
    seen; ``box`` is their tight box and carries the detection score; ``crop`` maps the position
    map to the frame. ``position_map`` is None only where the pipeline was asked for none.
    """

    box: FaceBox
    crop: Crop
    position_map: PositionMap | None
    landmarks: NDArray[np.float32]
    facing: NDArray[np.float32]
    pose: Pose
    id: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(68,) bool: landmarks whose surface faces the camera."""
        return self.facing > 0

    @property
    def dense_map(self) -> PositionMap:
        """The position map. Raises BadInput where the pipeline was asked for none."""
        if self.position_map is None:
            from posgan_edge.errors import BadInput

            raise BadInput("this face carries no position map: ask for dense faces")
        return self.position_map
