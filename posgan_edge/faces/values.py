"""The values that the pipeline takes and returns: a frame, and a face in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.pose import Pose, presence
from posgan_edge.geometry.values import FaceBox, PositionMap

_LAST_ID = 1 << 62


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    ``image`` is (H, W, 3) uint8, BGR. Do not change its pixels: make a new frame, because a copy
    may already be on the GPU. ``timestamp`` is in seconds from the start of the source;
    ``captured`` is when a live loop took it, in the seconds of ``time.perf_counter``. ``live``: it
    is of a camera, or of a video that is played at its own rate.

    >>> import numpy as np
    >>> from posgan_edge import Frame
    >>> Frame(np.zeros((480, 640, 3), np.uint8), timestamp=0.5).timestamp
    0.5
    """

    image: Image
    index: int = 0
    timestamp: float = 0.0
    name: str = ""
    captured: float = 0.0
    live: bool = False

    @classmethod
    def of(cls, image: Frame | Image, timestamp: float | None = None) -> Frame:
        """A frame, unchanged, or a picture as a frame. ``timestamp`` replaces the frame's own.

        Raises BadInput if the image is not (H, W, 3) uint8 or the time is not a finite number.
        """
        frame = image if isinstance(image, Frame) else cls(image)
        arrays.image(frame.image)
        if timestamp is not None:
            frame = replace(frame, timestamp=timestamp)
        arrays.number(frame.timestamp, "timestamp")
        return frame


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    ``landmarks`` is (68, 3) float32 in frame pixels, iBUG order. ``facing`` is (68,) float32: for
    each landmark, the cosine of the angle between the surface's normal and the direction to the
    camera, above zero if it faces the camera. ``box`` is the tight box of the landmarks, with the
    detection's score. ``crop`` maps the position map to the frame. ``position_map`` is None only if
    the pipeline was made with ``dense`` False. ``expression`` is (52,) float64: blendshapes in the
    order of ``ARKIT_NAMES``, if the tracker was made with ``expressions``; otherwise it is None.

    Raises BadInput if a value has another type or shape, or if landmarks, facing or pose are not
    finite.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> face.landmarks.shape, face.presence > 0.5
    ((68, 3), True)
    """

    box: FaceBox
    crop: Crop
    position_map: PositionMap | None
    landmarks: NDArray[np.float32]
    facing: NDArray[np.float32]
    pose: Pose
    id: int = 0
    expression: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        arrays.instance(self.box, FaceBox, "box")
        arrays.instance(self.crop, Crop, "crop")
        if type(self.id) is not int:
            object.__setattr__(self, "id", arrays.whole(self.id, "id", -_LAST_ID, _LAST_ID))
        if self.position_map is not None:
            arrays.instance(self.position_map, PositionMap, "position_map")
        arrays.array(self.landmarks, "landmarks", (68, 3))
        arrays.array(self.facing, "facing", (68,))
        pose = arrays.instance(self.pose, Pose, "pose")
        arrays.array(pose.rotation, "pose.rotation", (3, 3))
        arrays.array(pose.translation, "pose.translation", (3,))
        if self.expression is not None:
            arrays.array(self.expression, "expression", (52,))
        if not 0 < pose.scale < math.inf or not pose.residual < math.inf:
            raise BadInput(f"pose has scale {pose.scale} and residual {pose.residual}")

    @property
    def presence(self) -> float:
        """How well this looks like a face, from 0 to 1; below 0.5 it counts as no face.

        1 / (1 + (r / 0.079)^4), where r is ``pose.residual``, the error of fitting the mean face.
        """
        return presence(self.pose.residual)

    @property
    def blendshapes(self) -> Mapping[str, float] | None:
        """The 52 ARKit blendshapes by name, each in [0, 1]; read-only.

        ``expression`` where a tracker made it; otherwise the face is read as a single picture of a
        person never seen, at each call. ``tongueOut`` and ``eyeLook...`` are always 0: a position
        map holds neither tongue nor eyeballs. None if the map is of another UV layout than
        ``ict`` or not finite. Raises BadInput if the face carries neither.
        """
        from posgan_edge.faces.expression import named, picture_values

        values = self.expression
        if values is None:
            values = picture_values(self.dense_map, self.crop, self.pose)
        return None if values is None else named(values)

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(68,) bool: landmarks whose surface faces the camera."""
        return self.facing > 0

    @property
    def dense_map(self) -> PositionMap:
        """The position map. Raises BadInput if there is none (``dense`` False)."""
        if self.position_map is None:
            raise BadInput("this face has no position map: dense=True keeps it")
        return self.position_map
