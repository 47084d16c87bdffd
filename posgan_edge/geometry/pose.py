"""Head pose by a robust similarity fit, in the AFLW2000-3D convention.

``R = Rx(pitch) @ Ry(yaw) @ Rz(roll)`` in y-up space (x right, y up, z towards the camera) with
``Rx = [1 0 0; 0 c s; 0 -s c]``, ``Ry = [c 0 -s; 0 1 0; s 0 c]``, ``Rz = [c s 0; -s c 0; 0 0 1]``,
the convention of the 300W-LP and AFLW2000-3D labels (Zhu et al., CVPR 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import FloatArray
from posgan_edge.errors import BadInput
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.sampling import sample_map

#: A fit of the mean face that is further off than this (``Pose.residual``) is no face: of the
#: training pack's held-out faces 1 in 100 lies above (see benchmarks/results/presence.json).
NO_FACE = 0.079


#: What turning the y axis round does to the signs of a rotation.
_FLIPS = np.outer(Y_UP, Y_UP)


@dataclass(frozen=True)
class Pose:
    """Head pose: angles in degrees and the rotation (3, 3) float64 they stand for.

    The mean face maps to y-up space as ``scale * rotation @ point + translation``; scale and
    translation are in frame pixels (of crop units where the pose was fitted without a crop).
    ``residual`` is the root-mean-square distance of the mean face, so placed, from the face's
    points, over ``scale``: about 0.02 for a face, and far more where there is none. Raises BadInput
    for values of another type or shape; NaN is taken, as ``fit_pose`` says.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> abs(face.pose.yaw) < 12, face.pose.residual < 0.079
    (True, True)
    """

    pitch: float
    yaw: float
    roll: float
    rotation: NDArray[np.float64]
    scale: float
    translation: NDArray[np.float64]
    residual: float = 0.0

    def __post_init__(self) -> None:
        for name in ("pitch", "yaw", "roll", "scale", "residual"):
            value = getattr(self, name)
            if type(value) is not float and not (
                isinstance(value, (int, np.floating)) and not isinstance(value, bool)
            ):
                raise BadInput(f"Pose.{name} is {arrays.described(value)}: give a number")
        for name, shape in (("rotation", (3, 3)), ("translation", (3,))):
            value = getattr(self, name)
            if not (isinstance(value, np.ndarray) and value.shape == shape) or (
                value.dtype.kind != "f"
            ):
                raise BadInput(f"Pose.{name} is {arrays.described(value)}: give floats {shape}")

    @property
    def in_plane(self) -> float:
        """The angle of the head's up axis in the picture, in degrees clockwise from upright.

        Unlike ``roll``, the rotation about the nose's direction, it is stable at large yaw.
        """
        return math.degrees(math.atan2(self.rotation[0, 1], self.rotation[1, 1]))


def presence(residual: float) -> float:
    """How well a fit of the mean face with this residual looks like a face, from 0 to 1.

    1 / (1 + (residual / NO_FACE)^4): 1 for a perfect fit, 0.5 at ``NO_FACE``, 0 for NaN.
    """
    if not residual >= 0:
        return 0.0
    return float(1 / (1 + min(residual / NO_FACE, 1e9) ** 4))


def rotation_from_angles(pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    """(3, 3) rotation from angles in degrees, in the convention of this module. Raises BadInput
    if one is no finite number."""
    for angle, name in ((pitch, "pitch"), (yaw, "yaw"), (roll, "roll")):
        arrays.number(angle, name)
    (cp, cy, cr), (sp, sy, sr) = (f(np.radians([pitch, yaw, roll])) for f in (np.cos, np.sin))
    rx = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    ry = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    rz = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = rx @ ry @ rz
    return rotation


def angles_from_rotation(rotation: FloatArray) -> tuple[float, float, float]:
    """(pitch, yaw, roll) in degrees; yaw in [-90, 90]. At yaw = +-90 roll is set to zero."""
    r = np.asarray(rotation, np.float64).tolist()
    yaw = math.asin(min(1.0, max(-1.0, -r[0][2])))
    if abs(r[0][2]) > 1 - 1e-9:
        pitch, roll = math.atan2(-r[2][1], r[1][1]), 0.0
    else:
        pitch, roll = math.atan2(r[1][2], r[2][2]), math.atan2(r[0][1], r[0][0])
    return math.degrees(pitch), math.degrees(yaw), math.degrees(roll)


def fit_similarity(
    source: FloatArray, target: FloatArray, weights: FloatArray | None = None
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares (scale, R, t) with ``target ~ scale * R @ source + t`` (Umeyama, 1991).

    ``source`` and ``target`` are (P, 3); ``weights`` (P,), non-negative. Raises BadInput for other
    shapes and for numbers that are not finite.
    """
    source = arrays.array(source, "source", (None, 3))
    target = arrays.array(target, "target", (len(source), 3))
    w = np.ones(len(source)) if weights is None else weights
    w = np.asarray(arrays.array(w, "weights", (len(source),)), np.float64)
    return _fit_columns(_with_ones(source), _with_ones(target), w)


