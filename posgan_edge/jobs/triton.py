"""Writing model repositories for a Triton Inference Server."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from posgan_edge.engines import EngineInfo, load_engine
from posgan_edge.engines.loader import model_path
from posgan_edge.engines.manifest import checked_manifest
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.jobs.triton_models import FACE_OUTPUTS

BACKENDS = ("onnxruntime", "tensorrt", "python")
FACES = "faces"
_PLANS = (".engine", ".plan")
#: Inputs of the faces model: name, type, shape.
_FACE_INPUTS = (
    ("file", "UINT8", (-1,)), ("frame", "UINT8", (-1, -1, 3)), ("boxes", "FP64", (-1, 4)),
    ("max_faces", "INT32", (1,)),
)  # fmt: skip
_MODEL_PY = '''"""Run by Triton's Python backend; posgan-edge is installed for its Python."""

import os
import sys

# The backend's Python may ignore PYTHONPATH.
sys.path[:0] = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]

from posgan_edge.jobs.triton_models import {name} as TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True)
class Serving:
    """How models are served.

    ``backend`` is one of ``BACKENDS``. ``batch`` is the largest batch, in images. ``delay_us`` is
    the longest time, in microseconds, that a request waits for others. ``instances`` is the number
    of instances of the faces model; each uses one core. ``name`` is the network's name on the
    server, None for its own. Raises UsageError for a bad value.
    """

    backend: str = "onnxruntime"
    batch: int = 16
    delay_us: int = 500
    instances: int = 2
    name: str | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(f"backend {self.backend!r}: use {', '.join(BACKENDS)}", "backend")
        if self.batch < 1 or self.instances < 1 or self.delay_us < 0:
            raise UsageError("batch and instances are at least 1, the delay at least 0")
        if self.name == FACES or not re.fullmatch(r"[\w.-]+", self.name or "edge"):
            raise UsageError(f"name {self.name!r}: give letters and digits, and not {FACES!r}")


def write_repository(
    folder: str | Path, model: str | Path = "edge", serving: Serving | None = None
) -> list[str]:
    """Writes ``folder``/NAME (the network) and ``folder``/faces. Returns the names of the models.

    The network is an ONNX file or a TensorRT plan with its manifest; the backend ``python`` takes
    any other model file too. The backend ``tensorrt`` runs an ONNX file on ONNX Runtime with its
    TensorRT accelerator. Raises BadInput for a model that the backend cannot serve, and if the
    folder is not empty: nothing is replaced.
    """
    serving = serving or Serving()
    target, source = Path(folder), model_path(model)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target}: is there and holds something: give a new folder")
    _check_backend(source, serving.backend)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        names = _write(temporary, source, serving)
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
    except OSError as error:
        raise BadInput(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names


def _write(folder: Path, source: Path, serving: Serving) -> list[str]:
    python = serving.backend == "python"
    plan = source.suffix in _PLANS
    file = f"network{source.suffix}" if python else "model.plan" if plan else "model.onnx"
    # Load the copy, not the source, so that a model with weights in other files is refused.
    copied = folder / "copy" / file
    copied.parent.mkdir(parents=True)
    shutil.copyfile(source, copied)
    info = _described(source, copied, plan)
    name = serving.name or info.name
    network = folder / name / "1"
    network.mkdir(parents=True)
    os.replace(copied, network / file)
    copied.parent.rmdir()
    (folder / name / "config.pbtxt").write_text(_network_config(name, info, file, serving))
    if python:
        (network / "model.py").write_text(_MODEL_PY.format(name="NetworkModel"))
    faces = folder / FACES / "1"
    faces.mkdir(parents=True)
    (folder / FACES / "config.pbtxt").write_text(_faces_config(name, info, serving))
    (faces / "model.py").write_text(_MODEL_PY.format(name="FacesModel"))
    return [name, FACES]


def _check_backend(source: Path, backend: str) -> None:
    plan = source.suffix in _PLANS
    if backend == "onnxruntime" and source.suffix != ".onnx":
        other = "tensorrt" if plan else "python"
        raise BadInput(f"{source}: backend onnxruntime takes ONNX files: use backend {other}")
    if backend == "tensorrt" and not plan and source.suffix != ".onnx":
        raise BadInput(f"{source}: backend tensorrt takes ONNX files and plans: use backend python")
    if backend == "python" and plan:
        raise BadInput(f"{source}: a plan is served with backend tensorrt")


def _described(source: Path, copied: Path, plan: bool) -> EngineInfo:
    if plan:
        m = checked_manifest(source)
        return EngineInfo(
            m.name, m.runtime, m.layout, m.input_size, m.map_size, m.precision, m.batch
        )
    with load_engine(copied) as engine:
        info = engine.info
    if info.batch:
        raise BadInput(f"{source}: takes {info.batch} images a call: export it with a free batch")
    return info


def _network_config(name: str, info: EngineInfo, file: str, serving: Serving) -> str:
    plan = file.endswith(".plan")
    batch = info.batch if plan else serving.batch
    accelerated = serving.backend == "tensorrt" and not plan
    backend = "tensorrt" if plan else "python" if serving.backend == "python" else "onnxruntime"
    parameters = {"layout": info.layout, "precision": info.precision}
    if serving.backend == "python":
        parameters["file"] = file
    parts = [
        f'name: "{name}"',
        f'backend: "{backend}"',
        f"max_batch_size: {batch}",
        _ports("input", [("image", "FP32", (3, info.input_size, info.input_size))]),
        _ports("output", [("position_map", "FP32", (3, info.map_size, info.map_size))]),
        _instances(1, "KIND_GPU" if serving.backend == "tensorrt" else "KIND_CPU"),
    ]
    if batch > 1:
        preferred = ", ".join(str(n) for n in (4, 8, 16, 32, 64) if n <= batch)
        sizes = f" preferred_batch_size: [{preferred}]" if preferred else ""
        delay = f" max_queue_delay_microseconds: {serving.delay_us}"
        parts.append(f"dynamic_batching {{{sizes}{delay} }}")
    if accelerated:
        parts.append(
            "optimization { execution_accelerators { gpu_execution_accelerator "
            '[ { name: "tensorrt" parameters { key: "precision_mode" value: "FP32" } } ] } }'
        )
    return "\n".join([*parts, *_parameters(parameters)]) + "\n"


def _faces_config(network: str, info: EngineInfo, serving: Serving) -> str:
    parameters = {
        "network": network,
        "layout": info.layout,
        "input_size": str(info.input_size),
        "map_size": str(info.map_size),
        "batch": str(info.batch or serving.batch),
    }
    outputs = [(name, kind, (-1, *shape)) for name, kind, shape in FACE_OUTPUTS]
    parts = [
        f'name: "{FACES}"',
        'backend: "python"',
        "max_batch_size: 0",
        _ports("input", _FACE_INPUTS, " optional: true"),
        _ports("output", outputs),
        _instances(serving.instances, "KIND_CPU"),
        *_parameters(parameters),
    ]
    return "\n".join(parts) + "\n"


def _ports(kind: str, ports: Sequence[tuple[str, str, tuple[int, ...]]], more: str = "") -> str:
    lines = [
        f'  {{ name: "{name}" data_type: TYPE_{type_} dims: {list(shape)}{more} }}'
        for name, type_, shape in ports
    ]
    return f"{kind} [\n" + ",\n".join(lines) + "\n]"


def _instances(count: int, kind: str) -> str:
    return f"instance_group [ {{ count: {count} kind: {kind} }} ]"


def _parameters(values: Mapping[str, str]) -> list[str]:
    return [
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in values.items()
    ]
