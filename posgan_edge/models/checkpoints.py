"""Loading and saving generators: checkpoints of the original and of this package."""

from __future__ import annotations

import json
import os
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import torch

from posgan_edge.documents import Document, convert
from posgan_edge.errors import BadInput, needing
from posgan_edge.files import write_whole
from posgan_edge.models.registry import Generator, build_generator, name_of

#: Weights inside the package, by the name of their generator.
SHIPPED_WEIGHTS = {"edge": "edge.safetensors"}
_FIRST_KEY = "encoder.0.block.0.weight"


def load_generator(path: str | Path, layout: str | None = None) -> Generator:
    """Loads a generator, in evaluation mode: a shipped name (``edge``) or a checkpoint file.

    Reads .pth, .pt, .ckpt and .safetensors: the original's checkpoints (a dict with
    ``Generator``; ngf is inferred from the shapes; UV layout ``prnet``), this package's training
    checkpoints (averaged weights if they exist) and its safetensors files. Pickled code is never
    run. Raises BadInput for a missing, truncated or other file, and if the generator's UV layout is
    not ``layout``.
    """
    if str(path) in SHIPPED_WEIGHTS:
        path = str(resources.files("posgan_edge.assets") / SHIPPED_WEIGHTS[str(path)])
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such checkpoint file (shipped: {', '.join(SHIPPED_WEIGHTS)})")
    generator = _from_safetensors(path) if path.suffix == ".safetensors" else _from_torch(path)
    if layout is not None and generator.layout != layout:
        raise BadInput(f"{path}: has UV layout {generator.layout!r}, not {layout!r}")
    return generator.eval()


def save_safetensors(generator: Generator, path: str | Path, **metadata: str) -> None:
    """Writes weights, basis and configuration as one safetensors file (atomically)."""
    from safetensors.torch import save

    header = {
        "format": "pt",
        "posgan_edge.generator": name_of(generator),
        "posgan_edge.config": json.dumps(generator.config),
        **metadata,
    }
    tensors = {
        k: v.detach().cpu().contiguous()
        for k, v in generator.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    # save_file ignores the umask and makes a file that only its owner can read.
    write_whole(path, save(tensors, metadata=header))


class GeneratorState(Document, frozen=True):
    """A generator in a checkpoint: its name, options and weights."""

    kind: ClassVar[str] = "generator checkpoint"

    name: str
    config: dict[str, Any]
    weights: dict[str, torch.Tensor]


def generator_state(generator: Generator) -> dict[str, Any]:
    """Returns the content of a ``GeneratorState`` as plain values."""
    return {
        "name": name_of(generator),
        "config": generator.config,
        "weights": generator.state_dict(),
    }


def load_torch_file(path: Path) -> dict[str, Any]:
    """Reads a checkpoint file. Returns its dictionary of plain values and tensors.

    Pickled code is never run. Raises BadInput for a missing file and for any other content.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such checkpoint file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever the damage hits
        reason = "is not a checkpoint of plain tensors"
        if os.path.getsize(path) == 0:
            reason = "is empty"
        elif not zipfile.is_zipfile(path):
            reason = "is truncated or not a PyTorch file"
        raise BadInput(f"{path}: {reason}; nothing was loaded") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: holds a {type(content).__name__}, not a checkpoint dict")
    return content


def _from_torch(path: Path) -> Generator:
    content = load_torch_file(path)
    if "generator_ema" in content or "generator" in content:
        found = content.get("generator_ema") or content["generator"]
        return _built(convert(found, GeneratorState, path), path)
    weights = content.get("Generator", content)
    first = weights.get(_FIRST_KEY) if isinstance(weights, dict) else None
    if not isinstance(first, torch.Tensor) or first.ndim != 4 or first.shape[1:] != (3, 4, 4):
        found = ", ".join(sorted(map(str, content))[:6]) or "nothing"
        raise BadInput(
            f"{path}: not a generator checkpoint (no 'Generator' with {_FIRST_KEY} of shape "
            f"(ngf, 3, 4, 4); found: {found})"
        )
    found = {"name": "unet", "config": {"ngf": first.shape[0]}, "weights": weights}
    return _built(convert(found, GeneratorState, path), path)


def _from_safetensors(path: Path) -> Generator:
    with needing("safetensors", "reading this file", "torch"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path}: is truncated or not a safetensors file") from error
    if "posgan_edge.generator" not in metadata:
        raise BadInput(f"{path}: a safetensors file, but not one of a posgan-edge generator")
    try:
        config = json.loads(metadata.get("posgan_edge.config", ""))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: its posgan_edge.config is not JSON") from error
    content = {"name": metadata["posgan_edge.generator"], "config": config, "weights": weights}
    return _built(convert(content, GeneratorState, path), path)


def _built(state: GeneratorState, path: Path) -> Generator:
    try:
        generator = build_generator(state.name, **state.config)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    fill(generator, state.weights, path)
    return generator


def fill(generator: Generator, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Copies weights into a generator.

    Raises BadInput if names, shapes or types differ, or a value is not finite. Some weights may
    have been copied then.
    """
    for key, value in weights.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise BadInput(f"{path}: {key} is a tensor of another kind ({value.dtype})")
        if not bool(torch.isfinite(value).all()):
            raise BadInput(f"{path}: {key} holds values that are not finite")
    try:
        absent, unknown = generator.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        mismatch = str(error).strip().splitlines()[-1].strip()
        raise BadInput(f"{path}: weights of another shape: {mismatch}") from error
    absent = [k for k in absent if not k.endswith("num_batches_tracked")]
    if absent or unknown:
        raise BadInput(
            f"{path}: not a {name_of(generator)} checkpoint: {len(absent)} weights are missing "
            f"and {len(unknown)} unknown, first {(absent or unknown)[0]!r}"
        )
