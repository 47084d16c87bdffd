"""Reads an output file of any kind to its end with its own reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def check_whole(path: Path) -> None:
    """Raises if a file is not whole: cut off, empty, or not of its kind."""
    assert path.stat().st_size, f"{path.name} is empty"
    reader = _READERS.get(path.suffix.lower())
    assert reader is not None, f"{path.name}: an output of an unknown kind"
    try:
        reader(path)
    except Exception as error:
        raise AssertionError(
            f"{path.name} is not whole: {type(error).__name__}: {error}"
        ) from error


def _video(path: Path) -> None:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    assert count


def _lines(path: Path) -> None:
    text = path.read_text()
    assert text.endswith("\n")
    for line in text.splitlines():
        json.loads(line)


def _json(path: Path) -> None:
    content = json.loads(path.read_text())
    if path.name.endswith((".onnx.json", ".engine.json")):
        from posgan_edge.engines.manifest import load_manifest

        load_manifest(path.with_suffix(""))
    elif path.name == "record.json":
        from posgan_edge.build.calibration import CalibrationRecord

        CalibrationRecord.load(path)
    assert content or path.name == "history.json"


def _arrays(path: Path) -> None:
    with np.load(path) as content:
        assert all(content[name] is not None for name in content.files)


def _array(path: Path) -> None:
    assert np.load(path).size


def _picture(path: Path) -> None:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    ends = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9"}
    assert path.read_bytes().endswith(ends[path.suffix])


def _faces(path: Path) -> None:
    from posgan_edge import read_faces

    assert list(read_faces(path))


def _mesh(path: Path) -> None:
    import trimesh

    scene: Any = trimesh.load(path, process=False)
    parts = scene.geometry.values() if isinstance(scene, trimesh.Scene) else [scene]
    assert all(len(mesh.faces) for mesh in parts)
    if path.suffix == ".obj":
        assert path.with_suffix(".mtl").is_file()


def _network(path: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(path), full_check=True)


def _weights(path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        assert load_file(path)
    else:
        assert torch.load(path, weights_only=True)["optimizers"]


def _text(path: Path) -> None:
    text = path.read_text()
    assert text.rstrip().endswith("</html>") if path.suffix == ".html" else text.endswith("\n")


_READERS: dict[str, Any] = {
    ".mp4": _video, ".mkv": _video, ".avi": _video, ".jsonl": _lines, ".json": _json,
    ".npz": _arrays, ".npy": _array, ".png": _picture, ".jpg": _picture, ".parquet": _faces,
    ".glb": _mesh, ".obj": _mesh, ".mtl": _text, ".onnx": _network, ".pth": _weights,
    ".safetensors": _weights, ".sig": _text, ".md": _text, ".html": _text, ".pbtxt": _text,
    ".py": _text,
}  # fmt: skip
