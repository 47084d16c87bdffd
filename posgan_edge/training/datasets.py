"""Training sets: the position-map pack and the original's folders, behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.training.augment import augment_image
from posgan_edge.training.recipe import Augmentation

#: One drawn sample: image (S, S, 3) uint8 RGB, mirrored, transform (2, 3), target (any tensor).
Sample = tuple[Tensor, bool, Tensor, Tensor]


class FaceMaps(Protocol):
    """Pairs of a square face crop and its position map."""

    layout: str

    @property
    def yaw(self) -> NDArray[np.float32] | None:
        """Degrees, one per face, where the labels give them."""
        ...

    @property
    def eyes(self) -> NDArray[np.float32] | None:
        """Openness (n, 2) of the eyes at points 36-41 and 42-47, height over width."""
        ...

    @property
    def mouth(self) -> NDArray[np.float32] | None:
        """Openness (n,) of the mouth."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """The crop (S, S, 3) uint8 BGR."""
        ...

    def target(self, index: int) -> NDArray[np.float32]:
        """What ``maps`` turns into the position map."""
        ...

    def maps(self, targets: Tensor) -> Tensor:
        """Stacked targets -> position maps (N, 3, M, M) float32 in crop units."""
        ...


class PackMaps:
    """A position-map pack: JPEG crops and maps coded in a linear basis.

    ``basis.npz``: ``mean`` (M, M, 3) float32, ``components`` (C, M, M, 3) float16; axes v, u, xyz;
    ``layout``, the name of the maps' UV layout (``ict`` where it is absent).
    ``train-*.npz`` and ``val.npz``, of n faces: ``jpeg`` (bytes,) uint8, the files of square crops
    one behind the other; ``offsets`` (n + 1,) where each begins and the last ends; ``codes`` (n, C)
    float32; ``yaw`` (n,) float32 degrees; where known, ``eyes`` (n, 2) and ``mouth`` (n,)
    float32, their height over their width. A face's map is ``mean`` + ``codes`` @ ``components``,
    in units of the crop's side (pixel i spans [i, i + 1); x right, y down, z towards the camera).

    ``split`` is ``train`` (every ``train-*.npz``) or ``val``. Images are decoded once. Raises
    BadInput where files are missing or broken.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        folder = Path(folder)
        files = sorted(folder.glob("train-*.npz" if split == "train" else f"{split}.npz"))
        if not files or not (folder / "basis.npz").is_file():
            raise BadInput(f"{folder}: no basis.npz and {split} files of a position-map pack here")
        try:
            with np.load(folder / "basis.npz") as data:
                parts = [data["mean"][None], data["components"].astype(np.float32)]
                self.layout = str(data["layout"]) if "layout" in data else "ict"
            self.basis = np.concatenate(parts).transpose(0, 3, 1, 2).copy()
            codes: list[NDArray[np.float32]] = []
            yaws: list[NDArray[np.float32]] = []
            openness: dict[str, list[NDArray[np.float32]]] = {"eyes": [], "mouth": []}
            images: list[Image] = []
            for file in files:
                with np.load(file) as data:
                    codes.append(data["codes"])
                    yaws.append(data["yaw"])
                    count = len(codes[-1])
                    if len(yaws[-1]) != count or len(data["offsets"]) != count + 1:
                        raise BadInput(f"{file}: codes, yaw and offsets differ in length")
                    for name, parts_of in openness.items():
                        parts_of += [data[name]] if name in data else []
                    images.extend(_decode(data["jpeg"], data["offsets"], file))
        except (KeyError, ValueError, OSError) as error:
            raise BadInput(f"{folder}: a file of the pack is broken: {error}") from error
        self.folder = folder
        self.codes = np.pad(np.concatenate(codes), ((0, 0), (1, 0)), constant_values=1.0)
        self.yaw = np.concatenate(yaws)
        self.eyes, self.mouth = (
            np.concatenate(values) if len(values) == len(files) else None
            for values in openness.values()
        )
        self.images = np.stack(images)
        self._basis: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image:
        return self.images[index]

    def target(self, index: int) -> NDArray[np.float32]:
        return self.codes[index]

    def maps(self, targets: Tensor) -> Tensor:
        if self._basis is None or self._basis.device != targets.device:
            self._basis = torch.from_numpy(self.basis).flatten(1).to(targets.device)
        return (targets.float() @ self._basis).reshape(-1, *self.basis.shape[1:])


class FolderMaps:
    """The original's folders: ``InputImage/*.jpg`` and ``LabelImage_npy/<same>.npy``.

    Maps are (256, 256, 3) in pixel indices of their 256-pixel crop, UV layout ``prnet``.
    """

    layout = "prnet"
    yaw = eyes = mouth = None

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.images = sorted((folder / "InputImage").glob("*.jpg"))
        self.labels = [folder / "LabelImage_npy" / f"{p.stem}.npy" for p in self.images]
        if not self.images:
            raise BadInput(f"{folder}: no InputImage/*.jpg here")
        absent = [p for p in self.labels if not p.is_file()]
        if absent:
            raise BadInput(f"{absent[0]}: {len(absent)} of {len(self.labels)} maps are missing")

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image:
        image = cv2.imread(str(self.images[index]), cv2.IMREAD_COLOR)
        if image is None or image.shape[0] != image.shape[1]:
            raise BadInput(f"{self.images[index]}: not a square picture")
        return image

    def target(self, index: int) -> NDArray[np.float32]:
        try:
            pixels = np.load(self.labels[index])
        except (ValueError, OSError) as error:
            raise BadInput(f"{self.labels[index]}: not a .npy array: {error}") from error
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.shape[0] != pixels.shape[1]:
            raise BadInput(f"{self.labels[index]}: shape {pixels.shape}, not (M, M, 3)")
        return ((pixels.transpose(2, 0, 1) + 0.5) / pixels.shape[0]).astype(np.float32)

    def maps(self, targets: Tensor) -> Tensor:
        return targets


def open_maps(folder: str | Path, data_format: str, split: str = "train") -> FaceMaps:
    """The data set of a recipe. ``folder`` data may have sub-folders ``train`` and ``val``."""
    if data_format == "pack":
        return PackMaps(folder, split)
    if data_format == "folder":
        inner = Path(folder) / split
        return FolderMaps(inner if inner.is_dir() else folder)
    raise BadInput(f"unknown data format {data_format!r}: use 'pack' or 'folder'")


class AugmentedMaps(torch.utils.data.Dataset[Sample]):
    """Draws augmented samples; the index (epoch, position, sample) seeds each one."""

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
        shares: NDArray[np.floating] | None = None,
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


def _decode(jpeg: NDArray[np.uint8], offsets: NDArray[np.int64], file: Path) -> Iterator[Image]:
    for start, end in pairwise(offsets):
        image = cv2.imdecode(jpeg[start:end], cv2.IMREAD_COLOR)
        if image is None:
            raise BadInput(f"{file}: a JPEG at byte {start} cannot be decoded")
        yield image
