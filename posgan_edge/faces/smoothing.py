"""Steady faces: the One-Euro filter on a face's pose and on its shape.

If each point were filtered alone, a head that turns would be distorted. So a face is split into its
pose (position, size, rotation) and its shape (the points of the head in an upright, frontal pose).
Each part is filtered according to its speed, and then they are combined again (One-Euro filter:
Casiez, Roussel and Vogel, CHI 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from posgan_edge import arrays
from posgan_edge.errors import BadInput
from posgan_edge.faces.track_filter import PARTS, track_filter
from posgan_edge.faces.values import Face
from posgan_edge.geometry.values import FaceBox


@dataclass(frozen=True)
class Smoothing:
    """Cut-off frequencies: (Hz at rest, Hz added for each unit of speed), for each part of a face.

    Speeds: position and shape in face sizes a second, size in its logarithm a second, rotation in
    degrees a second; eyes and mouth in face sizes a second by which lids or lips move apart or
    together. The points of eyes and mouth follow at least as fast as the shape does. Speeds do not
    depend on the face's size or the frame rate. Raises BadInput if a value is not a number or is
    negative.

    >>> from posgan_edge import FaceSmoother, Smoothing
    >>> steadier = FaceSmoother(Smoothing(position=(0.3, 4.0)))
    """

    position: tuple[float, float] = (0.5, 4.0)
    size: tuple[float, float] = (0.4, 3.0)
    rotation: tuple[float, float] = (0.6, 0.06)
    shape: tuple[float, float] = (0.7, 6.0)
    eyes: tuple[float, float] = (0.7, 60.0)
    mouth: tuple[float, float] = (0.7, 20.0)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, (list, tuple)) or len(value) != 2:
                raise BadInput(f"{name} is {arrays.described(value)}: give (at rest, per speed)")
            for part in value:
                arrays.number(part, name, 0)


class FaceSmoother:
    """Filters the faces of one track. ``dense`` False leaves position maps as they are.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, FaceSmoother, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> smoother = FaceSmoother()
    >>> steady = [smoother(face, number / 30) for number in range(3)]
    """

    def __init__(self, settings: Smoothing | None = None, dense: bool = True) -> None:
        given = Smoothing() if settings is None else settings
        arrays.instance(given, Smoothing, "settings")
        shape = given.position, given.size, given.rotation, given.shape
        self._filter = track_filter(shape, [getattr(given, part.setting) for part in PARTS])
        self._dense = arrays.flag(dense, "dense")
        self._last: float | None = None

    def __call__(self, face: Face, timestamp: float) -> Face:
        """The face, filtered; ``timestamp`` in seconds must rise from call to call.

        Raises BadInput for another type of argument, and for a map that is not finite. The filter
        is then unchanged.
        """
        arrays.instance(face, Face, "face")
        timestamp = arrays.number(timestamp, "timestamp")
        position_map = face.position_map if self._dense else None
        if position_map is not None and not arrays.finite(position_map.xyz):
            raise BadInput("the face's position map is not finite")
        seconds = max(1e-3, timestamp - self._last) if self._last is not None else 1 / 30
        self._last = timestamp
        landmarks, pose = self._filter.step(face.landmarks, face.pose, seconds)
        if position_map is not None:
            position_map = self._filter.map(position_map, face.crop)
        return replace(
            face,
            pose=pose,
            landmarks=landmarks,
            box=FaceBox.around(landmarks, face.box.score),
            position_map=position_map or face.position_map,
        )
