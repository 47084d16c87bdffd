"""UV layouts: which point of the face each pixel of a position map is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.errors import BadInput
from posgan_edge.files import as_path
from posgan_edge.geometry.sampling import LARGEST_MAP, sample_map

#: iBUG-68 landmark indices of each facial region (used for names, drawing and weights).
REGIONS: dict[str, tuple[int, ...]] = {
    "jaw": tuple(range(17)),
    "right_eyebrow": tuple(range(17, 22)),
    "left_eyebrow": tuple(range(22, 27)),
    "nose_bridge": tuple(range(27, 31)),
    "nose_base": tuple(range(31, 36)),
    "right_eye": tuple(range(36, 42)),
    "left_eye": tuple(range(42, 48)),
    "outer_lips": tuple(range(48, 60)),
    "inner_lips": tuple(range(60, 68)),
}
#: The regions whose last point joins the first.
CLOSED_REGIONS = ("right_eye", "left_eye", "outer_lips", "inner_lips")
#: The landmark set that every layout has, and that of people's points (only of ``ict``).
DEFAULT_SET, HUMAN_SET = "aflw", "300w"
#: The layouts that are shipped.
BUILT_IN = ("ict", "prnet")
_INNER_POLYGONS = (
    REGIONS["right_eye"],
    REGIONS["left_eye"],
    REGIONS["outer_lips"],
    (27, 31, 32, 33, 34, 35),
)


@dataclass(frozen=True, eq=False)
class UvLayout:
    """A UV layout. Layouts are equal if all their arrays are.

    ``landmark_uv`` (68, 2) float32 in [0, 1], u right and v down (see ``geometry.sampling``);
    ``mask`` (M, M) bool, True where the map is a face; ``mean_uv`` (P, 2) float32 and
    ``mean_points`` (P, 3) float32: the mean face in y-up space facing +z (pitch, yaw and roll
    zero in the AFLW2000-3D convention), centred, of unit root-mean-square radius.
    ``landmark_sets`` holds places (68, 2) of the landmarks by name. ``aflw`` is the convention of
    AFLW2000-3D and 300W-LP, which ``load_layout`` gives; ``300w`` is where people put the points
    in 300-W's photos (inner points only, the jaw is the same). See ``with_landmarks``. Raises
    BadInput for values of another type or shape.

    >>> from posgan_edge import load_layout
    >>> layout = load_layout("ict")
    >>> layout.mask.shape, layout.masked
    ((128, 128), True)
    """

    name: str
    resolution: int
    landmark_uv: NDArray[np.float32]
    mask: NDArray[np.bool_]
    mean_uv: NDArray[np.float32]
    mean_points: NDArray[np.float32]
    landmark_sets: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise BadInput(f"the layout's name is {arrays.described(self.name)}: give a string")
        size = arrays.whole(self.resolution, "resolution", 1, LARGEST_MAP)
        if not (isinstance(self.mask, np.ndarray) and self.mask.dtype == np.bool_) or (
            self.mask.shape != (size, size)
        ):
            raise BadInput(f"mask is {arrays.described(self.mask)}: give bool ({size}, {size})")
        count = len(arrays.array(self.mean_uv, "mean_uv", (None, 2)))
        arrays.array(self.mean_points, "mean_points", (count, 3))
        if not isinstance(self.landmark_sets, Mapping):
            raise BadInput(f"landmark_sets is {arrays.described(self.landmark_sets)}: give a dict")
        sets = {"mean_uv": self.mean_uv, "landmark_uv": self.landmark_uv, **self.landmark_sets}
        for name, uv in sets.items():
            uv = arrays.array(uv, str(name), (None if name == "mean_uv" else 68, 2))
            if not 0 <= np.min(uv) <= np.max(uv) <= 1:
                raise BadInput(f"{name} has values outside 0 to 1")

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, UvLayout):
            return self is other
        mine, others = ((x.landmark_uv, x.mask, x.mean_uv, x.mean_points) for x in (self, other))
        return self.name == other.name and all(map(np.array_equal, mine, others))

    def __hash__(self) -> int:
        return hash((self.name, self.resolution))

    @property
    def masked(self) -> bool:
        """Whether the layout has a mask; if not, every pixel counts as face."""
        return not self.mask.all()

    def landmarks(self, maps: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """The 68 landmarks of maps (..., 3, M, M) -> (..., 68, 3), in the maps' units.

        Raises BadInput for other shapes.
        """
        return sample_map(maps, self.landmark_uv)

    @property
    def landmark_set(self) -> str:
        """The name of the set that ``landmark_uv`` is; empty if it is none of ``landmark_sets``."""
        sets = self.landmark_sets.items()
        return next((name for name, uv in sets if np.array_equal(uv, self.landmark_uv)), "")

    def with_landmarks(self, name: str) -> UvLayout:
        """A copy of this layout whose 68 landmarks are those of a set, ``aflw`` or ``300w``.

        Give it to ``FacePipeline`` or ``FaceTracker`` as ``layout``. Raises BadInput if the layout
        has no such set.

        >>> from posgan_edge import load_layout
        >>> load_layout("ict").with_landmarks("300w").landmark_set
        '300w'
        """
        if not isinstance(name, str) or name not in self.landmark_sets:
            known = " or ".join(map(repr, self.landmark_sets)) or "none"
            raise BadInput(
                f"UV layout {self.name!r} has no landmark set {arrays.described(name)}: it has "
                f"{known}"
            )
        return replace(self, landmark_uv=self.landmark_sets[name])

    def mask_at(self, resolution: int) -> NDArray[np.bool_]:
        """The face mask (M, M) at another resolution M, nearest pixel centre.

        Raises BadInput for a resolution that is no whole number from 1 to 8192.
        """
        resolution = arrays.whole(resolution, "resolution", 1, LARGEST_MAP)
        index = ((np.arange(resolution) + 0.5) / resolution * self.resolution).astype(int)
        mask: NDArray[np.bool_] = self.mask[np.ix_(index, index)]
        return mask

    def weights(self, resolution: int | None = None) -> NDArray[np.float32]:
        """Map weights (M, M) for training: landmarks 16, eyes, nose and mouth 4, face 3, else 0.

        The weights are those of the original system. The regions are polygons of this layout's
        landmarks. Raises BadInput for a resolution that is no whole number from 1 to 8192.
        """
        size = self.resolution if resolution is None else resolution
        size = arrays.whole(size, "resolution", 1, LARGEST_MAP)
        v, u = np.meshgrid(*(((np.arange(size) + 0.5) / size,) * 2), indexing="ij")
        weights = np.where(self.mask_at(size), 3.0, 0.0)
        for polygon in _INNER_POLYGONS:
            weights[_inside(u, v, self.landmark_uv[list(polygon)])] = 4.0
        column, row = np.minimum((self.landmark_uv * size).astype(int), size - 1).T
        weights[row, column] = 16.0
        return weights.astype(np.float32)

    def with_mask_file(self, path: str | Path) -> UvLayout:
        """A copy of this layout with the mask of a square picture, in which the face is bright.

        Give it to ``FacePipeline`` or ``FaceTracker`` as ``layout``. Raises BadInput if the picture
        cannot be read or is not square.
        """
        import cv2

        from posgan_edge.images import read_image

        path = as_path(path)
        what = f"{path}: not a square mask picture"
        try:
            picture = cv2.cvtColor(read_image(path), cv2.COLOR_BGR2GRAY)
        except BadInput as error:
            raise BadInput(f"{what}: {str(error).removeprefix(f'{path}: ')}") from error
        if picture.shape[0] != picture.shape[1] or len(picture) > LARGEST_MAP:
            raise BadInput(f"{what}: give an (M, M) grey image, M up to {LARGEST_MAP}")
        return replace(self, resolution=picture.shape[0], mask=picture > 127)


def _inside(
    u: NDArray[np.float64], v: NDArray[np.float64], polygon: NDArray[np.floating[Any]]
) -> NDArray[np.bool_]:
    inside = np.zeros(u.shape, bool)
    for (u0, v0), (u1, v1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if v0 != v1:
            crosses = (v0 > v) != (v1 > v)
            inside ^= crosses & (u < (u1 - u0) * (v - v0) / (v1 - v0) + u0)
    return inside


def load_layout(name: str) -> UvLayout:
    """A built-in layout, ``ict`` or ``prnet``. Raises BadInput for any other name.

    >>> from posgan_edge import load_layout
    >>> load_layout("ict").landmark_uv.shape
    (68, 2)
    """
    if not isinstance(name, str) or name not in BUILT_IN:
        raise BadInput(f"unknown UV layout {arrays.described(name)}: use 'ict' or 'prnet'")
    return _loaded(name)


@cache
def _loaded(name: str) -> UvLayout:
    file = resources.files("posgan_edge.assets") / f"layout-{name}.npz"
    with file.open("rb") as stream, np.load(stream) as data:
        sets = {DEFAULT_SET: data["landmark_uv"]}
        if "landmarks_300w" in data:
            sets[HUMAN_SET] = data["landmarks_300w"]
        return UvLayout(
            name=name,
            resolution=int(data["mask"].shape[0]),
            landmark_uv=sets[DEFAULT_SET],
            mask=data["mask"],
            mean_uv=data["mean_uv"],
            mean_points=data["mean_points"],
            landmark_sets=sets,
        )
