"""Explicit INT8 (Q/DQ nodes) for TensorRT and ONNX Runtime, by onnxruntime.quantization."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.build.calibration import (
    QUANTIZED_OPS,
    WEIGHTED_OPS,
    CalibrationRecord,
    tensors_range,
)
from posgan_edge.build.graph import head, layers, opset, set_props, stem, tidied
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import uninterrupted

if TYPE_CHECKING:
    import onnx

#: The first opset whose QuantizeLinear takes a scale for each channel.
_OPSET = 13
_OPTIONS: dict[str, Any] = {
    "WeightSymmetric": True,
    "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1, "Gemm": 0},
    "AddQDQPairToWeight": False,
    "DedicatedQDQPair": False,
}
#: TensorRT's parser needs this: no int32 biases, and symmetric scales. It fuses best if only the
#: inputs of layers with weights are quantised: then a convolution is fused with the activation and
#: the addition after it.
_TENSORRT: dict[str, Any] = {
    "QuantizeBias": False,
    "ActivationSymmetric": True,
    "OpTypesToExcludeOutputQuantization": ["Conv", "ConvTranspose", "Gemm"],
}
#: ONNX Runtime fuses layers whose inputs and outputs are quantised. With unsigned activations the
#: range after a ReLU starts at zero, so that quantisation clips as the ReLU does, and the ReLU is
#: removed.
_ONNXRUNTIME: dict[str, Any] = {"QuantizeBias": True, "ActivationSymmetric": False}
_LINEAR = ("Gemm", "MatMul")


def check_opset(model: onnx.ModelProto) -> None:
    """Raises BadInput for a model whose opset has no INT8 by channels."""
    if (has := opset(model)) < _OPSET:
        raise BadInput(f"the network's ONNX opset is {has}, INT8 needs {_OPSET}: export it again")


def to_int8(
    model: onnx.ModelProto,
    record: CalibrationRecord,
    keep_float: Sequence[str] = (),
    target: str = "tensorrt",
    compact: bool = True,
    only: Sequence[str] = (),
) -> onnx.ModelProto:
    """Returns a copy of an FP32 model in INT8, with Q/DQ nodes.

    Normalisation, head and the layers ``keep_float`` stay in float.

    ``target`` is the runtime whose fusions the graph is made for: ``tensorrt`` (signed, symmetric)
    or ``onnxruntime`` (unsigned activations, and 7-bit weights, as its INT8 kernels saturate on
    processors with AVX2 but no VNNI). Either graph is valid ONNX and runs on both. ``only``
    quantises just these layers (for a sensitivity run). ``compact`` stores the large constants of
    the head in few bytes; ONNX Runtime unpacks them when it loads the file. For ``onnxruntime``
    the first of several linear layers of the head is quantised as well.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    check_opset(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    unsigned = target == "onnxruntime"
    with uninterrupted():  # it makes a temporary folder, which a signal must not leave behind
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=unsigned,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            tensors_range=tensors_range(_signed(model, record.ranges)),
            nodes_to_quantize=list(only),
            nodes_to_exclude=[*stem(model), *_float_head(model, unsigned), *keep_float],
            op_types_to_quantize=[*QUANTIZED_OPS, "Reshape"] if unsigned else WEIGHTED_OPS,
            extra_options={**_OPTIONS, **(_ONNXRUNTIME if unsigned else _TENSORRT)},
        )
    quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    if compact:
        _compact_head(result, unsigned)
    result = tidied(result)
    set_props(
        result,
        precision="int8",
        calibration=record.digest,
        kept_float=",".join(keep_float),
    )
    return result


