"""What this machine is and which runtimes it has."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from posgan_edge import __version__
from posgan_edge.errors import INSTALL_GPU


@dataclass(frozen=True)
class Ability:
    """One thing the package can do, and what is there for it or what to install."""

    name: str
    available: bool
    detail: str


#: Distribution, what it is for, and the extra that brings it.
_OPTIONAL = (
    ("onnxruntime", "running ONNX models", ""),
    ("openvino", "running ONNX models on OpenVINO", "openvino"),
    ("mediapipe", "finding faces", "detect"),
    ("av", "writing H.264, opening RTSP streams quickly", "video"),
    ("trimesh", "writing PLY and GLB meshes", "mesh"),
    ("torch", "running checkpoints", "torch"),
    ("safetensors", "reading .safetensors weights", "torch"),
    ("pyarrow", "writing and reading Parquet", "parquet"),
    ("ray", "labelling on many machines", "ray"),
    ("tritonclient", "running models on a Triton server", "triton"),
    ("onnx", "exporting", "export"),
    ("matplotlib", "plots", "train"),
    ("tensorboard", "training logs", "train"),
)

#: Microseconds that all cores together may work in a period, and the period.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cpu_name() -> str:
    """The processor's model name, as far as the system reports it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine_block() -> dict[str, Any]:
    """What a figure ran on, for reports; ``gpu``, ``driver`` and ``power_mode`` only where there
    is an NVIDIA GPU."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "posgan_edge": __version__,
        **gpu_block(),
    }


def gpu_block() -> dict[str, str]:
    """Name, driver and power mode of the first NVIDIA GPU, from its tools; empty without one."""
    told = _told("nvidia-smi", "--query-gpu=name,driver_version,power.limit", *_SMI)
    name, driver, limit = [*(part.strip() for part in told.split(",")), "", "", ""][:3]
    if not name:
        return {}
    mode = _told("nvpmodel", "-q").partition("NV Power Mode:")[2].split("\n")[0].strip()
    unknown = "[N/A]" if limit.startswith("[") or not limit else f"limit {limit}"
    return {"gpu": name, "driver": driver, "power_mode": mode or unknown}


_SMI = ("--format=csv,noheader", "--id=0")


def _told(*command: str) -> str:
    """The first lines of what a program prints; empty where it is absent, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "" if done.returncode else done.stdout


def gpu_here() -> tuple[str, str]:
    """Name and compute capability (``8.7``) of the first GPU; empty where none can be asked."""
    try:
        cuda = import_module("pycuda.driver")
        cuda.init()
        device = cuda.Device(0)
    except Exception:  # no pycuda, no driver, no device: each raises a class of its own
        name, _, capability = _told("nvidia-smi", "--query-gpu=name,compute_cap", *_SMI).partition(
            ","
        )
        return name.strip(), capability.strip()
    return device.name(), ".".join(map(str, device.compute_capability()))


def abilities() -> list[Ability]:
    """What can be done here; absent parts say which command installs them."""
    found = []
    for name, purpose, extra in _OPTIONAL:
        try:
            found.append(Ability(purpose, True, f"{name} {version(name)}"))
        except PackageNotFoundError:
            target = f"'posgan-edge[{extra}]'" if extra else "posgan-edge"
            found.append(Ability(purpose, False, f"pip install {target}"))
    found += _gpu_providers()
    for module, extra in (("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")):
        install = f"pip install 'posgan-edge[{extra}]'"
        found.append(_importable(module, f"building {extra} engines", install))
    found.append(_importable("pycuda.driver", "running TensorRT engines", INSTALL_GPU))
    return [*found, *_kernels()]


def _gpu_providers() -> list[Ability]:
    """Whether this ONNX Runtime was built for NVIDIA GPUs, and whether one is here."""
    try:
        available = import_module("onnxruntime").get_available_providers()
    except (ImportError, OSError):
        available = []
    gpu, found = gpu_here()[0], []
    for name, provider in (("cuda", "CUDA"), ("tensorrt", "Tensorrt")):
        purpose = f"running ONNX models on a GPU (--provider {name})"
        if f"{provider}ExecutionProvider" not in available:
            detail = "pip install onnxruntime-gpu in place of onnxruntime"
            found.append(Ability(purpose, False, detail))
        else:
            found.append(Ability(purpose, bool(gpu), gpu or "no NVIDIA GPU and driver here"))
    return found


def _kernels() -> list[Ability]:
    """Whether the kernels are installed, and whether there is a GPU for them."""
    host, device = "reading maps with the kernels on the CPU", "reading landmarks on the GPU"
    try:
        kernels = import_module("posgan_edge_kernels")
    except (ImportError, OSError):
        install = "numpy does it; the kernels are faster: pip install ./cpp_ext"
        return [Ability(host, False, install), Ability(device, False, install)]
    name = f"posgan_edge_kernels {kernels.__version__}"
    count, detail = 0, f"{name} was built without CUDA: host path only"
    if kernels.with_cuda:
        cuda = import_module("posgan_edge_kernels.cuda")
        count, reason = cuda.device_count()
        built = f"{name} for {', '.join(cuda.ARCHITECTURES)}"
        detail = built if count else f"{built}; no device: {reason}"
    return [Ability(host, True, name), Ability(device, count > 0, detail)]


def _importable(module: str, purpose: str, install: str) -> Ability:
    """Whether a module with native libraries loads; its metadata alone does not tell."""
    try:
        loaded = import_module(module)
    except (ImportError, OSError) as error:
        if not isinstance(error, ModuleNotFoundError):
            return Ability(purpose, False, f"{module} does not load: {str(error)[:80]}")
        return Ability(purpose, False, install)
    return Ability(purpose, True, f"{module} {getattr(loaded, '__version__', '')}".strip())


def usable_cores() -> int:
    """The number of cores that this process may use: those it may run on, and no more than a
    container's quota of time stands for."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    try:
        quota, period = map(int, _QUOTA.read_text().split())
    except (OSError, ValueError):  # ValueError: "max" stands for no quota
        return cores
    return max(1, min(cores, -(-quota // period)))


def has_display() -> bool:
    """Whether this process has a display to open a window on."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def has_gstreamer() -> bool:
    """Whether OpenCV was built with GStreamer, which CSI cameras need."""
    import cv2

    return bool(re.search(r"GStreamer:\s*YES", cv2.getBuildInformation()))


def live_abilities() -> list[Ability]:
    """What ``posgan-edge run`` can do here beyond files and network streams."""
    import cv2

    window, csi = has_display(), has_gstreamer()
    name = f"OpenCV {cv2.__version__}"
    without = f"{name} was built without GStreamer (JetPack's has it)"
    no_display = "no display: use --serve PORT or --save"
    return [
        Ability("showing a window", window, name if window else no_display),
        Ability("CSI cameras (csi://0)", csi, name if csi else without),
    ]
