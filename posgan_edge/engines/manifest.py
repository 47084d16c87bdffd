"""The manifest: a JSON file beside an engine file that describes it and holds its SHA-256."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from posgan_edge.documents import Document, convert, nan_to_none, read, save
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import check_writable

SCHEMA = 1
#: First bytes of a plan, and the runtime that reads it.
PLAN_MAGIC = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}
_Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]


class Manifest(Document, frozen=True):
    """What an engine was built from, with what, and for what.

    A plan is native code: it is loaded only if its SHA-256 is that of its manifest. ``accuracy``
    holds what was measured of the difference from FP32 (None for a figure that was not);
    ``command`` builds the engine again.
    """

    kind: ClassVar[str] = "manifest"

    engine_sha256: str
    onnx_sha256: str
    runtime: str
    runtime_version: str
    precision: str
    name: str
    layout: str
    input_size: _Size
    map_size: _Size
    batch: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
    command: str
    compute_capability: str = ""
    gpu: str = ""
    system: str = ""
    kept_float: tuple[str, ...] = ()
    calibration: str = ""
    timing_cache: str = ""
    build_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    accuracy: dict[str, float | None] = msgspec.field(default_factory=dict)
    machine: dict[str, Any] = msgspec.field(default_factory=dict)
    schema: int = SCHEMA

    def save(self, engine: str | Path) -> None:
        """Writes the manifest beside its engine file (atomically)."""
        save(manifest_path(engine), self)


def has_manifest(engine: str | Path) -> bool:
    """Whether a manifest lies beside an engine file."""
    return os.path.lexists(manifest_path(engine))  # False for a name that is too long


def manifest_path(engine: str | Path) -> Path:
    """``X.engine`` -> ``X.engine.json``."""
    engine = Path(engine)
    return engine.with_name(engine.name + ".json")


def check_engine_output(output: str | Path, model: str) -> None:
    """Raises UsageError where building an engine would lose a file: the model that it is made of,
    or another file than an engine with its manifest. Raises BadInput if it cannot be written."""
    output = check_writable(output)
    if os.path.exists(output) and os.path.isfile(model) and os.path.samefile(output, model):
        raise UsageError(f"{output}: is the model itself: give another name")
    if not any(os.path.lexists(path) for path in (output, manifest_path(output))):
        return
    try:
        load_manifest(output)
    except BadInput as error:
        raise UsageError(
            f"{output}: already exists and is not an engine with a manifest: give another name, or "
            "remove it"
        ) from error


def load_manifest(engine: str | Path) -> Manifest:
    """The manifest beside an engine file. Raises BadInput when absent or broken."""
    path = manifest_path(engine)
    if not has_manifest(engine):
        raise BadInput(f"{engine}: has no manifest {path.name}; build it with build-engine")
    return manifest_of(read(path, Manifest.kind), path)


def manifest_of(content: Any, path: Path) -> Manifest:
    """A manifest from its plain content; ``path`` is named in errors."""
    if isinstance(content, dict) and content.get("schema") != SCHEMA:
        raise BadInput(f"{path}: manifest version {content.get('schema')}, not {SCHEMA}")
    return convert(nan_to_none(content), Manifest, path)


def checked_manifest(engine: str | Path) -> Manifest:
    """The manifest, once the file's hash and the version in its header agree with it."""
    return read_checked(engine)[0]


def read_checked(engine: str | Path, manifest: Manifest | None = None) -> tuple[Manifest, bytes]:
    """The manifest of an engine file and the file's bytes, read once and checked against it.

    ``manifest`` is one that was read, and whose signature was checked, before.
    Raises BadInput if hash or header do not agree. Load the bytes that are returned: the file may
    change after the check.
    """
    manifest = manifest or load_manifest(engine)
    try:
        data = Path(engine).read_bytes()
    except OSError as error:
        raise BadInput(f"{engine}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != manifest.engine_sha256:
        raise BadInput(
            f"{engine}: is not the file that its manifest describes; rebuild it: {manifest.command}"
        )
    header = parse_plan_header(data[:28])
    if header is not None and header != (manifest.runtime, manifest.runtime_version):
        raise BadInput(
            f"{engine}: its header says {' '.join(header)}, its manifest {manifest.runtime} "
            f"{manifest.runtime_version}; rebuild it: {manifest.command}"
        )
    return manifest, data


def plan_header(engine: str | Path) -> tuple[str, str] | None:
    """(runtime, version) from a plan's first bytes; None for a file that is no plan."""
    try:
        with open(engine, "rb") as stream:
            head = stream.read(28)
    except OSError as error:
        raise BadInput(f"{engine}: cannot be read ({error.strerror})") from error
    return parse_plan_header(head)


def parse_plan_header(head: bytes) -> tuple[str, str] | None:
    """(runtime, version) from at least the first 28 bytes of a plan; None for anything else."""
    runtime = PLAN_MAGIC.get(head[:4])
    if runtime is None or len(head) < 28:
        return None
    return runtime, ".".join(str(b) for b in head[24:28])