def _signed(
    model: onnx.ModelProto, ranges: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Returns ranges with the right sign: from zero after a ReLU, symmetric around zero elsewhere.

    Histograms hold absolute values, so the lower ends in a record say nothing.
    """
    positive = {name for n in model.graph.node if n.op_type == "Relu" for name in n.output}
    return {
        name: (0.0 if name in positive else -max(abs(low), abs(high)), max(abs(low), abs(high)))
        for name, (low, high) in ranges.items()
    }


def _float_head(model: onnx.ModelProto, unsigned: bool) -> list[str]:
    """Returns the names of the head's nodes that stay in float.

    In float, the first linear layer takes a tenth of ONNX Runtime's time; INT8 takes a third of
    that and costs 0.05 pixels of 256. The last layers compute coordinates and stay in float.
    """
    names = head(model)
    linear = [n.name for n in model.graph.node if n.op_type == "Gemm" and n.name in names]
    if not unsigned or len(linear) < 2:
        return names
    first = names.index(linear[0]) + 1
    kinds = {n.name: n.op_type for n in model.graph.node}
    return names[first + (kinds[names[first]] == "Relu") :]


def matching_layers(model: onnx.ModelProto, pattern: str) -> list[str]:
    """Returns the layers whose name matches a regular expression. Raises UsageError if it is
    none."""
    try:
        wanted = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"{pattern!r}: not a regular expression: {error}", "keep_float") from error
    return [name for name in layers(model) if wanted.search(name)]


def _compact_head(model: onnx.ModelProto, folded: bool, least: int = 16384) -> None:
    """Stores the large constants of the head in fewer bytes; the computation stays in float.

    Linear weights become INT8 with a scale per row. In a basis (K, P), the first quarter of the
    rows (the large modes) become FP16, the others INT8 with a scale per row.
    """
    import onnx

    graph = model.graph
    constants = {i.name: i for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    for node in list(graph.node):
        tensor = constants.get(node.input[1]) if len(node.input) > 1 else None
        if tensor is None or np.prod(tensor.dims) < least or node.op_type not in _LINEAR:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        graph.initializer.remove(tensor)
        if node.op_type == "Gemm":
            node.input[1] = _int8_rows(graph, tensor.name, values, folded)
        else:
            first = max(1, len(values) // 4)
            half = onnx.numpy_helper.from_array(
                values[:first].astype(np.float16), tensor.name + "_fp16"
            )
            graph.initializer.append(half)
            cast = f"{tensor.name}_fp32"
            rest = _int8_rows(graph, tensor.name, values[first:], folded)
            joined = f"{tensor.name}_rows"
            graph.node.extend(
                [
                    onnx.helper.make_node("Cast", [half.name], [cast], cast, to=1),
                    onnx.helper.make_node("Concat", [cast, rest], [joined], joined, axis=0),
                ]
            )
            node.input[1] = joined


def _int8_rows(
    graph: onnx.GraphProto, name: str, values: NDArray[np.floating[Any]], folded: bool
) -> str:
    """Adds values (R, C) as INT8 with a scale per row; returns the name of the float result.

    ``folded`` uses Cast and Mul, which ONNX Runtime computes once when it loads the model; it would
    run DequantizeLinear in every call. TensorRT accepts INT8 only for DequantizeLinear.
    """
    import onnx

    scale = np.maximum(np.abs(values).max(axis=1), 1e-12) / 127
    rounded = np.round(values / scale[:, None]).astype(np.int8)
    result = f"{name}_float"
    parts = {f"{name}_int8": rounded}
    if folded:
        parts[f"{name}_scale"] = scale[:, None].astype(np.float32)
        cast = f"{name}_cast"
        graph.node.extend(
            [
                onnx.helper.make_node("Cast", [f"{name}_int8"], [cast], cast, to=1),
                onnx.helper.make_node("Mul", [cast, f"{name}_scale"], [result], result),
            ]
        )
    else:
        parts |= {
            f"{name}_scale": scale.astype(np.float32),
            f"{name}_zero": np.zeros(len(scale), np.int8),
        }
        graph.node.append(
            onnx.helper.make_node("DequantizeLinear", list(parts), [result], result, axis=0)
        )
    for key, array in parts.items():
        graph.initializer.append(onnx.numpy_helper.from_array(array, key))
    return result