def fit_pose(
    position_map: FloatArray, layout: UvLayout, crop: Crop | None = None, iterations: int = 4
) -> Pose:
    """The pose of a map (3, M, M) by Huber-weighted similarity fits of the layout's mean face.

    With ``crop`` it is that in the frame, scale and translation in frame pixels; without, that in
    the crop, in units of its side. All NaN where the map has NaN at the mean face's points, or
    these lie all in one place. Raises BadInput for what is not a map or a layout, and for
    iterations that are not 1 to 100.

    >>> import numpy as np
    >>> from posgan_edge import fit_pose, load_engine, load_layout
    >>> with load_engine("edge") as engine:
    ...     maps = engine.infer(np.zeros((1, 3, 128, 128), np.float32))
    >>> fit_pose(maps[0], load_layout("ict")).rotation.shape
    (3, 3)
    """
    if np.shape(arrays.maps(position_map, "position_map"))[:-2] != (3,):
        raise BadInput(f"position_map is {arrays.described(position_map)}: give (3, M, M)")
    if not hasattr(layout, "mean_uv"):
        raise BadInput(f"layout is {arrays.described(layout)}: give a UvLayout")
    iterations = arrays.whole(iterations, "iterations", 1, 100)
    points = sample_map(position_map, layout.mean_uv)
    if crop is not None:
        points = arrays.instance(crop, Crop, "crop").to_frame(points)
    points = points * Y_UP
    if not np.isfinite(points).all() or not np.ptp(points, axis=0).any():
        return _NOWHERE
    scale, rotation, shift = fit_robust(layout.mean_points, points, iterations)
    if not scale > 0:
        return _NOWHERE
    off = layout.mean_points @ (scale * rotation.T) + shift - points
    residual = math.sqrt(np.vdot(off, off) / len(off)) / scale
    return Pose(*angles_from_rotation(rotation), rotation, scale, shift, residual)


_NOWHERE = Pose(*(math.nan,) * 3, np.full((3, 3), np.nan), math.nan, np.full(3, np.nan), math.nan)


def fit_robust(
    mean: FloatArray, points: FloatArray, iterations: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """(scale, R, t) of ``fit_similarity``, Huber-weighted; the limit of each round after the
    first is 1.5 times the (upper) median residual of the round before."""
    source, target = _with_ones(mean), _with_ones(points)
    weights = np.ones(len(points))
    for number in range(iterations):
        scale, rotation, shift = _fit_columns(source, target, weights)
        if number + 1 < iterations:
            off = (scale * rotation) @ source[:3]
            off += shift[:, None]
            off -= target[:3]
            squares = np.einsum("ij,ij->j", off, off)
            middle = len(squares) // 2
            limit = 1.5 * math.sqrt(np.partition(squares, middle)[middle])
            squares = np.maximum(squares, (1e-12 * scale) ** 2)
            weights = np.sqrt(np.minimum(1.0, max(limit, 1e-9 * scale) ** 2 / squares))
    return scale, rotation, shift


def _with_ones(points: FloatArray) -> NDArray[np.float64]:
    """Points (P, 3) -> (4, P), the last row ones."""
    columns = np.ones((4, len(points)))
    columns[:3] = np.asarray(points).T
    return columns


def _fit_columns(
    source: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    # All sums at once: moments of the points with a row of ones.
    weighted = source * weights
    moments = target @ weighted.T
    total = moments[3, 3]
    center_s, center_t = moments[3, :3] / total, moments[:3, 3] / total
    squares = float(np.vdot(weighted[:3], source[:3])) / total
    spread = squares - float(center_s @ center_s)
    u, d, vt = np.linalg.svd(moments[:3, :3] / total - np.outer(center_t, center_s))
    if _determinant(u) * _determinant(vt) < 0:
        u[:, 2] *= -1
        d[2] *= -1
    rotation = u @ vt
    scale = float(d.sum() / spread)
    return scale, rotation, center_t - scale * rotation @ center_s


def _determinant(m: NDArray[np.float64]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = m.tolist()
    return float(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def pose_of_fit(fit: FloatArray) -> Pose:
    """The pose of a fit (14,) made in y-down axes: scale, rotation row by row, translation,
    residual."""
    rotation = np.asarray(fit[1:10], np.float64).reshape(3, 3) * _FLIPS
    angles = angles_from_rotation(rotation)
    return Pose(*angles, rotation, float(fit[0]), fit[10:13] * Y_UP, float(fit[13]))
