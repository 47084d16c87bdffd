"""Training sets: the position-map pack and the original's folders, with one interface."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posgan_edge.archives import check_array, check_offsets, read_array, read_arrays
from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.geometry.layout import load_layout
from posgan_edge.images import decode_image, read_image
from posgan_edge.training.augment import augment_image
from posgan_edge.training.folders import input_pictures, label_of
from posgan_edge.training.recipe import Augmentation

#: One sample: image (S, S, 3) uint8 RGB, mirrored, transform (2, 3) float32, target (any tensor).
Sample = tuple[Tensor, bool, Tensor, Tensor]


class FaceMaps(Protocol):
    """Pairs of a square face crop and its position map."""

    layout: str

    @property
    def yaw(self) -> NDArray[np.float32] | None:
        """Yaw (n,) in degrees; None if unknown."""
        ...

    @property
    def eyes(self) -> NDArray[np.float32] | None:
        """Openness (n, 2) of the eyes at points 36-41 and 42-47, height over width; None if
        unknown."""
        ...

    @property
    def mouth(self) -> NDArray[np.float32] | None:
        """Openness (n,) of the mouth, height over width; None if unknown."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """Returns the crop (S, S, 3) uint8 BGR."""
        ...

    def target(self, index: int) -> NDArray[np.float32]:
        """Returns the array from which ``maps`` makes the position map."""
        ...

    def maps(self, targets: Tensor) -> Tensor:
        """Returns position maps (N, 3, M, M) float32 in crop units for N stacked targets."""
        ...


class PackMaps:
    """A position-map pack: JPEG crops and maps coded in a linear basis.

    ``basis.npz``: ``mean`` (M, M, 3) float32, ``components`` (C, M, M, 3) float16; axes v, u, xyz;
    ``layout``, the name of the maps' UV layout (``ict`` if it is absent).
    ``train-*.npz`` and ``val.npz``, of n faces: ``jpeg`` (bytes,) uint8, the JPEG files of square
    crops one after the other; ``offsets`` (n + 1,) where each begins and the last ends; ``codes``
    (n, C) float32; ``yaw`` (n,) float32 degrees; if known, ``eyes`` (n, 2) and ``mouth`` (n,)
    float32, their height over their width. A face's map is ``mean`` + ``codes`` @ ``components``,
    in units of the crop's side (pixel i spans [i, i + 1); x right, y down, z towards the camera).

    ``split`` is ``train`` (every ``train-*.npz``) or ``val``. All images are
    decoded at the start. Raises BadInput if files are missing or broken.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        folder = Path(folder)
        files = sorted(folder.glob("train-*.npz" if split == "train" else f"{split}.npz"))
        if not files or not (folder / "basis.npz").is_file():
            raise BadInput(f"{folder}: no basis.npz and {split} files of a position-map pack here")
        self.folder = folder
        self.layout, self.basis = _read_basis(folder / "basis.npz")
        parts = [_read_part(file, len(self.basis) - 1) for file in files]
        codes = np.concatenate([part["codes"] for part in parts])
        self.codes = np.pad(codes, ((0, 0), (1, 0)), constant_values=1.0)
        self.yaw = np.concatenate([part["yaw"] for part in parts])
        self.eyes, self.mouth = (
            np.concatenate([part[name] for part in parts])
            if all(name in p for p in parts)
            else None
            for name in ("eyes", "mouth")
        )
        sides = {part["images"].shape[1] for part in parts}
        if len(sides) > 1:
            raise BadInput(f"{folder}: its pictures differ in size: {sorted(sides)} pixels")
        self.images = np.concatenate([part["images"] for part in parts])
        self._basis: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image:
        image: Image = self.images[index]
        return image

    def target(self, index: int) -> NDArray[np.float32]:
        codes: NDArray[np.float32] = self.codes[index]
        return codes

    def maps(self, targets: Tensor) -> Tensor:
        if self._basis is None or self._basis.device != targets.device:
            self._basis = torch.from_numpy(self.basis).flatten(1).to(targets.device)
        return (targets.float() @ self._basis).reshape(-1, *self.basis.shape[1:])


class FolderMaps:
    """The original's folders: ``InputImage/*.jpg`` and ``LabelImage_npy/<same>.npy``.

    Maps are (256, 256, 3) in pixel indices of their 256-pixel crop, UV layout ``prnet``. Raises
    BadInput if files are missing or broken.
    """

    layout = "prnet"
    yaw = eyes = mouth = None

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.images = input_pictures(folder)
        self.labels = [label_of(path) for path in self.images]
        absent = [p for p in self.labels if not p.is_file()]
        if absent:
            raise BadInput(f"{absent[0]}: {len(absent)} of {len(self.labels)} maps are missing")

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image:
        image = read_image(self.images[index])
        if image.shape[0] != image.shape[1]:
            raise BadInput(f"{self.images[index]}: not a square picture")
        return image

    def target(self, index: int) -> NDArray[np.float32]:
        pixels = read_array(self.labels[index])
        side = len(pixels) if pixels.ndim else 0
        check_array(pixels, f"{self.labels[index]}: the map", (None, side, 3))
        if not side:
            raise BadInput(f"{self.labels[index]}: the map is empty")
        target: NDArray[np.float32] = ((pixels.transpose(2, 0, 1) + 0.5) / side).astype(np.float32)
        return target

    def maps(self, targets: Tensor) -> Tensor:
        return targets


