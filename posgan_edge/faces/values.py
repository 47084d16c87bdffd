"""The values that go in and come out: a frame, and a face in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.pose import Pose
from posgan_edge.geometry.values import FaceBox, PositionMap


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
            raise BadInput("this face carries no position map: ask for dense faces")
        return self.position_map
