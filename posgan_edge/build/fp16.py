"""Converting a model to FP16 with ONNX Runtime's converter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posgan_edge.build.graph import head, set_props, tidied

if TYPE_CHECKING:
    import onnx


def to_fp16(model: onnx.ModelProto, keep_io: bool = True) -> onnx.ModelProto:
    """Returns a copy of the model in FP16 with explicit casts.

    With ``keep_io``, the head (see ``graph.head``), inputs and outputs stay FP32.
    """
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
    _drop_round_trips(converted)
    converted = tidied(converted)
    set_props(converted, precision="fp16")
    return converted


def _drop_round_trips(model: onnx.ModelProto) -> None:
    """Removes casts FP32 -> FP16 -> FP32.

    The converter casts every edge of the head, which would round the map without need.
    """
    import onnx

    graph, half, single = model.graph, onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT

    def casts(to: int) -> dict[str, onnx.NodeProto]:
        found = [n for n in graph.node if n.op_type == "Cast" and n.attribute[0].i == to]
        return {n.output[0]: n for n in found}

    narrowed, widened = casts(half), casts(single)
    source = {
        name: narrowed[node.input[0]].input[0]
        for name, node in widened.items()
        if node.input[0] in narrowed
    }
    ends = {o.name for o in graph.output}
    # The name of a graph output must stay, so the node that computes it takes that name.
    same = {old: new for new, old in source.items() if new in ends}
    same |= {old: new for old, new in source.items() if old not in ends}
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = same.get(name, name)
    for name in source:
        graph.node.remove(widened[name])
    used = {name for node in graph.node for name in node.input} | ends
    for name, cast in narrowed.items():
        if name not in used:
            graph.node.remove(cast)
