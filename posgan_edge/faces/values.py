"""The values that go in and come out: a frame, and a face in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.pose import Pose
from posgan_edge.geometry.values import FaceBox, PositionMap


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    ``image`` is (H, W, 3) uint8, BGR; new pixels take a new frame, as a frame may already lie on
    the GPU. ``timestamp`` is in seconds from the start of the source; ``captured`` is when a live
    loop took it, on ``time.perf_counter``'s clock.
    """

    image: Image
    index: int = 0
    timestamp: float = 0.0
    name: str = ""
    captured: float = 0.0

    @classmethod
    def of(cls, image: Frame | Image) -> Frame:
        """A frame as it is, or a picture as a frame. Raises BadInput where the image is not
        (H, W, 3) uint8."""
        frame = image if isinstance(image, Frame) else cls(image)
        shape, dtype = np.shape(frame.image), getattr(frame.image, "dtype", None)
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise BadInput(f"frame is {dtype} {shape}: give uint8 (H, W, 3)")
        return frame


@dataclass(frozen=True)
class Face:
    """One face in one frame.

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

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(68,) bool: landmarks whose surface faces the camera."""
        return self.facing > 0

    @property
    def dense_map(self) -> PositionMap:
        """The position map. Raises BadInput where the pipeline was asked for none."""
        if self.position_map is None:
            raise BadInput("this face carries no position map: ask for dense faces")
        return self.position_map
