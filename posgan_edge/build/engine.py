"""Building an engine from a model: export, conversion, calibration and building."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posgan_edge.arrays import FloatArray
from posgan_edge.build.calibration import (
    CalibrationFaces,
    CalibrationRecord,
    calibrate,
    folder_faces,
)
from posgan_edge.build.fp16 import to_fp16
from posgan_edge.build.graph import float16_ends, load_model, props, set_props, sizes
from posgan_edge.build.int8 import matching_layers, to_int8
from posgan_edge.build.sensitivity import Budget, CostMeter, meet_budget
from posgan_edge.build.tensorrt import (
    PlanOptions,
    build_plan_apart,
    check_cache,
    check_options,
    read_cache,
    write_cache,
)
from posgan_edge.build.trial import check_convertible
from posgan_edge.engines.loader import SHIPPED, load_engine
from posgan_edge.engines.manifest import Manifest, check_engine_output, parse_plan_header
from posgan_edge.engines.runtimes import load_tensorrt, runtime_version
from posgan_edge.engines.signing import load_private_key, save_engine
from posgan_edge.errors import BadInput, UsageError, needing
from posgan_edge.files import scratch_folder
from posgan_edge.geometry.layout import load_layout
from posgan_edge.progress import Progress, silent
from posgan_edge.system import gpu_here, machine_block
from posgan_edge.timing import take_turns

if TYPE_CHECKING:
    import onnx

_log = logging.getLogger(__name__)
TARGETS = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")
#: Targets whose engine is an ONNX file, each with the provider that runs it.
ONNX_TARGETS = {"onnxruntime": "cpu", "openvino": "openvino"}
PRECISIONS = ("fp32", "fp16", "int8")
#: From this opset on, Q/DQ may carry FP16, so that what is not INT8 runs in FP16.
FP16_SCALES_OPSET = 19


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    ``labels`` holds landmarks (68, 2 or more) of ``images`` by file stem (see ``folder_faces``).
    """

    model: str
    output: Path
    precision: str = "fp32"
    target: str = "onnxruntime"
    record: Path | None = None
    images: Path | None = None
    names: Sequence[str] | None = None
    labels: Mapping[str, FloatArray] = field(default_factory=dict)
    method: str = "mse"
    keep_float: str = ""
    budget: Budget = field(default_factory=Budget)
    plan: PlanOptions = field(default_factory=PlanOptions)
    timing_cache: Path | None = None
    faster_only: bool = True
    fp16_io: bool = False
    sign: Path | None = None  # Ed25519 private key, PEM
    command: str = ""


@dataclass(frozen=True)
class Converted:
    """A converted ONNX model, and the cost of the conversion."""

    model: onnx.ModelProto
    precision: str
    kept: list[str] = field(default_factory=list)
    calibration: str = ""
    accuracy: dict[str, float | None] = field(default_factory=dict)


