"""Reading an exported ONNX graph: its head, layers and metadata."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posgan_edge.engines.signature import Port, check_signature
from posgan_edge.errors import BadInput, needing

if TYPE_CHECKING:
    import onnx


def load_model(path: str | Path) -> onnx.ModelProto:
    """Reads an exported model.

    Raises BadInput for a file that is missing, broken or not such a model, and MissingRuntime
    without onnx.
    """
    with needing("onnx", "converting models", "build"):
        import onnx
    path = Path(path)
    if not os.path.isfile(path):
        raise BadInput(f"{path}: no such ONNX file")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker raise many kinds
        raise BadInput(f"{path}: a corrupt ONNX file, or none: {type(error).__name__}") from error
    weights = {i.name for i in model.graph.initializer}
    inputs = [_port(i) for i in model.graph.input if i.name not in weights]
    outputs = [_port(o) for o in model.graph.output]
    check_signature(path, inputs, outputs, props(model))
    if loops := {"Loop", "Scan", "If"} & {node.op_type for node in model.graph.node}:
        raise BadInput(f"{path}: holds {min(loops)}, and networks with branches are not converted")
    return model


def _port(value: onnx.ValueInfoProto) -> Port:
    import onnx

    tensor = value.type.tensor_type
    sizes = (
        tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
        if tensor.HasField("shape")
        else None
    )
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return Port(value.name, "float32" if name == "float" else name, sizes)


def props(model: onnx.ModelProto) -> dict[str, str]:
    """Returns the model's metadata."""
    return {p.key: p.value for p in model.metadata_props}


def sizes(model: onnx.ModelProto) -> tuple[int, int]:
    """Returns the sides of the network's input and of its map, in pixels."""
    size, map_size = (end.type.tensor_type.shape.dim[2].dim_value for end in _ends(model))
    return size, map_size


def float16_ends(model: onnx.ModelProto) -> bool:
    """Whether the network's input or output is float16."""
    return any(_port(end).type == "float16" for end in _ends(model))


def _ends(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    named = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    return [named["image"], named["position_map"]]


def set_props(model: onnx.ModelProto, **values: str) -> None:
    """Adds metadata; other keys stay."""
    import onnx

    merged = {**props(model), **values}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, merged)


def layers(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes with weights (convolutions and linear layers), in order."""
    weights = {i.name for i in model.graph.initializer}
    return [
        n.name
        for n in model.graph.node
        if n.op_type in ("Conv", "ConvTranspose", "Gemm") and n.input[1] in weights
    ]


def values_around(model: onnx.ModelProto, operators: Sequence[str]) -> set[str]:
    """Returns the names of inputs and outputs of nodes of some operators, without weights."""
    weights = {i.name for i in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in operators]
    return {name for n in nodes for name in (*n.input, *n.output) if name} - weights


def head(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes after the last convolution's activation.

    They compute coordinates. Rounding there moves points directly (one pixel is 0.5 % NME), and
    these nodes take very little time, so they stay in FP32.
    """
    nodes = list(model.graph.node)
    last = max(i for i, n in enumerate(nodes) if n.op_type in ("Conv", "ConvTranspose"))
    if last + 1 < len(nodes) and nodes[last + 1].op_type == "Relu":
        last += 1
    return [n.name for n in nodes[last + 1 :]]


def stem(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes before the first convolution, which normalise the image."""
    nodes = list(model.graph.node)
    first = min(i for i, n in enumerate(nodes) if n.op_type == "Conv")
    return [n.name for n in nodes[:first]]


def opset(model: onnx.ModelProto) -> int:
    """Returns the version of ONNX's own operators; 0 if the model names none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a converted model in topological order, with new shapes and types, fully checked.

    onnxruntime's converters append nodes at the end and keep the types from before. Raises
    BadInput for a model that is then not valid.
    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    sorter = ONNXModel(model)
    sorter.topological_sort()
    model = sorter.model
    del model.graph.value_info[:]
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"the network cannot be converted: {reason}") from error
    return model
