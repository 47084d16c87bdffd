"""Small ONNX files, right and wrong, for tests of what is loaded."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, DOUBLE, INT8 = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT8,
)  # fmt: skip
SHAPE = ("batch", 3, 16, 16)


def write_network(
    path: Path,
    shape: Sequence[str | int | None] = SHAPE,
    maps: Sequence[str | int | None] = SHAPE,
    type_: int = FLOAT,
    names: Sequence[str] = ("image", "position_map"),
    extra: Sequence[str] = (),
    metadata: Iterable[tuple[str, str]] = (("layout", "ict"),),
    nodes: Sequence[onnx.NodeProto] | None = None,
    weights: Sequence[onnx.TensorProto] = (),
) -> Path:
    """A network that returns its input, or what ``nodes`` make of it."""
    inputs = [helper.make_tensor_value_info(names[0], type_, shape)]
    inputs += [helper.make_tensor_value_info(name, FLOAT, [1]) for name in extra]
    outputs = [helper.make_tensor_value_info(names[1], type_, maps)]
    nodes = nodes or [helper.make_node("Identity", [names[0]], [names[1]])]
    graph = helper.make_graph(nodes, "network", inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return path


def write_endless(path: Path) -> Path:
    """A network with a loop that never ends."""
    sizes = [None, 3, 16, 16]
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Sin", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, sizes),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", FLOAT, sizes),
        ],
    )
    loop = helper.make_node("Loop", ["", "always", "image"], ["position_map"], body=body)
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    return write_network(path, nodes=[loop], weights=[always])


def write_one_image_only(path: Path) -> Path:
    """A network that says that it takes any batch, and takes one image alone."""
    node = helper.make_node("Reshape", ["image", "to"], ["position_map"])
    to = numpy_helper.from_array(np.array([1, 3, 16, 16]), "to")
    return write_network(path, nodes=[node], weights=[to])


def write_other_maps(path: Path) -> Path:
    """A network whose maps are (N, 3, 8, 16) where its file says (N, 3, 16, 16)."""
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "eight"], ["end"]),
        helper.make_node("Slice", ["image", "zero", "end", "two"], ["position_map"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([value]), name)
        for name, value in (("zero", 0), ("eight", 8), ("two", 2))
    ]
    return write_network(path, nodes=nodes, weights=weights)


def write_with_weights_beside(path: Path) -> Path:
    """A network whose weights lie in ``weights.bin`` beside it."""
    shift = numpy_helper.from_array(np.full((1, 3, 16, 16), 0.5, np.float32), "shift")
    node = helper.make_node("Add", ["image", "shift"], ["position_map"])
    write_network(path, nodes=[node], weights=[shift])
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def write_convolution(path: Path, value: float = 1.0, **values: Any) -> Path:
    """A network of one convolution, whose weights are all ``value``."""
    type_ = np.float16 if values.get("type_") == HALF else np.float32
    weights = numpy_helper.from_array(np.full((3, 3, 1, 1), value, type_), "weights")
    node = helper.make_node("Conv", ["image", "weights"], ["position_map"], name="convolution")
    return write_network(path, nodes=[node], weights=[weights], **values)