def build_engine(request: BuildRequest, progress: Progress = silent) -> Manifest:
    """Builds and writes the engine and its manifest. Returns the manifest.

    Existing files stay until the new ones are complete. Raises UsageError, BadInput,
    MissingRuntime or BudgetMissed if nothing can be built.
    """
    _check(request)
    key = None if request.sign is None else load_private_key(request.sign)
    start = time.perf_counter()
    source = source_model(request.model, progress)
    converted = convert(request, source, progress)
    if request.target in ONNX_TARGETS and converted.precision == "int8" and request.faster_only:
        provider = ONNX_TARGETS[request.target]
        converted = _faster(source, converted, provider, progress)
    data = converted.model.SerializeToString(deterministic=True)
    onnx_hash = hashlib.sha256(data).hexdigest()
    cache_hash = ""
    if request.target in ONNX_TARGETS:
        version, payload = runtime_version(request.target), data
    else:
        progress(f"building the {request.target} plan", 0, 1)
        plan = replace(
            request.plan,
            compute_capability=_gpu_of(request, rtx_only=True)[1],
            timing_cache=read_cache(request.timing_cache),
        )
        payload, cache = build_plan_apart(data, request.target, plan)
        progress(f"building the {request.target} plan", 1, 1)
        header = parse_plan_header(payload)
        version = header[1] if header else load_tensorrt(request.target).__version__
        if request.timing_cache is not None and cache:
            write_cache(request.timing_cache, cache)
            cache_hash = hashlib.sha256(cache).hexdigest()
    info = props(converted.model)
    input_size, map_size = sizes(converted.model)
    machine = machine_block()
    gpu, capability = _gpu_of(request)
    manifest = Manifest(
        engine_sha256=hashlib.sha256(payload).hexdigest(),
        onnx_sha256=onnx_hash,
        runtime=request.target,
        runtime_version=version,
        precision=converted.precision,
        name=info.get("name", Path(request.model).stem),
        layout=info["layout"],
        input_size=input_size,
        map_size=map_size,
        batch=0 if request.target in ONNX_TARGETS else request.plan.batch,
        command=request.command,
        compute_capability=capability,
        gpu=gpu,
        system=machine["system"],
        kept_float=tuple(converted.kept),
        calibration=converted.calibration,
        timing_cache=cache_hash,
        build_seconds=round(time.perf_counter() - start, 2),
        accuracy=converted.accuracy,
        machine=machine,
    )
    save_engine(request.output, payload, manifest, key)
    return manifest


def source_model(model: str, progress: Progress) -> onnx.ModelProto:
    """Returns the FP32 ONNX of a shipped name, an ONNX file, or a checkpoint (needs torch)."""
    if model in SHIPPED:
        return load_model(str(resources.files("posgan_edge.assets") / SHIPPED[model]))
    if Path(model).suffix == ".onnx":
        return load_model(model)
    with needing("PyTorch", "exporting a checkpoint (or give an ONNX)", "export"):
        from posgan_edge.build.export import export_onnx
        from posgan_edge.models.checkpoints import load_generator
    generator = load_generator(model)
    with scratch_folder() as folder:
        progress("exporting", 0, 1)
        export_onnx(generator, Path(folder) / "model.onnx")
        progress("exporting", 1, 1)
        return load_model(Path(folder) / "model.onnx")


def convert(request: BuildRequest, source: onnx.ModelProto, progress: Progress) -> Converted:
    """Returns the model at the requested precision, within the budget."""
    has = props(source).get("precision", "fp32")
    if has != "fp32":
        if request.target not in ONNX_TARGETS and float16_ends(source):
            raise BadInput(
                f"{request.model}: its input and output are float16, a {request.target} engine "
                "takes float32: build it without FP16 inputs and outputs"
            )
        if has == request.precision:
            return Converted(source, has)
        raise BadInput(f"{request.model}: is {has} already, {request.precision} needs the FP32")
    if request.precision == "fp32" and request.target in ONNX_TARGETS:
        load_layout(props(source)["layout"])
        return Converted(source, "fp32")
    check_convertible(source, request.model)
    if request.precision == "fp32":
        return Converted(source, "fp32")
    if request.precision == "fp16":
        return Converted(to_fp16(source, keep_io=not request.fp16_io), "fp16")
    faces, record = _calibration(request, source, progress)
    keep = matching_layers(source, request.keep_float) if request.keep_float else []
    accuracy: dict[str, float | None] = {}
    graph = "onnxruntime" if request.target in ONNX_TARGETS else "tensorrt"
    if faces is not None:
        meter = CostMeter(source, faces)
        keep, cost, _ = meet_budget(
            source, record, meter, request.budget, keep,
            progress, graph,
        )  # fmt: skip
        accuracy = {"pixels": cost.pixels, "nme_points": cost.nme, "faces": len(faces.images)}
    quantized = to_int8(source, record, keep, graph)
    if graph == "tensorrt" and source.opset_import[0].version >= FP16_SCALES_OPSET:
        quantized = to_fp16(quantized)
        set_props(quantized, precision="int8")
    return Converted(quantized, "int8", keep, record.digest, accuracy)


