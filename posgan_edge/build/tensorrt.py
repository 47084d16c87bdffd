"""Building plans for TensorRT 10.3 to 11.4 and TensorRT-RTX.

The ONNX model sets the precision (FP16 casts, Q/DQ nodes): networks are strongly typed, and no
feature is used that TensorRT 11 removed.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from posgan_edge.engines.runtimes import load_tensorrt
from posgan_edge.errors import BadInput, MissingRuntime, PosganError, UsageError
from posgan_edge.files import check_output, read_limited, scratch_folder, write_whole

#: Begins the file of a timing cache, which TensorRT's bytes follow; its most bytes.
_CACHE_MARK, _CACHE_LIMIT = b"posgan-edge timing cache\n", 1 << 30


@dataclass(frozen=True)
class PlanOptions:
    """How to build a plan.

    ``batch`` is the largest batch, ``tuned_for`` the one whose speed matters most: one face.
    ``workspace_mib`` is in MiB, 0 for no limit. ``compute_capability`` (such as ``8.9``) is for
    TensorRT-RTX; empty means the GPU here. ``timing_cache`` holds the bytes of an earlier build's
    cache.
    """

    batch: int = 1
    workspace_mib: int = 0
    compute_capability: str = ""
    timing_cache: bytes = b""
    tuned_for: int = 1


def check_cache(path: Path, output: Path) -> None:
    """Raises UsageError or BadInput for the file of a timing cache that cannot be written, is the
    ``output`` too, or is there and was written by something else."""
    if path.absolute() == output.absolute():
        raise UsageError(f"{path}: is the output too: give another name", "timing_cache")
    check_output(path, _CACHE_MARK)


def read_cache(path: Path | None) -> bytes:
    """Returns TensorRT's bytes of a timing cache; none if there is no file."""
    if path is None or not path.is_file():
        return b""
    return read_limited(path, _CACHE_LIMIT).removeprefix(_CACHE_MARK)


def write_cache(path: Path, cache: bytes) -> None:
    """Writes TensorRT's bytes of a timing cache. Raises BadInput if they cannot be written."""
    write_whole(path, _CACHE_MARK + cache)


def check_options(target: str, options: PlanOptions, timing_cache: bool) -> None:
    """Raises UsageError for an option that a build for ``target`` would ignore.

    ``timing_cache``: whether the file of a timing cache was given.
    """
    if target not in ("tensorrt", "tensorrt-rtx"):
        if options.compute_capability:
            raise UsageError(
                f"a compute capability is for tensorrt-rtx, not for {target}", "compute_capability"
            )
        if options.workspace_mib:
            raise UsageError(
                f"a workspace limit is for tensorrt and tensorrt-rtx, not for {target}", "workspace"
            )
        if options.tuned_for != 1:
            raise UsageError(
                f"tuning for a batch is for tensorrt and tensorrt-rtx, not for {target}",
                "tuned_for",
            )
    if options.tuned_for > options.batch:
        raise UsageError(
            f"tuned for batches of {options.tuned_for}, but the plan takes at most {options.batch}",
            "batch",
            "tuned_for",
        )
    if timing_cache and target != "tensorrt":
        raise UsageError(f"a timing cache is for tensorrt, not for {target}", "timing_cache")


def build_plan(
    onnx_bytes: bytes,
    target: str,
    options: PlanOptions,
    on_message: Callable[[str], None] | None = None,
) -> tuple[bytes, bytes]:
    """Returns (plan, timing cache) of an ONNX model with the input ``image``.

    With ``batch`` 1 the shape is fixed; otherwise the plan takes 1 to ``batch`` images and is tuned
    for ``tuned_for``. Raises BadInput if the model cannot be read or built, UsageError for a
    compute capability that cannot be used, and MissingRuntime without the builder.
    """
    trt = load_tensorrt(target)
    messages: list[str] = []
    logger = _logger(trt, messages, on_message)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_bytes):
        first = parser.get_error(0).desc() if parser.num_errors else "unknown reason"
        raise BadInput(f"{target} cannot read the model: {' '.join(first.split())[:300]}")
    _check_network(trt, network)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 must be exact; use FP16 for speed
    profile = builder.create_optimization_profile()
    shape = tuple(network.get_input(0).shape)[1:]
    batches = (1, options.tuned_for, options.batch)
    profile.set_shape(network.get_input(0).name, *((batch, *shape) for batch in batches))
    config.add_optimization_profile(profile)
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.compute_capability:
        _set_capability(trt, config, target, options.compute_capability)
    cache = None
    if target == "tensorrt":
        cache = config.create_timing_cache(options.timing_cache)
        config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        why = messages[-1] if messages else "no reason given"
        raise BadInput(f"{target} cannot build the model: {why[:300]}")
    return bytes(plan), bytes(cache.serialize()) if cache is not None else b""


