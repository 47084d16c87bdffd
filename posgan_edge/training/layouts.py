"""Makes the built-in layout files: ``python -m posgan_edge.training.layouts PACK PRNET_KPT OUT``.

The mean face of the layout `ict` is the generalised Procrustes mean of the pack's maps, made
symmetric. Its direction at pitch zero is a convention of the AFLW2000-3D labels, which the training
data does not contain. ``PITCH_ZERO`` is the angle between this mean face and the labels' pose. It
was measured to half a degree on the labels' 3D points; no images were used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.archives import check_array, read_arrays
from posgan_edge.errors import BadInput
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.layout import HUMAN_SET, load_layout
from posgan_edge.geometry.pose import fit_similarity, rotation_from_angles
from posgan_edge.geometry.sampling import sample_map

PITCH_ZERO = 1.0  # degrees


def mean_face(
    maps: NDArray[np.floating[Any]], uv: NDArray[np.floating[Any]], mirror: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns the generalised Procrustes mean (P, 3), y up, of maps (N, 3, M, M) at uv (P, 2).

    ``mirror`` (P,) is the index of each point's partner on the other side of the face. The mean is
    symmetric.
    """
    shapes = sample_map(maps, uv).astype(np.float64) * Y_UP
    mean = shapes[0]
    for _ in range(6):
        aligned = []
        for shape in shapes:
            scale, rotation, shift = fit_similarity(mean, shape)
            aligned.append((shape - shift) @ rotation / scale)
        mean = np.mean(aligned, axis=0)
        mean -= mean.mean(axis=0)
        mean /= np.sqrt((mean**2).sum(axis=1).mean())
    return _symmetric(mean, mirror)


def _symmetric(mean: NDArray[np.float64], mirror: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the mean face turned so that its mirror plane is x = 0, with both halves averaged."""
    for _ in range(20):
        flipped = mean[mirror] * (-1.0, 1.0, 1.0)
        _, rotation, _ = fit_similarity(mean, flipped)
        # Half of the rotation to the mirror image makes the face symmetric.
        u, _, vt = np.linalg.svd(rotation + np.eye(3))
        mean = mean @ (u @ vt).T
    return (mean + mean[mirror] * (-1.0, 1.0, 1.0)) / 2


def build(pack: Path, prnet_points: Path, output: Path, count: int = 1500) -> None:
    """Writes ``layout-ict.npz`` and ``layout-prnet.npz`` to the folder ``output``.

    ``count`` maps of the pack make the mean. Raises BadInput for a pack that is not symmetric.
    """
    from posgan_edge.training.datasets import PackMaps

    maps = PackMaps(pack)
    data = read_arrays(pack / "basis.npz", ("mask", "kpt_uv"))
    mask, landmark_uv = data["mask"], data["kpt_uv"]
    check_array(mask, "mask", (None, None), "b")
    check_array(landmark_uv, "kpt_uv", (68, 2))
    landmark_uv = landmark_uv.astype(np.float32)
    rows, columns = np.nonzero(mask)
    keep = (rows % 6 == 3) & ((columns % 6 == 3) | (columns % 6 == 124 % 6))
    size = mask.shape[0]
    uv = np.column_stack([columns[keep] + 0.5, rows[keep] + 0.5]) / size
    uv = uv[mask[rows[keep], size - 1 - columns[keep]]]
    mirror = _partners(uv)
    chosen = np.random.default_rng(0).choice(len(maps), count, replace=False)
    dense = np.tensordot(maps.codes[chosen], maps.basis, 1).astype(np.float32)
    mean = mean_face(dense, uv, mirror)
    all_points = np.concatenate([uv, landmark_uv])
    mean = mean @ rotation_from_angles(PITCH_ZERO, 0, 0).T
    # The mean of the landmarks, in the same pose, is for layouts without a dense mean.
    shapes = sample_map(dense, all_points).astype(np.float64) * Y_UP
    landmarks = np.mean([_into(mean, s[: len(uv)], s[len(uv) :]) for s in shapes], axis=0)
    sets = load_layout("ict").landmark_sets
    np.savez_compressed(
        output / "layout-ict.npz",
        landmark_uv=landmark_uv,
        landmarks_300w=sets[HUMAN_SET],  # chosen by benchmarks/landmark_sets.py
        mask=mask,
        mean_uv=uv.astype(np.float32),
        mean_points=mean.astype(np.float32),
    )
    pixels = np.loadtxt(prnet_points, delimiter=",", comments="#")
    prnet_uv = ((pixels + 0.5) / 256).astype(np.float32)
    landmarks -= landmarks.mean(axis=0)
    landmarks /= np.sqrt((landmarks**2).sum(axis=1).mean())
    np.savez_compressed(
        output / "layout-prnet.npz",
        landmark_uv=prnet_uv,
        mask=np.ones((256, 256), bool),
        mean_uv=prnet_uv,
        mean_points=landmarks.astype(np.float32),
    )


def _partners(uv: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    distance = np.abs(uv[:, None] - np.column_stack([1 - uv[:, 0], uv[:, 1]])[None]).sum(-1)
    if not distance.min(axis=1).max() < 1e-6:
        raise BadInput("the basis' mask is not symmetric from left to right")
    partners: NDArray[np.int64] = distance.argmin(axis=1)
    return partners


def _into(
    mean: NDArray[np.float64], shape: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    scale, rotation, shift = fit_similarity(mean, shape)
    return np.asarray((points - shift) @ rotation / scale)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
