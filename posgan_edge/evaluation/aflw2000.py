"""Reading AFLW2000-3D.

The set may be a folder or a zip, with or without a re-annotation, or the pre-cropped folder that
the original Image-to-Position GAN is benchmarked on.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posgan_edge.archives import check_array, read_array
from posgan_edge.arrays import FARTHEST, Image
from posgan_edge.errors import BadInput
from posgan_edge.evaluation.matlab import read_matrices
from posgan_edge.evaluation.reannotation import find_reannotation, load_reannotation
from posgan_edge.files import scratch_folder
from posgan_edge.geometry.axes import opencv_matrix
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.values import FaceBox


@dataclass(frozen=True)
class LabelledFace:
    """One face of the set, in this package's continuous coordinates.

    The labels are 1-based pixel positions; continuous = label - 0.5. ``original`` is (68, 3)
    float32, z up to an offset; ``reannotated`` (68, 2) float32 or None; ``angles`` are
    (pitch, yaw, roll) in degrees as labelled, None in a set without them.
    """

    name: str
    path: Path
    original: NDArray[np.float32]
    reannotated: NDArray[np.float32] | None
    angles: NDArray[np.float64] | None
    cropped: Crop | None = field(default=None, kw_only=True)  # set if the photo is already the crop

    @property
    def crop(self) -> Crop:
        """The ground-truth crop: centred on the label box, sqrt(2) times its longer side."""
        return self.cropped or Crop.from_box(FaceBox.around(self.original))

    def image(self) -> Image:
        """Returns the photo (H, W, 3) uint8 BGR. Raises BadInput if it cannot be read."""
        from posgan_edge.images import read_image

        return read_image(self.path)

    def labels(self, label_set: str) -> NDArray[np.float32]:
        """Returns the points (68, 2 or 3) of a label set in photo pixels.

        ``reannotated`` gives the re-annotation; every other name gives ``original``. Raises
        BadInput if the face has no such labels.
        """
        points = self.reannotated if label_set == "reannotated" else self.original
        if points is None:
            raise BadInput(f"{self.path}: has no re-annotated landmarks")
        return points


@contextmanager
def open_dataset(path: str | Path) -> Iterator[Path]:
    """Yields the folder of a data set. A zip is unpacked while the block runs.

    Of a zip only ``.jpg``, ``.mat`` and ``reannotated.*`` are unpacked, without their folders.
    Raises BadInput for a file that is not a zip.
    """
    path = Path(path)
    if not path.is_file():
        yield path
        return
    with scratch_folder() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    name = Path(member.filename).name
                    if name.endswith((".jpg", ".mat")) or name.startswith("reannotated."):
                        (Path(folder) / name).write_bytes(archive.read(member))
        except (zipfile.BadZipFile, OSError, RuntimeError) as error:
            raise BadInput(f"{path}: neither a folder nor a whole zip of one: {error}") from error
        yield Path(folder)


def load_aflw2000(
    folder: str | Path, limit: int | None = None, reannotation: str | Path | None = None
) -> list[LabelledFace]:
    """Returns the faces of a folder, sorted by name.

    A face is a ``NAME.jpg`` with a ``NAME.mat`` beside it, or a pre-cropped
    ``NAME/NAME_cropped.jpg`` with ``NAME_bbox_info.mat``. The re-annotation is read from
    ``reannotation``, or else from the folder (see ``find_reannotation``). ``limit`` is the
    largest number of faces. Raises BadInput naming the file that cannot be used.
    """
    folder = Path(folder)
    photos = sorted(p for p in folder.glob("*.jpg") if p.with_suffix(".mat").is_file())
    if photos:
        names = [photo.stem for photo in photos]
        found = Path(reannotation) if reannotation is not None else find_reannotation(folder)
        again = load_reannotation(found, names) if found is not None else {}
        return [_read(photo, again.get(photo.stem)) for photo in photos[:limit]]
    if cropped := sorted(folder.glob("*/*_cropped.jpg")):
        return [_read_cropped(photo) for photo in cropped[:limit]]
    found_ = _kinds(folder)
    raise BadInput(f"{folder}: no NAME.jpg with NAME.mat of AFLW2000-3D here ({found_} found)")


def _kinds(folder: Path) -> str:
    """Returns what a folder holds, as text for a message."""
    if not folder.is_dir():
        return "no folder"
    counts: dict[str, int] = {}
    for path in folder.iterdir():
        kind = "folders" if path.is_dir() else path.suffix or "files without suffix"
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) or "0"


@dataclass(frozen=True)
class TurnedFace(LabelledFace):
    """A face whose photo is turned about its centre, grown so that nothing is cut off."""

    upright: LabelledFace = field(kw_only=True)
    degrees: float = field(kw_only=True)

    def image(self) -> Image:
        import cv2

        image = self.upright.image()
        matrix, size = _turn(image.shape[1], image.shape[0], self.degrees)
        return cv2.warpAffine(image, opencv_matrix(matrix), size, flags=cv2.INTER_LINEAR)


def landmark_labels(folder: str | Path) -> dict[str, NDArray[np.float32]]:
    """Returns landmarks (68, 3) float32 in photo pixels by file stem.

    The result is empty if no photo has a .mat label. Raises BadInput for a broken label.
    """
    photos = (p for p in Path(folder).glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not any(photo.with_suffix(".mat").is_file() for photo in photos):
        return {}
    return {face.name: face.original for face in load_aflw2000(folder)}


def turned(face: LabelledFace, degrees: float) -> LabelledFace:
    """Returns the face with photo and landmarks turned clockwise; the angles stay as labelled."""
    height, width = face.image().shape[:2]
    matrix, _ = _turn(width, height, degrees)

    def turn(points: NDArray[np.float32]) -> NDArray[np.float32]:
        points = points.copy()
        points[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        return points

    again = None if face.reannotated is None else turn(face.reannotated)
    points = turn(face.original)
    return TurnedFace(
        face.name, face.path, points, again, face.angles, upright=face, degrees=degrees
    )


def _turn(width: int, height: int, degrees: float) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Returns a matrix (2, 3) in continuous coordinates, and the new (width, height) in pixels."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.array([[c, -s], [s, c]])
    size = np.ceil(np.abs(rotation) @ (width, height) - 1e-6)
    shift = size / 2 - rotation @ (width / 2, height / 2)
    return np.column_stack([rotation, shift]), (int(size[0]), int(size[1]))


def _read(photo: Path, reannotated: NDArray[np.float32] | None) -> LabelledFace:
    path = photo.with_suffix(".mat")
    content = read_matrices(path, "pt3d_68", "Pose_Para")
    points, pose = content["pt3d_68"], content["Pose_Para"].reshape(-1)[:3]
    check_array(points, f"{path}: pt3d_68", (3, 68), "fiu")
    check_array(pose, f"{path}: Pose_Para", (3,), "fiu")
    points = points.T.astype(np.float32)
    _check_size(points, f"{path}: pt3d_68")
    angles = np.degrees(pose.astype(np.float64))
    points[:, :2] -= 0.5
    return LabelledFace(photo.stem, photo, points, reannotated, angles)


def _read_cropped(photo: Path) -> LabelledFace:
    """A face of the original's benchmark folder: ``Kpt`` are 0-based pixels of the crop."""
    from posgan_edge.geometry.layout import load_layout
    from posgan_edge.geometry.pose import fit_pose
    from posgan_edge.images import read_image

    name = photo.name.removesuffix("_cropped.jpg")
    path = photo.with_name(f"{name}_bbox_info.mat")
    points = read_matrices(path, "Kpt")["Kpt"]
    points = points.T if points.shape[-1] == 68 else points
    check_array(points, f"{path}: Kpt", (68, None), "fiu")
    points = points.astype(np.float32)
    map_path = photo.with_name(f"{name}_cropped_uv_posmap.npy")
    position_map = read_array(map_path)
    check_array(position_map, f"{map_path}: the map", (256, 256, 3), "fiu")
    position_map = position_map.transpose(2, 0, 1).astype(np.float32)
    side = read_image(photo).shape[0]
    layout = load_layout("prnet")
    position_map[:2] += 0.5
    mapped = layout.landmarks(position_map)
    if points.shape not in ((68, 2), (68, 3)):
        raise BadInput(f"{path}: Kpt is {points.shape}, not (68, 3)")
    points[:, :2] += 0.5
    away = np.linalg.norm(points[:, :2] - mapped[:, :2], axis=1)
    if np.median(away) > 0.05 * side:
        raise BadInput(
            f"{path}: Kpt lies {np.median(away):.0f} pixels from the position map's landmarks: "
            "not in the pixels of the crop"
        )
    if points.shape[1] == 2:
        points = np.column_stack([points, mapped[:, 2]])
    pose = fit_pose(position_map, layout)
    angles = np.array([pose.pitch, pose.yaw, pose.roll])
    crop = Crop(side / 2, side / 2, side)
    return LabelledFace(name, photo, points, None, angles, cropped=crop)


def _check_size(points: NDArray[np.float32], where: str) -> None:
    """Raises BadInput for a face without width or height, or one that no picture holds."""
    size = np.ptp(points[:, :2], axis=0)
    if not (size.min() > 0 and np.abs(points).max() <= FARTHEST):
        raise BadInput(f"{where}: the face is {size[0]:.3g} x {size[1]:.3g} pixels")
