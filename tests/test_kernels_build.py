"""What is compiled into the kernels, and what their device path says without a device."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.there import there

kernels = pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
SOURCES = Path(__file__).parents[1] / "cpp_ext" / "src"
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 110, 120)
needs_cuda = pytest.mark.skipif(not kernels.with_cuda, reason="kernels built without CUDA")


def nvcc_knows():
    if shutil.which("nvcc") is None:
        return set()
    run = subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True)
    return {int(a) for a in re.findall(r"sm_(\d+)", run.stdout)}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_spills(tmp_path, architecture):
    if architecture not in nvcc_knows():
        pytest.skip(f"this nvcc does not know sm_{architecture}")
    run = subprocess.run(
        ["nvcc", "-std=c++17", "-DPOSGAN_WITH_CUDA", "-cubin", f"-arch=sm_{architecture}",
         "--fmad=false", "-Xptxas", "-v", f"-I{SOURCES}", "-o", tmp_path / "kernels.cubin",
         SOURCES / "kernels.cu"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    stacks = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", run.stderr
    )
    assert len(stacks) == 9, run.stderr  # two of landmarks, six of crops, one of poses
    assert set(stacks) == {("0", "0", "0")}, run.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on the PATH")
def test_the_host_path_compiles_without_a_warning():
    flags = ["-std=c++17", "-fsyntax-only", "-O2", "-Wall", "-Wextra", "-Werror"]
    run = subprocess.run(["g++", *flags, SOURCES / "host.cpp"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


#: Where an nvcc lies and what its version is, the environment, and what the build finds.
CUDA_13, CUDA_11 = "Cuda compilation tools, release 13.0, V13.0.88", "release 11.4, V11.4.315"
COMPILERS = {
    "none": ({}, {}, "no nvcc in CUDACXX, CUDA_HOME, PATH or /usr/local/cuda/bin"),
    "the default folder": ({"default/bin": CUDA_13}, {}, "{root}/default/bin/nvcc"),
    "the PATH": ({"default/bin": CUDA_13, "path": CUDA_13}, {}, "{root}/path/nvcc"),
    "CUDA_HOME": (
        {"path": CUDA_13, "home/bin": CUDA_13}, {"CUDA_HOME": "{root}/home"},
        "{root}/home/bin/nvcc",
    ),
    "CUDACXX": (
        {"path": CUDA_13, "mine": CUDA_13}, {"CUDACXX": "{root}/mine/nvcc"}, "{root}/mine/nvcc",
    ),
    "CUDACXX leads nowhere": (
        {"path": CUDA_13}, {"CUDACXX": "{root}/mine/nvcc"}, "{root}/mine/nvcc is no nvcc that runs",
    ),
    "CUDA 11": (
        {"default/bin": CUDA_11}, {},
        "{root}/default/bin/nvcc is CUDA 11.4, the kernels need CUDA 12 or later",
    ),
}  # fmt: skip


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not on the PATH")
@pytest.mark.parametrize("name", COMPILERS)
def test_the_build_finds_nvcc_or_says_why_not(tmp_path, name):
    compilers, variables, expected = COMPILERS[name]
    for folder, version in compilers.items():
        nvcc = tmp_path / folder / "nvcc"
        nvcc.parent.mkdir(parents=True)
        nvcc.write_text(f"#!/bin/sh\necho '{version}'\n")
        nvcc.chmod(0o755)
    script = SOURCES.parent / "cmake" / "nvcc.cmake"
    run = subprocess.run(
        [there(shutil.which("cmake")), f"-DPOSGAN_CUDA_FOLDERS={tmp_path / 'default'}",
         "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF", "-P", script],
        capture_output=True, text=True, check=True,
        env={"PATH": str(tmp_path / "path"),
             **{k: v.format(root=tmp_path) for k, v in variables.items()}},
    )  # fmt: skip
    assert run.stderr.strip() == expected.format(root=tmp_path)


def test_the_package_says_what_was_built_and_ships_its_types(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "posgan_edge_kernels"], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"posgan_edge_kernels {kernels.__version__}: {kernels.built}\n"
    assert kernels.built.startswith("host and CUDA " if kernels.with_cuda else "host only (")
    folder = Path(kernels.__file__).parent
    assert (folder / "py.typed").exists()
    operations = ("extract_landmarks", "crop_normalize", "crop_normalize_nv12", "pose_fit")
    for stub in ("__init__.pyi", "cuda.pyi")[: 1 + kernels.with_cuda]:
        text = (folder / "_native" / stub).read_text()
        assert [name for name in operations if f"def {name}(" not in text] == []
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    # A copy: mypy does not check what is installed.
    shutil.copytree(folder, tmp_path / folder.name)
    if not kernels.with_cuda:  # cuda.py cannot be imported then, and the stub lacks what it reads
        (tmp_path / folder.name / "cuda.py").unlink()
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", os.devnull, "--strict",
         "--cache-dir", tmp_path / "cache", "--allow-any-generics", folder.name],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout


@needs_cuda
def test_the_module_holds_code_for_orin_and_ptx_for_what_comes():
    from posgan_edge_kernels import cuda

    assert "8.7" in cuda.ARCHITECTURES
    tool = shutil.which("cuobjdump")
    spec = find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        for found in Path(folder).glob("cu*/bin/cuobjdump"):
            found.chmod(0o755)
            tool = tool or str(found)
    if tool is None:
        pytest.skip("cuobjdump is not installed (pip install nvidia-cuda-cuobjdump)")
    module = there(sys.modules["posgan_edge_kernels._native"].__file__)
    inside = {
        kind: subprocess.run([tool, option, module], capture_output=True, text=True).stdout
        for kind, option in (("code", "--list-elf"), ("ptx", "--list-ptx"))
    }
    for architecture in cuda.ARCHITECTURES:
        assert f"sm_{architecture.replace('.', '')}.cubin" in inside["code"]
    assert f"sm_{cuda.ARCHITECTURES[-1].replace('.', '')}.ptx" in inside["ptx"]


@needs_cuda
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("extract_landmarks", {"shape": (-1, 8, 8)}, r"shape \(faces\): is -1"),
        ("extract_landmarks", {"shape": (1, 0, 8)}, r"shape \(height\): is 0"),
        ("extract_landmarks", {"count": 0}, "count: is 0"),
        ("extract_landmarks", {"dtype": "int8"}, "dtype: is 'int8'"),
        ("crop_normalize", {"shape": (10, 10, 29)}, r"shape \(pitch\): is 29, give 30"),
        ("crop_normalize", {"size": 5000}, "size: is 5000"),
        ("crop_normalize", {"border": (0, 0, np.nan)}, "border: give three"),
        ("crop_normalize_nv12", {"chroma_pitch": 8}, "chroma_pitch: is 8, give 10"),
        ("crop_normalize_nv12", {"matrix": "rgb"}, "matrix: is 'rgb'"),
        ("pose_fit", {"count": 9000}, "count: is 9000"),
        ("pose_fit", {"stride": 5}, "stride: is 5, give 10"),
        ("pose_fit", {"faces": 70000}, "faces: is 70000"),
    ],
)
def test_bad_sizes_are_named_before_the_device_is_asked(name, change, message):
    from posgan_edge_kernels import cuda

    frame: dict[str, Any] = {
        "transforms": 0,
        "out": 0,
        "shape": (10, 10, 30),
        "faces": 1,
        "size": 8,
    }
    good: dict[str, dict[str, Any]] = {
        "extract_landmarks": {
            "maps": 0, "uv": 0, "transforms": 0, "points": 0, "shape": (1, 8, 8), "count": 5,
        },
        "crop_normalize": {"frame": 0, **frame},
        "crop_normalize_nv12": {"luma": 0, "chroma": 0, "chroma_pitch": 10, **frame},
        "pose_fit": {"points": 0, "mean": 0, "out": 0, "faces": 1, "count": 10},
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        getattr(cuda, name)(**{**good[name], **change})


@needs_cuda
def test_without_a_device_cuda_says_why():
    from posgan_edge_kernels import cuda

    count, reason = cuda.device_count()
    if count:
        pytest.skip("there is a device")
    assert reason
    with pytest.raises(cuda.CudaError, match="no CUDA device: "):
        cuda.pose_fit(points=0, mean=0, out=0, faces=1, count=10)
    with pytest.raises(cuda.CudaError, match="no CUDA device: "):
        cuda.Graph(0, lambda: None)