def _calibration(
    request: BuildRequest, source: onnx.ModelProto, progress: Progress
) -> tuple[CalibrationFaces | None, CalibrationRecord]:
    size, _ = sizes(source)
    faces = None
    if request.images is not None:
        faces = folder_faces(request.images, size, request.names, request.labels, progress)
    if request.record is not None:
        record = CalibrationRecord.load(request.record)
        record.check_model(source, request.record)
        if faces is not None and record.images != faces.sources:
            raise BadInput(f"{request.record}: was made from other pictures than {request.images}")
        return faces, record
    if faces is None:
        raise UsageError("int8 needs a calibration record or pictures", "record", "images")
    layout = props(source)["layout"]
    return faces, calibrate(source, faces, layout, request.method, progress=progress)


def _faster(
    source: onnx.ModelProto, converted: Converted, provider: str, progress: Progress
) -> Converted:
    """Returns the INT8 model, or the FP32 one if INT8 is slower on this machine."""
    ratio = latency_ratio(source, converted.model, provider=provider)
    _log.info("INT8 takes %.2f of FP32's time on this machine", ratio)
    if ratio <= 1.0:
        return Converted(
            converted.model, "int8", converted.kept, converted.calibration,
            {**converted.accuracy, "latency_ratio": ratio},
        )  # fmt: skip
    return Converted(source, "fp32", accuracy={"int8_latency_ratio": ratio})


def latency_ratio(
    first: onnx.ModelProto, second: onnx.ModelProto, rounds: int = 60, provider: str = "cpu"
) -> float:
    """Returns the median time of the second over that of the first; one image, one thread."""
    with scratch_folder() as folder:
        engines = []
        for index, model in enumerate((first, second)):
            path = Path(folder) / f"{index}.onnx"
            path.write_bytes(model.SerializeToString())
            engines.append(load_engine(path, threads=1, provider=provider))
        size = engines[0].info.input_size
        image = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        first_, second_ = engines
        times = take_turns(
            {"first": lambda: first_.infer(image), "second": lambda: second_.infer(image)}, rounds
        )
        return float(np.median(times["second"]) / np.median(times["first"]))


def _check(request: BuildRequest) -> None:
    if request.precision not in PRECISIONS or request.target not in TARGETS:
        raise BadInput(f"unknown precision {request.precision!r} or target {request.target!r}")
    if request.fp16_io and (request.precision, request.target) != ("fp16", "onnxruntime"):
        raise UsageError(
            "FP16 inputs and outputs need precision fp16, target onnxruntime", "fp16_io"
        )
    if request.precision != "int8" and (request.record or request.images) is not None:
        raise UsageError("a calibration record and pictures are for int8", "record", "images")
    check_options(request.target, request.plan, request.timing_cache is not None)
    if request.timing_cache is not None:
        check_cache(request.timing_cache, request.output)
    if request.target in ONNX_TARGETS:
        if request.output.suffix != ".onnx":
            raise UsageError(f"{request.output}: an {request.target} engine ends in .onnx")
        runtime_version(request.target)
    else:
        if request.output.suffix == ".onnx":
            raise UsageError(f"{request.output}: a {request.target} engine does not end in .onnx")
        load_tensorrt(request.target)
    check_engine_output(request.output, request.model)


def _gpu_of(request: BuildRequest, rtx_only: bool = False) -> tuple[str, str]:
    """Returns name and compute capability of the GPU that a plan is for: the requested capability,
    or else this machine's GPU. The name is empty for another GPU. ``rtx_only``: for TensorRT,
    only a requested capability is returned."""
    asked = request.plan.compute_capability
    if request.target in ONNX_TARGETS or (rtx_only and request.target == "tensorrt"):
        return "", asked
    gpu, here = gpu_here()
    return (gpu, here) if asked in ("", here) else ("", asked)
