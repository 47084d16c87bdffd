"""The values of the geometry: a box in the frame and a position map.

Coordinates are continuous image coordinates everywhere: pixel ``i`` spans ``[i, i + 1)``,
so the centre of the top-left pixel is ``(0.5, 0.5)``; x right, y down, z towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import FARTHEST, FloatArray
from posgan_edge.errors import BadInput
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.sampling import resample_map

_BOX = ("x", "y", "width", "height", "score", "roll")


@dataclass(frozen=True)
class FaceBox:
    """An axis-aligned box in frame pixels, with the detector's score and angle.

    ``roll`` is the in-plane angle of the face in degrees, clockwise as seen on the screen;
    ``score`` lies in [0, 1]. Raises BadInput if a value is no finite number, lies beyond
    ``arrays.FARTHEST`` or a side is negative.

    >>> from posgan_edge import FaceBox
    >>> FaceBox(10, 20, 40, 60).center
    (30.0, 50.0)
    """

    x: float
    y: float
    width: float
    height: float
    score: float = 1.0
    roll: float = 0.0

    def __post_init__(self) -> None:
        arrays.plain_numbers(self, _BOX, FARTHEST)
        if self.width < 0 or self.height < 0:
            raise BadInput(
                f"FaceBox is {self.width:g} x {self.height:g}: sides must not be negative"
            )

    @property
    def center(self) -> tuple[float, float]:
        """The middle (x, y) in frame pixels."""
        return self.x + self.width / 2, self.y + self.height / 2

    def iou(self, other: FaceBox) -> float:
        """Intersection over union with another box, in [0, 1]. Raises BadInput for another type."""
        arrays.instance(other, FaceBox, "other")
        w = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        h = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if w <= 0 or h <= 0:
            return 0.0
        return w * h / (self.width * self.height + other.width * other.height - w * h)

    @classmethod
    def around(cls, points: FloatArray, score: float = 1.0) -> FaceBox:
        """The tight box of points (P, 2 or 3) in frame pixels. Raises BadInput for other arguments
        and for points that are not finite."""
        points = arrays.points(points)
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        return cls(
            float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]), score
        )


@dataclass(frozen=True)
class PositionMap:
    """A UV position map: each pixel is the x, y, z of one fixed point of the face.

    ``xyz`` is (3, M, M) float32 in units of the crop's side (the crop spans 0..1 in x and y;
    z is up to an offset). ``layout`` says which point each pixel is. Raises BadInput if it is
    not a UvLayout or ``xyz`` is no array of that shape.

    >>> import numpy as np
    >>> from posgan_edge import PositionMap, load_layout
    >>> PositionMap(np.zeros((3, 128, 128), np.float32), load_layout("ict")).resampled().resolution
    256
    """

    xyz: NDArray[np.float32]
    layout: UvLayout

    def __post_init__(self) -> None:
        if not isinstance(self.layout, UvLayout):
            raise BadInput(
                f"the layout is {self.layout!r}: give a UvLayout, load_layout('ict') for example"
            )
        shape = np.shape(arrays.maps(self.xyz, "the position map"))
        if len(shape) != 3 or shape[0] != 3:
            raise BadInput(f"the position map has shape {shape}: give (3, M, M)")

    @property
    def resolution(self) -> int:
        """M, the side of the map in pixels."""
        return int(self.xyz.shape[-1])

    def landmarks(self, name: str | None = None) -> NDArray[np.float32]:
        """The 68 landmarks (68, 3) in units of the crop's side.

        ``name`` is a landmark set of the layout, ``aflw`` or ``300w`` (see ``UvLayout``); None
        means the layout's own. Raises BadInput if the layout has no such set.

        >>> import numpy as np
        >>> from posgan_edge import PositionMap, load_layout
        >>> flat = PositionMap(np.zeros((3, 128, 128), np.float32), load_layout("ict"))
        >>> flat.landmarks("300w").shape
        (68, 3)
        """
        layout = self.layout if name is None else self.layout.with_landmarks(name)
        return layout.landmarks(self.xyz)

    def resampled(self, resolution: int = 256) -> PositionMap:
        """This map at another resolution (256 for PRNet-style users), bilinear.

        Raises BadInput for a resolution that is no whole number from 1 to 8192.
        """
        return PositionMap(resample_map(self.xyz, resolution), self.layout)
