"""Checking that a network can be converted, before anything is measured or written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posgan_edge.build.graph import float16_ends, props, sizes
from posgan_edge.engines.loader import load_engine
from posgan_edge.errors import BadInput
from posgan_edge.files import scratch_folder
from posgan_edge.geometry.layout import load_layout

if TYPE_CHECKING:
    import onnx


def check_convertible(model: onnx.ModelProto, name: str) -> None:
    """Raises BadInput for a network that cannot be calibrated or converted to FP16 or INT8.

    That is a network without convolutions, with float16 inputs or outputs, with a fixed batch, of
    an unknown layout, or one that fails or returns numbers that are not finite on two random
    pictures. The message begins with ``name``.
    """
    load_layout(props(model)["layout"])
    if not any(node.op_type == "Conv" for node in model.graph.node):
        raise BadInput(f"{name}: holds no convolution, and such a network is not converted")
    if float16_ends(model):
        raise BadInput(f"{name}: its input or output is float16: give the FP32 model")
    image = next(value for value in model.graph.input if value.name == "image")
    if image.type.tensor_type.shape.dim[0].HasField("dim_value"):
        raise BadInput(f"{name}: takes a fixed batch only: export it with a batch of any size")
    size, map_size = sizes(model)
    pictures = np.random.default_rng(0).random((2, 3, size, size), np.float32)
    with scratch_folder() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            with load_engine(path, threads=1, provider="cpu") as engine:
                maps = engine.infer(pictures)
        except BadInput as error:
            raise BadInput(f"{name}: {str(error).partition(': ')[2]}") from error
    if maps.shape[-1] != map_size:
        raise BadInput(f"{name}: returns maps of {maps.shape[-1]} px, its file says {map_size}")
    if not np.isfinite(maps).all():
        raise BadInput(f"{name}: returns numbers that are not finite")