def _check_network(trt: Any, network: Any) -> None:
    """Removes all outputs but the position map.

    Raises BadInput if input or output is not float32, as engines need.
    """
    ends = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    for output in [network.get_output(i) for i in range(network.num_outputs)]:
        if output.name == "position_map":
            ends[output.name] = output
        else:
            network.unmark_output(output)
    if list(ends) != ["image", "position_map"]:
        raise BadInput(f"a plan takes 'image' and gives 'position_map', the model has {list(ends)}")
    for name, tensor in ends.items():
        if tensor.dtype != trt.float32:
            raise BadInput(f"{name} is {tensor.dtype}: plans have float32 inputs and outputs")


def _set_capability(trt: Any, config: Any, target: str, capability: str) -> None:
    if target != "tensorrt-rtx":
        raise UsageError(
            "a compute capability is for tensorrt-rtx; tensorrt builds for this GPU",
            "compute_capability",
        )
    name = "SM" + capability.replace(".", "")
    known = sorted(n for n in dir(trt.ComputeCapability) if n.startswith("SM"))
    if name not in known:
        raise UsageError(
            f"compute capability {capability}: {target} knows {', '.join(known)}",
            "compute_capability",
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)


def _logger(trt: Any, messages: list[str], on_message: Callable[[str], None] | None) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                messages.append(" ".join(message.split()))
            if on_message is not None and severity <= trt.ILogger.WARNING:
                on_message(message)

    return Logger()


def build_plan_apart(onnx_bytes: bytes, target: str, options: PlanOptions) -> tuple[bytes, bytes]:
    """Runs ``build_plan`` in a process of its own, so that a crash of the builder is an error.

    Raises as ``build_plan`` does, and BadInput if the process dies. On Linux, address randomisation
    is off there: otherwise two TensorRT-RTX builds with a range of batch sizes would differ.
    """
    with scratch_folder() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(onnx_bytes)
        (folder / "timing.cache").write_bytes(options.timing_cache)
        values = asdict(replace(options, timing_cache=b"")) | {"target": target}
        del values["timing_cache"]
        (folder / "options.json").write_text(json.dumps(values))
        child = subprocess.run(
            [sys.executable, "-m", __name__, name],
            capture_output=True,
            text=True,
            preexec_fn=_fix_addresses if sys.platform == "linux" else None,
        )
        if (folder / "error.json").is_file():
            error = json.loads((folder / "error.json").read_text())
            raise _error_class(error["exit_code"])(error["message"], *error["fields"])
        if child.returncode or not (folder / "plan").is_file():
            last = (child.stderr.strip().splitlines() or ["no message"])[-1]
            raise BadInput(f"{target}'s builder died (exit code {child.returncode}): {last[:200]}")
        return (folder / "plan").read_bytes(), (folder / "timing.cache").read_bytes()


def _fix_addresses() -> None:
    ctypes.CDLL(None).personality(0x0040000)  # ADDR_NO_RANDOMIZE; kept over exec


def _error_class(exit_code: int) -> type[PosganError]:
    return {c.exit_code: c for c in (BadInput, MissingRuntime, UsageError)}[exit_code]


def _child(folder: Path) -> None:
    values = json.loads((folder / "options.json").read_text())
    target = values.pop("target")
    options = PlanOptions(**values, timing_cache=(folder / "timing.cache").read_bytes())
    try:
        plan, cache = build_plan((folder / "model.onnx").read_bytes(), target, options)
    except PosganError as error:
        fields = getattr(error, "fields", ())
        content = {"exit_code": error.exit_code, "message": str(error), "fields": fields}
        (folder / "error.json").write_text(json.dumps(content))
        return
    (folder / "timing.cache").write_bytes(cache)
    (folder / "plan").write_bytes(plan)


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
