"""Reading photos with 68 human points: an ``.npz`` file, or a folder of ``.pts`` files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posgan_edge.archives import check_offsets, read_arrays
from posgan_edge.arrays import FARTHEST, FloatArray, Image
from posgan_edge.errors import BadInput
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.images import decode_image

#: The label set of these faces.
HUMAN = "human"
#: How far outside the picture a point may lie, in sizes of the face. People also mark points
#: that the border cuts off.
_OUTSIDE = 0.1
_KEYS = ("jpeg", "offsets", "pts68", "name")
_PHOTOS = (".jpg", ".jpeg", ".png", ".bmp")


class BadLabels(BadInput):
    """Labels that cannot belong to their photo. This error ends a benchmark; a broken photo does
    not."""


@dataclass(frozen=True)
class HumanFace(LabelledFace):
    """One face with 68 points set by a person.

    ``original`` is (68, 2) float32 in continuous pixel coordinates of the photo; there is no
    re-annotation, and ``angles`` is None. If ``path`` is a file with many photos, ``encoded`` holds
    the bytes of this one (JPEG); otherwise ``path`` is the photo.
    """

    encoded: NDArray[np.uint8] | None = field(default=None, kw_only=True, repr=False)
    labels_path: Path = field(default=Path(), kw_only=True)

    def image(self) -> Image:
        """Returns the photo (H, W, 3) uint8 BGR; it is decoded at each call.

        Raises BadInput for a broken photo, and BadLabels if a point lies outside it.
        """
        if self.encoded is None:
            picture = super().image()
        else:
            picture = decode_image(self.encoded, f"{self.path}: face {self.name}")
        self._check_inside(picture)
        return picture

    def _check_inside(self, picture: Image) -> None:
        height, width = picture.shape[:2]
        points = self.original
        slack = _OUTSIDE * float(np.ptp(points, axis=0).max())
        outside = ((points < -slack) | (points > np.array([width, height]) + slack)).any(axis=1)
        if outside.any():
            index = int(np.flatnonzero(outside)[0])
            x, y = points[index]
            raise BadLabels(
                f"{self.labels_path}: face {self.name}: point {index} ({x:.0f}, {y:.0f}) lies out "
                f"of the picture ({width}x{height})"
            )


def load_human_npz(path: str | Path) -> list[HumanFace]:
    """Returns the faces of an ``.npz`` file, in its order.

    The file holds ``jpeg`` (bytes,) uint8, the JPEG files one after the other; ``offsets``
    (n + 1,), where each begins and the last ends; ``pts68`` (n, 2, 68) in continuous pixel
    coordinates; and ``name`` (n,). Raises BadInput for any other file, and for a face whose
    points are not 68 finite ones.
    """
    path = Path(path)
    try:
        jpeg, offsets, points, names = read_arrays(path, _KEYS).values()
    except BadInput as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise BadInput(
            f"{path}: not a set with human points: an .npz needs {', '.join(_KEYS)}: {reason}"
        ) from error
    if points.ndim != 3 or points.shape[1:] != (2, 68) or points.dtype.kind not in "fiu":
        kind = "" if points.dtype.kind in "fiu" else f"{points.dtype} "
        raise BadInput(f"{path}: pts68 is {kind}{points.shape}, not (n, 2, 68)")
    count = len(points)
    if offsets.shape != (count + 1,) or names.shape != (count,):
        raise BadInput(
            f"{path}: {count} faces in pts68, but offsets is {offsets.shape} and name "
            f"{names.shape}: they must be ({count + 1},) and ({count},)"
        )
    if offsets.dtype.kind not in "iu" or names.dtype.kind not in "US":
        raise BadInput(
            f"{path}: offsets is {offsets.dtype} and name {names.dtype}: whole numbers and text "
            "are needed"
        )
    check_offsets(path, jpeg, offsets)
    faces = [
        HumanFace(
            str(name),
            path,
            _checked(points[i].T, f"{path}: face {name}"),
            None,
            None,
            encoded=jpeg[offsets[i] : offsets[i + 1]],
            labels_path=path,
        )
        for i, name in enumerate(names)
    ]
    return _named_once(faces, path)


def load_pts_folder(folder: str | Path) -> list[HumanFace]:
    """Returns the faces of a folder and its sub-folders, sorted by name.

    A face is a ``NAME.pts`` with a photo beside it. Its name is the path within the folder,
    without the suffix. Raises BadInput naming a file that does not hold 68 points or has no photo.
    """
    folder = Path(folder)
    faces = []
    for path in sorted(folder.rglob("*.pts")):
        photos = [path.with_suffix(s) for suffix in _PHOTOS for s in (suffix, suffix.upper())]
        photo = next((photo for photo in photos if photo.is_file()), None)
        if photo is None:
            raise BadInput(f"{path}: no photo beside it: {path.stem}.jpg or .png is needed")
        name = path.relative_to(folder).with_suffix("").as_posix()
        faces.append(HumanFace(name, photo, read_pts(path), None, None, labels_path=path))
    if not faces:
        raise BadInput(f"{folder}: no NAME.pts here")
    return faces


def read_pts(path: str | Path) -> NDArray[np.float32]:
    """Returns the points (68, 2) float32 of a ``.pts`` file of 300-W, in continuous coordinates.

    In the file, (1, 1) is the centre of the top-left pixel. Here that is (0.5, 0.5), so 0.5 is
    subtracted. Raises BadInput for any other file, and for points that are not 68 finite ones.
    """
    path = Path(path)
    try:
        head, opened, rest = path.read_text().partition("{")
        body, closed, _ = rest.partition("}")
        if not opened or not closed:
            raise ValueError("no { points }")
        points = [[float(value) for value in line.split()] for line in body.split("\n")]
        fields = dict(line.split(":", 1) for line in head.splitlines() if line.strip())
        stated = int(fields.get("n_points", "68"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a .pts file of 300-W: {error}") from error
    points = [point for point in points if point]
    if wrong := [p for p in points if len(p) != 2]:
        raise BadInput(f"{path}: a point of {len(wrong[0])} numbers, not 2")
    if stated != len(points):
        raise BadInput(f"{path}: says n_points {stated}, and holds {len(points)}")
    return _checked(np.array(points, np.float64).reshape(-1, 2) - 0.5, str(path))


def _checked(points: FloatArray, where: str) -> NDArray[np.float32]:
    if points.shape != (68, 2):
        raise BadInput(f"{where}: {len(points)} points, not 68")
    if not np.isfinite(points).all():
        index = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise BadInput(f"{where}: point {index} is not a number")
    if np.abs(points).max() > FARTHEST:
        index = int(np.abs(points).max(axis=1).argmax())
        raise BadInput(f"{where}: point {index} is more than {FARTHEST:g} pixels away")
    if not np.ptp(points, axis=0).all():
        raise BadInput(f"{where}: all points lie on one line: the face has no size")
    return np.ascontiguousarray(points, np.float32)


def _named_once(faces: list[HumanFace], path: Path) -> list[HumanFace]:
    seen: set[str] = set()
    for face in faces:
        if face.name in seen:
            raise BadInput(f"{path}: face {face.name} is there twice")
        seen.add(face.name)
    return faces
