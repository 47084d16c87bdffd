"""The crop as a similarity transform between crop units and frame pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import FARTHEST, FloatArray
from posgan_edge.errors import BadInput
from posgan_edge.geometry.values import FaceBox

#: Crop side over the longer side of the landmark box, as in 3DDFA and the training pack.
BOX_SCALE = math.sqrt(2.0)
_SMALLEST = 1e-3
_VALUES = ("center_x", "center_y", "side", "angle")


@dataclass(frozen=True)
class Crop:
    """A square crop: centre and side in frame pixels, turned by ``angle`` degrees.

    The crop spans 0 to 1 in units of its side. Its point ``q`` is at ``center + side * R(angle) @
    (q - 0.5)`` in the frame, where ``R`` turns clockwise on the screen. Depth is scaled by
    ``side``. Raises BadInput if the side is not positive, or a value is not a finite number or is
    larger than ``arrays.FARTHEST``.

    >>> import numpy as np
    >>> from posgan_edge import Crop
    >>> Crop(50, 40, 20, angle=90).to_frame(np.array([[1.0, 0.5]])).round(3).tolist()
    [[50.0, 50.0]]
    """

    center_x: float
    center_y: float
    side: float
    angle: float = 0.0

    def __post_init__(self) -> None:
        try:
            arrays.plain_numbers(self, _VALUES, FARTHEST)
            usable = self.side >= _SMALLEST
        except BadInput as error:
            raise BadInput(f"crop has no area or is not finite: {error}") from error
        if not usable:
            raise BadInput(
                f"crop of side {self.side:g} has no area or is not finite: give a box with an area"
            )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) float64: crop units to frame pixels."""
        c = math.cos(math.radians(self.angle)) * self.side
        s = math.sin(math.radians(self.angle)) * self.side
        return np.array(
            [
                [c, -s, self.center_x - 0.5 * (c - s)],
                [s, c, self.center_y - 0.5 * (s + c)],
            ]
        )

    @property
    def inverse(self) -> NDArray[np.float64]:
        """(2, 3) float64: frame pixels to crop units; the exact inverse of ``matrix``."""
        c = math.cos(math.radians(self.angle)) / self.side
        s = math.sin(math.radians(self.angle)) / self.side
        x, y = self.center_x, self.center_y
        return np.array([[c, s, 0.5 - c * x - s * y], [-s, c, 0.5 + s * x - c * y]])

    def to_frame(self, points: FloatArray) -> NDArray[np.float32]:
        """Points (..., 2 or 3) in crop units -> the same shape in frame pixels, float32.

        Points that are not finite stay so. Raises BadInput for other shapes.
        """
        return _apply(self.matrix, self.side, points)

    def to_crop(self, points: FloatArray) -> NDArray[np.float32]:
        """Points (..., 2 or 3) in frame pixels -> the same shape in crop units, float32.

        Points that are not finite stay so. Raises BadInput for other shapes.
        """
        return _apply(self.inverse, 1.0 / self.side, points)

    @classmethod
    def from_box(cls, box: FaceBox, scale: float = BOX_SCALE) -> Crop:
        """The crop around a landmark box, turned by the box's roll. Raises BadInput if the box has
        no area."""
        x, y = arrays.instance(box, FaceBox, "box").center
        scale = arrays.number(scale, "scale", 0)
        return cls(x, y, scale * max(box.width, box.height), box.roll)

    @classmethod
    def from_landmarks(
        cls, points: FloatArray, angle: float = 0.0, scale: float = BOX_SCALE
    ) -> Crop:
        """The crop of side ``scale`` x the longer side of the points' box, turned by ``angle``.

        ``points`` is (P, 2 or 3) in frame pixels. With an angle, the box is measured along the
        turned axes, so that the crop fits a rolled head. Raises BadInput for points that are not
        finite or all at one place.
        """
        points, angle = arrays.points(points), arrays.number(angle, "angle")
        scale = arrays.number(scale, "scale", 0)
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turned = points[:, :2].astype(np.float64) @ np.array([[c, -s], [s, c]])
        low, high = turned.min(axis=0), turned.max(axis=0)
        x, y = np.array([[c, -s], [s, c]]) @ ((low + high) / 2)
        return cls(float(x), float(y), float(scale * (high - low).max()), angle)


def _apply(
    matrix: NDArray[np.float64], depth_scale: float, points: FloatArray
) -> NDArray[np.float32]:
    known = isinstance(points, np.ndarray) and points.dtype.kind in "fiu" and points.ndim > 0
    if not known or points.shape[-1] not in (2, 3):
        raise BadInput(f"points is {arrays.described(points)}: give numbers (..., 2 or 3)")
    points = np.asarray(points)  # of masked arrays and matrices, which multiply otherwise
    out = np.empty(points.shape, np.float32)
    out[..., :2] = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    if points.shape[-1] == 3:
        out[..., 2] = points[..., 2] * depth_scale
    return out
