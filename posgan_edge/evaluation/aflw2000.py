"""Reading AFLW2000-3D as it is distributed, with the LS3D-W re-annotation beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posgan_edge.errors import BadInput, missing
from posgan_edge.types import Image


@dataclass(frozen=True)
class LabelledFace:
    """One face of the set, in this package's continuous coordinates.

    The labels are 1-based pixel positions; continuous = label - 0.5. ``original`` is (68, 3)
    float32, z up to an offset; ``reannotated`` (68, 2) float32 or None; ``angles`` are
    (pitch, yaw, roll) in degrees as labelled.
    """

    name: str
    path: Path
    original: NDArray[np.float32]
    reannotated: NDArray[np.float32] | None
    angles: NDArray[np.float64]

    def image(self) -> Image:
        """The photo (H, W, 3) uint8 BGR."""
        from posgan_edge.vision.images import read_image

        return read_image(self.path)

    def labels(self, label_set: str) -> NDArray[np.float32]:
        """The points of ``original`` or ``reannotated``. Raises BadInput where there are none."""
        points = self.original if label_set == "original" else self.reannotated
        if points is None:
            raise BadInput(f"{self.path}: has no re-annotated landmarks")
        return points


def load_aflw2000(folder: str | Path, limit: int | None = None) -> list[LabelledFace]:
    """Every ``NAME.jpg`` with a ``NAME.mat`` beside it, by name.

    Re-annotated landmarks are read from ``reannotated.npz`` (``name`` (n,), ``pts68``
    (n, 2, 68)) where the folder has one. Raises BadInput naming what is not as it should be.
    """
    folder = Path(folder)
    photos = sorted(p for p in folder.glob("*.jpg") if p.with_suffix(".mat").is_file())
    if not photos:
        found = len(list(folder.glob("*"))) if folder.is_dir() else "no folder"
        raise BadInput(f"{folder}: no NAME.jpg with NAME.mat of AFLW2000-3D here ({found} found)")
    again = _reannotation(folder / "reannotated.npz")
    return [_read(photo, again.get(photo.stem)) for photo in photos[:limit]]


@dataclass(frozen=True)
class TurnedFace(LabelledFace):
    """A face whose photo is turned about its centre, grown so that nothing is cut off."""

    degrees: float = 0.0

    def image(self) -> Image:
        import cv2

        image = super().image()
        matrix, size = _turn(image.shape[1], image.shape[0], self.degrees)
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)


def turned(face: LabelledFace, degrees: float) -> LabelledFace:
    """The face with photo and labels turned clockwise; the pose labels are not turned."""
    height, width = face.image().shape[:2]
    matrix, _ = _turn(width, height, degrees)

    def turn(points: NDArray[np.float32]) -> NDArray[np.float32]:
        points = points.copy()
        points[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        return points

    again = None if face.reannotated is None else turn(face.reannotated)
    return TurnedFace(face.name, face.path, turn(face.original), again, face.angles, degrees)


def _turn(width: int, height: int, degrees: float) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """(2, 3) matrix in continuous coordinates and the size (width, height) of the result."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.array([[c, -s], [s, c]])
    size = np.ceil(np.abs(rotation) @ (width, height) - 1e-6)
    shift = size / 2 - rotation @ (width / 2, height / 2)
    return np.column_stack([rotation, shift]), (int(size[0]), int(size[1]))


def _reannotation(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.is_file():
        return {}
    try:
        with np.load(path) as data:
            points = data["pts68"].transpose(0, 2, 1).astype(np.float32) - 0.5
            return dict(zip(data["name"].tolist(), points, strict=True))
    except (KeyError, ValueError, OSError) as error:
        raise BadInput(f"{path}: needs 'name' (n,) and 'pts68' (n, 2, 68): {error}") from error


def _read(photo: Path, reannotated: NDArray[np.float32] | None) -> LabelledFace:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise missing("SciPy", "reading .mat labels", "benchmark") from error
    path = photo.with_suffix(".mat")
    try:
        content = loadmat(path)
        points = content["pt3d_68"].T.astype(np.float32)
        angles = np.degrees(content["Pose_Para"][0, :3].astype(np.float64))
    except Exception as error:  # scipy raises many kinds on a broken file
        raise BadInput(f"{path}: broken label file: {type(error).__name__} {error}") from error
    if points.shape != (68, 3):
        raise BadInput(f"{path}: pt3d_68 is {points.T.shape}, not (3, 68)")
    points[:, :2] -= 0.5
    return LabelledFace(photo.stem, photo, points, reannotated, angles)
