"""A strongly typed FP16 model by ONNX Runtime's converter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posgan_edge.build.graph import head, set_props, tidied

if TYPE_CHECKING:
    import onnx


def to_fp16(model: onnx.ModelProto, keep_io: bool = True) -> onnx.ModelProto:
    """A copy in FP16 with explicit casts; head, inputs and outputs (unless told) stay FP32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted = convert_float_to_float16(
        copy,
        keep_io_types=keep_io,
        node_block_list=head(model) if keep_io else None,
        disable_shape_infer=False,
    )
    converted = tidied(converted)
    set_props(converted, precision="fp16")
    return converted