def open_maps(folder: str | Path, data_format: str, split: str = "train") -> FaceMaps:
    """Opens the data set of a recipe: ``data_format`` is ``pack`` or ``folder``.

    Data of the format ``folder`` may have sub-folders ``train`` and ``val``. Raises BadInput for
    another format, and if files are missing or broken.
    """
    if data_format == "pack":
        return PackMaps(folder, split)
    if data_format == "folder":
        inner = Path(folder) / split
        return FolderMaps(inner if inner.is_dir() else folder)
    raise BadInput(f"unknown data format {data_format!r}: use 'pack' or 'folder'")


class AugmentedMaps(torch.utils.data.Dataset[Sample]):
    """Augmented samples. The index (epoch, position, sample) is the random seed of each one."""

    def __init__(self, source: FaceMaps, size: int, config: Augmentation, seed: int) -> None:
        self.source, self.size, self.config, self.seed = source, size, config, seed

    def __getitem__(self, index: tuple[int, int, int]) -> Sample:
        epoch, position, sample = index
        rng = np.random.default_rng((self.seed, epoch, position))
        image, flipped, transform = augment_image(
            self.source.image(sample), self.size, self.config, rng
        )
        return (
            torch.from_numpy(image),
            flipped,
            torch.from_numpy(transform),
            torch.from_numpy(self.source.target(sample)),
        )


class EpochBatches(torch.utils.data.Sampler[list[tuple[int, int, int]]]):
    """Shuffled batches of one epoch, the same for the same seed and epoch; shards by rank.

    ``shares`` (count,) says how often each sample is drawn relative to the others; without it
    an epoch draws each once. The first ``start`` batches of the epoch are left out.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        shares: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        self.count, self.batch, self.seed, self.shares = count, batch, seed, shares
        self.rank, self.world, self.epoch, self.start = rank, world, 0, 0

    def __len__(self) -> int:
        return max(1, self.count // (self.batch * self.world))

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.count)
        if self.shares is not None:
            # Systematic sampling: each sample is drawn its share of times, rounded up or down.
            edges = self.shares.cumsum(dtype=np.float64) * (self.count / self.shares.sum())
            drawn = edges.searchsorted(np.arange(self.count) + rng.random(), side="right")
            order = drawn.clip(max=self.count - 1)[order]
        stride = self.batch * self.world
        for start in range(self.start * stride, len(self) * stride, stride):
            first = start + self.rank * self.batch
            positions = range(first, min(first + self.batch, self.count))
            yield [(self.epoch, p, int(order[p])) for p in positions]


def _read_basis(path: Path) -> tuple[str, NDArray[np.float32]]:
    """Returns the layout's name, and mean and components in one array (1 + C, 3, M, M) float32."""
    data = read_arrays(path, ("mean", "components"), ("layout",))
    mean, components = data["mean"], data["components"]
    check_array(mean, f"{path}: mean", (None, mean.shape[0] if mean.ndim else None, 3))
    check_array(components, f"{path}: components", (None, *mean.shape))
    layout = str(data.get("layout", "ict"))
    load_layout(layout)
    basis = np.concatenate([mean[None], components]).astype(np.float32)
    return layout, basis.transpose(0, 3, 1, 2).copy()


def _read_part(path: Path, components: int) -> dict[str, NDArray[Any]]:
    """Returns the arrays of one file of a pack, and its pictures ``images`` (n, S, S, 3) uint8."""
    data = read_arrays(path, ("jpeg", "offsets", "codes", "yaw"), ("eyes", "mouth"))
    check_array(data["codes"], f"{path}: codes", (None, components))
    count = len(data["codes"])
    shapes = {"yaw": (count,), "eyes": (count, 2), "mouth": (count,)}
    for name in shapes.keys() & data.keys():
        check_array(data[name], f"{path}: {name}", shapes[name])
    jpeg, offsets = data.pop("jpeg"), data.pop("offsets")
    check_array(offsets, f"{path}: offsets", (count + 1,), "iu")
    if not count:
        raise BadInput(f"{path}: holds no faces")
    check_offsets(path, jpeg, offsets)
    images: list[Image] = []
    for index, (start, end) in enumerate(pairwise(offsets)):
        image = decode_image(jpeg[start:end], f"{path}: face {index}")
        if image.shape[0] != image.shape[1] or image.shape != (images or [image])[0].shape:
            height, width = image.shape[:2]
            raise BadInput(f"{path}: face {index}: {width}x{height}: not square or of another size")
        images.append(image)
    return {**data, "images": np.stack(images)}
