"""Exporting a generator to ONNX, and checking the file against PyTorch."""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from posgan_edge import __version__
from posgan_edge.errors import BadInput, needing
from posgan_edge.files import replaced
from posgan_edge.geometry.layout import DEFAULT_SET, UvLayout, load_layout
from posgan_edge.geometry.sampling import bilinear_taps
from posgan_edge.models.registry import Generator, name_of, to_memory_format

if TYPE_CHECKING:
    import onnx

#: Largest difference from PyTorch that an export may have, in crop units.
PARITY_LIMIT = 1e-4


def weights_digest(generator: Generator) -> str:
    """Returns the SHA-256 of the weights in key order; it does not depend on the file format."""
    digest = hashlib.sha256()
    for key, value in sorted(generator.state_dict().items()):
        if not key.endswith("num_batches_tracked"):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _WithLandmarks(nn.Module):
    """A generator that also returns its 68 landmarks (N, 68, 3) in crop units."""

    def __init__(self, generator: Generator, layout: UvLayout) -> None:
        super().__init__()
        self.generator = generator
        index, weight = bilinear_taps(layout.landmark_uv, generator.map_size)
        self.register_buffer("index", torch.from_numpy(index.ravel()))
        self.register_buffer("weight", torch.from_numpy(weight))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.generator(image)
        taps = maps.flatten(2).index_select(2, cast(Tensor, self.index))
        points = (taps.reshape(-1, 3, 68, 4) * cast(Tensor, self.weight)).sum(-1)
        return maps, points.transpose(1, 2)


def export_onnx(
    generator: Generator,
    path: str | Path,
    landmarks: bool = False,
    opset: int = 20,
    landmark_set: str = DEFAULT_SET,
) -> float:
    """Writes ``image`` (N, 3, S, S) -> ``position_map`` (N, 3, M, M), both float32, dynamic N.

    With ``landmarks`` there is a second output ``landmarks`` (N, 68, 3), sampled in the graph:
    those of ``landmark_set``, which is in the metadata unless it is the default.
    Batch norms are folded; name, layout, precision, weights digest and version are in the file's
    metadata. ONNX's checker and shape inference are run. Returns the largest difference from
    PyTorch on random images, in crop units. Raises BadInput if it is above ``PARITY_LIMIT`` or the
    layout has no such landmarks, and MissingRuntime if a package is not installed.
    """
    with needing(None, "exporting", "export"):
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    generator = to_memory_format(generator.eval().cpu(), torch.contiguous_format)
    size = generator.input_size
    outputs = ["position_map", "landmarks"] if landmarks else ["position_map"]
    layout = load_layout(generator.layout).with_landmarks(landmark_set)
    module = _WithLandmarks(generator, layout).eval() if landmarks else generator
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with replaced(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (images,),
                input_names=["image"],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
        if program is None:
            raise BadInput(f"{path}: PyTorch exported nothing; nothing was written")
        model = program.model_proto
        onnx.helper.set_model_props(
            model,
            {
                "name": name_of(generator),
                "layout": generator.layout,
                "precision": "fp32",
                "input_size": str(size),
                "weights_sha256": weights_digest(generator),
                "posgan_edge_version": __version__,
            }
            | ({"landmark_set": landmark_set} if landmark_set != DEFAULT_SET else {}),
        )
        _strip(model)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        found = session.run(outputs, {"image": images.numpy()})
        with torch.inference_mode():
            expected = module(images) if landmarks else (generator(images),)
        difference = max(
            float(np.abs(a - e.numpy()).max()) for a, e in zip(found, expected, strict=True)
        )
        if not difference <= PARITY_LIMIT:
            raise BadInput(f"{path}: differs from PyTorch by {difference:.2g}; nothing was written")
    return difference


def _strip(model: onnx.ModelProto) -> None:
    """Removes the exporter's notes, which contain paths of source files on this machine."""
    graph = model.graph
    for entry in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del entry.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
