"""Which inputs and outputs a network must have; checked before its first run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from posgan_edge.engines.base import EngineInfo
from posgan_edge.errors import BadInput

FLOATS = ("float32", "float16")
#: The largest side of an input or of a map, in pixels, and the largest fixed batch.
MOST_PIXELS, MOST_IMAGES = 2048, 256
MOST_THREADS = 256


@dataclass(frozen=True)
class Port:
    """An input or output: its NumPy type and its shape, None where a size is not fixed."""

    name: str
    type: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join(str(s or "?") for s in self.shape)
        return f"{self.name} {self.type} ({sizes})"


@dataclass(frozen=True)
class Signature:
    """``batch`` is the only batch that the network takes, 0 for any; ``type`` is its input's."""

    name: str
    layout: str
    precision: str
    input_size: int
    map_size: int
    batch: int
    type: str

    def info(self, runtime: str, digest: str, threads: int, batch: int = 0) -> EngineInfo:
        """The description of an engine that runs the network. ``batch`` is the largest batch of the
        runtime, 0 for any."""
        return EngineInfo(
            name=self.name,
            runtime=runtime,
            layout=self.layout,
            input_size=self.input_size,
            map_size=self.map_size,
            precision=self.precision,
            batch=self.batch or batch,
            model_hash=digest,
            threads=threads,
        )


def check_signature(
    path: Path,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    metadata: Mapping[str, str],
    types: Sequence[str] = FLOATS,
) -> Signature:
    """The signature of a network that takes ``image`` (N, 3, S, S) and returns ``position_map``
    (N, 3, M, M), N fixed or not. Raises BadInput that names what is different."""
    maps = next((port for port in outputs if port.name == "position_map"), None)
    if "image" not in {port.name for port in inputs} or maps is None or "layout" not in metadata:
        found = [port.name for port in inputs], [port.name for port in outputs]
        raise BadInput(
            f"{path}: not a posgan-edge model (input 'image', output 'position_map' and 'layout' "
            f"metadata are needed; found {found[0]} -> {found[1]})"
        )
    if len(inputs) > 1:
        more = ", ".join(str(port) for port in inputs if port.name != "image")
        raise BadInput(f"{path}: has more inputs than 'image': {more}")
    image = inputs[0]
    batch, input_size = _sizes(path, image, types)
    map_batch, map_size = _sizes(path, maps, types)
    if batch and map_batch and batch != map_batch:
        raise BadInput(f"{path}: takes {batch} images a call and returns {map_batch} maps")
    return Signature(
        name=metadata.get("name", path.stem),
        layout=metadata["layout"],
        precision=metadata.get("precision", "fp32"),
        input_size=input_size,
        map_size=map_size,
        batch=batch,
        type=image.type,
    )


def check_threads(threads: int | None) -> None:
    """Raises BadInput unless ``threads`` is None or a whole number from 1 to 256."""
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    if threads is not None and not (whole and 1 <= threads <= MOST_THREADS):
        raise BadInput(f"threads = {threads!r}: give a whole number from 1 to {MOST_THREADS}")


def _sizes(path: Path, port: Port, types: Sequence[str]) -> tuple[int, int]:
    """(batch, side) of a port (N, 3, S, S); batch 0 where it is not fixed."""
    if port.type not in types:
        raise BadInput(f"{path}: {port}: {' or '.join(types)} is needed")
    shape = port.shape
    square = shape is not None and len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]
    if shape is None or not square or not shape[3]:
        raise BadInput(f"{path}: {port}: the shape must be (N, 3, S, S) with a fixed S")
    batch, side = shape[0] or 0, shape[3]
    if side > MOST_PIXELS or batch > MOST_IMAGES:
        raise BadInput(
            f"{path}: {port}: at most {MOST_PIXELS} pixels a side and {MOST_IMAGES} images"
        )
    return batch, side
