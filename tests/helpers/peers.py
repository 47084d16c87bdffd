"""Stand-ins for 3DDFA_V2's and PRNet's files: their formats, with invented numbers.

Names, shapes, data types and the order of numbers are those of the published code: 3DDFA_V2's
``TDDFA_ONNX.py``, ``bfm/bfm.py``, ``utils/onnx.py`` and ``utils/tddfa_util.py``; PRNet's ``api.py``
and ``predictor.py``, with tensor names as tf2onnx gives them.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

#: PRNet's input and output where tf2onnx converts its TensorFlow graph.
PRNET_PORTS = "Placeholder:0", "resfcn256/Conv2d_transpose_16/Sigmoid:0"
#: Vertices of the published ``bfm_noneck_v3.pkl``.
BFM_VERTICES = 38_365


def write_bfm(folder: Path, points: NDArray[Any], extra: int = 10) -> Path:
    """``bfm_noneck_v3.pkl`` with ``points`` (68, 3) as its mean landmarks behind ``extra`` other
    vertices, and ``param_mean_std_62d_120x120.pkl`` beside it: means 1, deviations 2."""
    rng = np.random.default_rng(5)
    vertices = np.concatenate([rng.normal(0, 9, (extra, 3)), points])
    count = vertices.size
    keypoints = np.arange(3 * extra, count)
    # The first shape moves all landmarks by 1 along x, the first expression by 1 along y.
    shape, expression = np.zeros((count, 40)), np.zeros((count, 10))
    shape[0::3, 0], expression[1::3, 0] = 1, 1
    content = {
        "u": vertices.reshape(-1, 1).astype(np.float32), "w_shp": shape.astype(np.float32),
        "w_exp": expression.astype(np.float32), "keypoints": keypoints,
        "tri": np.zeros((3, 5), np.int64),
    }  # fmt: skip
    path = folder / "bfm_noneck_v3.pkl"
    path.write_bytes(pickle.dumps(content))
    scaling = {"mean": np.ones(62, np.float32), "std": np.full(62, 2, np.float32)}
    (folder / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps(scaling))
    return path


def write_tddfa(path: Path, numbers: NDArray[Any], blue: int | None = None) -> Path:
    """A network ``input`` (1, 3, 120, 120) -> ``output`` (1, 62) that returns ``numbers``. The mean
    of the crop's blue, as the network gets it, is added to the number ``blue``."""
    weights = np.zeros((3, 62), np.float32)
    if blue is not None:
        weights[0, blue] = 1
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["colour"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["added"]),
        helper.make_node("Add", ["added", "numbers"], ["output"]),
    ]
    constants = {"weights": weights, "numbers": numbers.astype(np.float32)[None]}
    return _write(path, nodes, constants, [1, 3, 120, 120], [1, 62])


def write_prnet(path: Path, red: float = 0.0) -> Path:
    """A network (N, 256, 256, 3) -> the same shape, a map whose pixel (row, column) lies at
    (column, row) of the crop. ``red`` times the mean of the crop's red is added to x, in pixels."""
    column, row = np.meshgrid(np.arange(256.0), np.arange(256.0))
    ramp = (np.stack([column, row, 0 * row], -1) / (1.1 * 256)).astype(np.float32)
    weights = np.zeros((3, 3), np.float32)
    weights[0, 0] = red / (1.1 * 256)
    nodes = [
        helper.make_node("ReduceMean", [PRNET_PORTS[0]], ["colour"], axes=[1, 2], keepdims=1),
        helper.make_node("MatMul", ["colour", "weights"], ["added"]),
        helper.make_node("Add", ["added", "ramp"], [PRNET_PORTS[1]]),
    ]
    constants = {"weights": weights, "ramp": ramp[None]}
    shape = ["unk__618", 256, 256, 3]
    return _write(path, nodes, constants, shape, shape, PRNET_PORTS)


def _write(
    path: Path, nodes: list[Any], constants: dict[str, NDArray[Any]],
    taken: list[Any], returned: list[Any], ports: tuple[str, str] = ("input", "output"),
) -> Path:  # fmt: skip
    graph = helper.make_graph(
        nodes, "stand-in",
        [helper.make_tensor_value_info(ports[0], TensorProto.FLOAT, taken)],
        [helper.make_tensor_value_info(ports[1], TensorProto.FLOAT, returned)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
