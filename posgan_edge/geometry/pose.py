"""Head pose by a robust similarity fit, in the AFLW2000-3D convention.

``R = Rx(pitch) @ Ry(yaw) @ Rz(roll)`` in y-up space (x right, y up, z towards the camera) with
``Rx = [1 0 0; 0 c s; 0 -s c]``, ``Ry = [c 0 -s; 0 1 0; s 0 c]``, ``Rz = [c s 0; -s c 0; 0 0 1]``,
the convention of the 300W-LP and AFLW2000-3D labels (Zhu et al., CVPR 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.sampling import sample_map
from posgan_edge.types import FloatArray

_Y_UP = np.array([1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Pose:
    """Head pose: angles in degrees and the rotation (3, 3) float64 they stand for.

    The mean face maps to y-up space as ``scale * rotation @ point + translation``; scale and
    translation are in frame pixels (of crop units where the pose was fitted without a crop).
    ``residual`` is the root-mean-square distance of the mean face, so placed, from the face's
    points, over ``scale``: about 0.02 for a face, and far more where there is none.
    """

    pitch: float
    yaw: float
    roll: float
    rotation: NDArray[np.float64]
    scale: float
    translation: NDArray[np.float64]
    residual: float = 0.0

    @property
    def in_plane(self) -> float:
        """How far the head's up axis leans in the picture, degrees clockwise on the screen.

        Unlike ``roll``, which turns about the nose, it stays steady at large yaw.
        """
        return float(np.degrees(np.arctan2(self.rotation[0, 1], self.rotation[1, 1])))


def rotation_from_angles(pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    """(3, 3) rotation from angles in degrees, in the convention of this module."""
    (cp, cy, cr), (sp, sy, sr) = (f(np.radians([pitch, yaw, roll])) for f in (np.cos, np.sin))
    rx = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    ry = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    rz = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return rx @ ry @ rz


def angles_from_rotation(rotation: FloatArray) -> tuple[float, float, float]:
    """(pitch, yaw, roll) in degrees; yaw in [-90, 90]. At yaw = +-90 roll is set to zero."""
    r = np.asarray(rotation, np.float64)
    yaw = np.arcsin(np.clip(-r[0, 2], -1, 1))
    if abs(r[0, 2]) > 1 - 1e-9:
        pitch, roll = np.arctan2(-r[2, 1], r[1, 1]), 0.0
    else:
        pitch, roll = np.arctan2(r[1, 2], r[2, 2]), np.arctan2(r[0, 1], r[0, 0])
    return float(np.degrees(pitch)), float(np.degrees(yaw)), float(np.degrees(roll))


def fit_similarity(
    source: FloatArray, target: FloatArray, weights: FloatArray | None = None
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares (scale, R, t) with ``target ~ scale * R @ source + t`` (Umeyama, 1991).

    ``source`` and ``target`` are (P, 3); ``weights`` (P,), non-negative.
    """
    w = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    # All sums at once: moments of the points with a column of ones.
    moments = (np.column_stack([target, np.ones(len(target))]) * w[:, None]).T @ np.column_stack(
        [source, np.ones(len(source))]
    )
    total = moments[3, 3]
    center_s, center_t = moments[3, :3] / total, moments[:3, 3] / total
    spread = float(w @ np.einsum("ij,ij->i", source, source)) / total - center_s @ center_s
    u, d, vt = np.linalg.svd(moments[:3, :3] / total - np.outer(center_t, center_s))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = (u * sign) @ vt
    scale = float((d * sign).sum() / spread)
    return scale, rotation, center_t - scale * rotation @ center_s


def fit_pose(
    position_map: FloatArray, layout: UvLayout, crop: Crop | None = None, iterations: int = 4
) -> Pose:
    """The pose of a map (3, M, M) by Huber-weighted similarity fits of the layout's mean face.

    With ``crop`` it is that in the frame, scale and translation in frame pixels; without, that in
    the crop, in units of its side. All NaN where the map has NaN at the mean face's points.
    """
    points = sample_map(position_map, layout.mean_uv)
    if crop is not None:
        points = crop.to_frame(points)
    points = points * _Y_UP
    if not np.isfinite(points).all():
        return Pose(*(np.nan,) * 3, np.full((3, 3), np.nan), np.nan, np.full(3, np.nan), np.nan)
    scale, rotation, shift = fit_robust(layout.mean_points, points, iterations)
    off = scale * layout.mean_points @ rotation.T + shift - points
    residual = float(np.sqrt(np.square(off).sum(axis=1).mean()) / scale)
    return Pose(*angles_from_rotation(rotation), rotation, scale, shift, residual)


def fit_robust(
    mean: FloatArray, points: FloatArray, iterations: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """(scale, R, t) of ``fit_similarity``, Huber-weighted; the limit of each round after the
    first is 1.5 times the (upper) median residual of the round before."""
    weights = np.ones(len(points))
    for number in range(iterations):
        scale, rotation, shift = fit_similarity(mean, points, weights)
        if number + 1 < iterations:
            off = mean @ (scale * rotation.T) + shift - points
            residual = np.sqrt(np.einsum("ij,ij->i", off, off))
            middle = len(residual) // 2
            limit = max(1.5 * float(np.partition(residual, middle)[middle]), 1e-9 * scale)
            weights = np.minimum(1.0, limit / np.maximum(residual, 1e-12 * scale))
    return scale, rotation, shift


def pose_of_fit(fit: FloatArray) -> Pose:
    """The pose of a fit (14,) made in y-down axes: scale, rotation row by row, translation,
    residual."""
    flip = np.diag(_Y_UP)
    rotation = flip @ np.asarray(fit[1:10], np.float64).reshape(3, 3) @ flip
    angles = angles_from_rotation(rotation)
    return Pose(*angles, rotation, float(fit[0]), fit[10:13] * _Y_UP, float(fit[13]))
