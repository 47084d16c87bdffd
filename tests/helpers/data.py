"""Small worlds for tests, and the real data where the user names a folder for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from posgan_edge.geometry.crop import BOX_SCALE
from posgan_edge.geometry.layout import load_layout

PORTRAIT = Path(__file__).parents[2] / "posgan_edge" / "assets" / "portrait.jpg"
#: The portrait's landmark box, read off the picture: x, y, width, height.
PORTRAIT_BOX = (179.0, 88.0, 97.0, 90.0)


def real_data(part: str) -> Path:
    """A part of the folder that POSGAN_TEST_DATA names; skips the test where it is not there."""
    root = os.environ.get("POSGAN_TEST_DATA")
    if not root:
        pytest.skip("POSGAN_TEST_DATA does not name a data folder")
    path = Path(root) / part
    if not path.exists():
        pytest.skip(f"{part} is not in the folder that POSGAN_TEST_DATA names")
    return path


def smooth_map(resolution: int, seed: int = 0) -> NDArray[Any]:
    """A (3, M, M) float32 map: a tilted, bent sheet over the crop."""
    rng = np.random.default_rng(seed)
    v, u = np.meshgrid(*(((np.arange(resolution) + 0.5) / resolution,) * 2), indexing="ij")
    bend = rng.normal(0, 0.05, (3, 3))
    terms = np.stack([u * v, u**2, v**2])
    sheet = np.stack([0.2 + 0.6 * u, 0.2 + 0.6 * v, 0.3 - (u - 0.5) ** 2])
    bent: NDArray[np.float32] = (sheet + np.tensordot(bend, terms, 1)).astype(np.float32)
    return bent


def mean_face_map(name: str, resolution: int) -> NDArray[Any]:
    """A (3, M, M) float32 map of a layout's mean face: upright, its landmarks' box in the middle of
    the crop, of the size that a crop round it gives it."""
    layout = load_layout(name)
    axis = (np.arange(resolution) + 0.5) / resolution
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 1, 2)
    nearest = np.concatenate(
        [((part - layout.mean_uv) ** 2).sum(-1).argmin(1) for part in np.array_split(grid, 64)]
    )
    points = (layout.mean_points[nearest] * (1, -1, 1)).T.reshape(3, resolution, resolution)
    marks = layout.landmarks(points)[:, :2]
    low, high = marks.min(0), marks.max(0)
    middle = np.array([*(low + high) / 2, 0])[:, None, None]
    points = (points - middle) / (BOX_SCALE * (high - low).max())
    moved = points + np.array([0.5, 0.5, 0])[:, None, None]
    xyz: NDArray[np.float32] = moved.astype(np.float32)
    return xyz


def write_constant_model(path: Path, layout: str, resolution: int) -> Path:
    """An ONNX model that returns ``mean_face_map`` for every crop of 128 pixels."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size, shape = [None, 3, 128, 128], [None, 3, resolution, resolution]
    zero = helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=1)
    nodes = [
        zero,
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "face"], ["position_map"]),
    ]
    graph = helper.make_graph(
        nodes, "constant",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("position_map", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(mean_face_map(layout, resolution)[None], "face"),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="layout", value=layout)
    onnx.save(model, path)
    return path


def write_pack(folder: Path, count: int = 24, resolution: int = 16, codes: int = 4) -> Path:
    """A position-map pack of invented faces in the real pack's format."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    mean = smooth_map(resolution).transpose(1, 2, 0)
    components = rng.normal(0, 0.01, (codes, resolution, resolution, 3)).astype(np.float16)
    uv = rng.uniform(0.2, 0.8, (68, 2)).astype(np.float32)
    mask = np.ones((resolution, resolution), bool)
    np.savez(folder / "basis.npz", mean=mean, components=components, mask=mask, kpt_uv=uv)
    for name, number in (("train-0", count), ("val", 6)):
        drawn = rng.normal(0, 1, (number, codes)).astype(np.float32)
        # The first three codes are the colour of the picture, so that there is something to learn.
        colors = np.clip(128 + 50 * drawn[:, None, None, :3], 0, 255)
        noisy = np.clip(colors + rng.normal(0, 10, (number, 120, 120, 3)), 0, 255)
        pictures = [cv2.imencode(".jpg", p.astype(np.uint8))[1] for p in noisy]
        offsets = np.cumsum([0, *(len(p) for p in pictures)])
        np.savez(
            folder / f"{name}.npz",
            jpeg=np.concatenate(pictures),
            offsets=offsets,
            codes=drawn,
            yaw=np.zeros(number, np.float32),
            name=np.array([f"face{i}" for i in range(number)]),
        )
    return folder


def write_folder_data(folder: Path, count: int = 3) -> Path:
    """Training data in the original's folder layout."""
    rng = np.random.default_rng(3)
    for sub in ("InputImage", "LabelImage_npy", "angle_npy"):
        (folder / sub).mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(
            str(folder / "InputImage" / f"f{i}.jpg"), rng.integers(0, 255, (256, 256, 3), np.uint8)
        )
        pixels = smooth_map(256, i).transpose(1, 2, 0) * 256 - 0.5
        np.save(folder / "LabelImage_npy" / f"f{i}.npy", pixels.astype(np.float32))
        np.save(folder / "angle_npy" / f"f{i}_angle.npy", 0.0)
    return folder


def write_aflw2000(folder: Path, count: int = 4) -> Path:
    """AFLW2000-3D look-alikes: photos and labels in the official format."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    names, again = [], []
    for i in range(count):
        name = f"image{i:05d}"
        points = rng.uniform(120, 320, (3, 68)).astype(np.float32)
        pose = np.radians([[5.0 * i, 20.0 * i, -3.0 * i, 0, 0, 0, 1]])
        cv2.imwrite(str(folder / f"{name}.jpg"), rng.integers(0, 255, (450, 450, 3), np.uint8))
        savemat(folder / f"{name}.mat", {"pt3d_68": points, "Pose_Para": pose})
        names.append(name)
        again.append(points[:2] + 1)
    np.savez(folder / "reannotated.npz", name=np.array(names), pts68=np.array(again))
    return folder


def portrait_points() -> NDArray[Any]:
    """The portrait's landmarks (68, 2) as the shipped generator sees them."""
    from posgan_edge import load_engine
    from posgan_edge.faces.pipeline import FacePipeline
    from posgan_edge.faces.values import Frame
    from posgan_edge.geometry.values import FaceBox

    pipeline = FacePipeline(load_engine("edge"), None, passes=2, dense=False)
    (face,) = pipeline.process(Frame(cv2.imread(str(PORTRAIT))), [FaceBox(*PORTRAIT_BOX)])
    return face.landmarks[:, :2]


def human_points(count: int, noise: float = 0.7) -> NDArray[Any]:
    """Points (count, 68, 2) float32 on the portrait: what the generator sees, under noise; every
    third face with eyes shut and mouth wide open."""
    rng = np.random.default_rng(11)
    points = portrait_points() + rng.normal(0, noise, (count, 68, 2))
    for face in points[::3]:
        for corner in (36, 42):
            lids = [corner + k for k in (1, 2, 5, 4)]
            face[lids, 1] = face[[corner, corner + 3], 1].mean()
        face[[65, 66, 67], 1] += 12
    drawn: NDArray[np.float32] = points.astype(np.float32)
    return drawn


def write_human_npz(path: Path, count: int = 6) -> NDArray[Any]:
    """A set with human points as one file, all of the portrait. Returns its points (n, 68, 2)."""
    points = human_points(count)
    jpeg = np.fromfile(PORTRAIT, np.uint8)
    np.savez(
        path,
        jpeg=np.tile(jpeg, count),
        offsets=np.arange(count + 1) * len(jpeg),
        pts68=points.transpose(0, 2, 1),
        name=np.array([f"face{i}" for i in range(count)]),
    )
    return points


def write_pts_folder(
    folder: Path, count: int = 6, suffix: str = ".jpg", points: NDArray[Any] | None = None
) -> NDArray[Any]:
    """The same set as photos with ``.pts`` files. Returns its points (n, 68, 2), continuous."""
    points = human_points(count) if points is None else points
    folder.mkdir(parents=True, exist_ok=True)
    for index, face in enumerate(points):
        rows = "\n".join(f"{x:.4f} {y:.4f}" for x, y in face + 0.5)
        (folder / f"a{index}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
        (folder / f"a{index}{suffix}").write_bytes(PORTRAIT.read_bytes())
    return points


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
