"""Explicit Q/DQ INT8 by onnxruntime.quantization, as TensorRT and ONNX Runtime both take it."""

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
from posgan_edge.build.graph import head, layers, set_props, stem, tidied

if TYPE_CHECKING:
    import onnx

_OPTIONS: dict[str, Any] = {
    "WeightSymmetric": True,
    "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1, "Gemm": 0},
    "AddQDQPairToWeight": False,
    "DedicatedQDQPair": False,
}
#: What TensorRT's parser needs (no int32 biases, symmetric scales), and what it fuses best: only
#: the inputs of layers with weights are quantised, so that a convolution takes the activation and
#: the addition behind it into one kernel. It quantises no other layer's output.
_TENSORRT: dict[str, Any] = {
    "QuantizeBias": False,
    "ActivationSymmetric": True,
    "OpTypesToExcludeOutputQuantization": ["Conv", "ConvTranspose", "Gemm"],
}
#: ONNX Runtime fuses layers whose inputs and outputs are quantised. With unsigned activations the
#: range behind a ReLU starts at zero, so that rounding does the ReLU's work and the node goes.
_ONNXRUNTIME: dict[str, Any] = {"QuantizeBias": True, "ActivationSymmetric": False}
_LINEAR = ("Gemm", "MatMul")


def to_int8(
    model: onnx.ModelProto,
    record: CalibrationRecord,
    keep_float: Sequence[str] = (),
    target: str = "tensorrt",
    compact: bool = True,
    only: Sequence[str] = (),
) -> onnx.ModelProto:
    """A Q/DQ copy of an FP32 model; normalisation, head and ``keep_float`` layers stay in float.

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

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    unsigned = target == "onnxruntime"
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
    """Ranges with their sign: from zero behind a ReLU, to either side of zero elsewhere.

    Histograms are taken of absolute values, so a record's lower ends do not tell.
    """
    positive = {name for n in model.graph.node if n.op_type == "Relu" for name in n.output}
    return {
        name: (0.0 if name in positive else -max(abs(low), abs(high)), max(abs(low), abs(high)))
        for name, (low, high) in ranges.items()
    }


def _float_head(model: onnx.ModelProto, unsigned: bool) -> list[str]:
    """Names of the head's nodes that stay in float.

    ONNX Runtime spends a tenth of its time on the first linear layer in float, and a third of
    that in INT8, for 0.05 pixels of 256. The last layers compute coordinates and stay.
    """
    names = head(model)
    linear = [n.name for n in model.graph.node if n.op_type == "Gemm" and n.name in names]
    if not unsigned or len(linear) < 2:
        return names
    first = names.index(linear[0]) + 1
    kinds = {n.name: n.op_type for n in model.graph.node}
    return names[first + (kinds[names[first]] == "Relu") :]


def matching_layers(model: onnx.ModelProto, pattern: str) -> list[str]:
    """Layers whose name matches a regular expression."""
    return [name for name in layers(model) if re.search(pattern, name)]


def _compact_head(model: onnx.ModelProto, folded: bool, least: int = 16384) -> None:
    """Stores the head's large constants small; what is computed with them stays in float.

    Linear weights become INT8 with a scale per row. Of a basis (K, P) that is multiplied from the
    left, the first quarter of the rows (the large modes) become FP16 and the rest INT8 with a
    scale per row.
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

    ``folded``: by a cast and a product, which ONNX Runtime makes a constant when it loads the
    model; it runs a DequantizeLinear in every call. TensorRT takes INT8 for that node alone.
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
