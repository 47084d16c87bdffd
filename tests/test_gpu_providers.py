"""ONNX Runtime's GPU providers without a GPU: what they are told, and what is said of them."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from posgan_edge import load_engine, system
from posgan_edge.engines import onnxruntime as engines
from posgan_edge.engines.onnxruntime_gpu import Bound
from posgan_edge.engines.signature import Signature
from posgan_edge.errors import BadInput, MissingRuntime
from tests.helpers.networks import HALF, write_network

IMAGES = np.random.default_rng(0).random((9, 3, 16, 16), np.float32)


class StandIn:
    """``onnxruntime`` that has GPU providers and runs them on the CPU."""

    def __init__(self, starts=True, fails=""):
        self.loaded = 0
        self.calls: list[Any] = []
        self.arrays: list[Any] = []
        outer = self

        class Session:
            def __init__(self, model, options, providers, enable_fallback):
                ((self.name, chosen),) = providers
                outer.calls.append((self.name, chosen, enable_fallback))
                if fails and self.name != "CPUExecutionProvider":
                    raise RuntimeError(fails)
                self.session = onnxruntime.InferenceSession(
                    model, options, providers=["CPUExecutionProvider"]
                )

            def get_providers(self):
                return [self.name] if starts else ["CPUExecutionProvider"]

            def __getattr__(self, name):
                return getattr(self.session, name)

        class OrtValue:
            @staticmethod
            def ortvalue_from_shape_and_type(shape, type_, device, index):
                outer.arrays.append((tuple(shape), device, index))
                return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, type_, "cpu", 0)

        self.InferenceSession, self.OrtValue = Session, OrtValue

    def get_available_providers(self):
        return [*engines.PROVIDERS.values()]

    def preload_dlls(self):
        print("Failed to load libcudnn.so.9")
        self.loaded += 1

    def __getattr__(self, name):
        return getattr(onnxruntime, name)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)

    def make(**options):
        found = StandIn(**options)
        monkeypatch.setattr(engines, "ort", found)
        return found

    return make


def test_cuda_is_told_to_leave_tf32_out(stand_in, tmp_path, capfd):
    ort = stand_in()
    engine = load_engine(write_network(tmp_path / "n.onnx"), provider="cuda")
    name, chosen, fallback = ort.calls[-1]
    assert (name, chosen, fallback) == (
        "CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0"}, 0,
    )  # fmt: skip
    assert ort.loaded == 1
    assert capfd.readouterr().out == ""
    assert (engine.info.batch, engine.info.threads, engine.concurrent) == (8, 0, False)
    assert "(cuda)" in engine.describe()
    assert "TF32" not in engine.describe()


def test_tensorrt_keeps_its_engines_for_each_model_and_knows_the_batches(stand_in, tmp_path):
    ort = stand_in()
    engine = load_engine(f"tensorrt:{write_network(tmp_path / 'n.onnx')}")
    name, chosen, _ = ort.calls[-1]
    assert name == "TensorrtExecutionProvider"
    cache = Path(chosen["trt_engine_cache_path"])
    assert cache == tmp_path / "cache" / "posgan-edge" / "tensorrt" / engine.info.model_hash[:32]
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert chosen["trt_timing_cache_path"] == str(cache)
    assert (chosen["trt_engine_cache_enable"], chosen["trt_timing_cache_enable"]) == ("1", "1")
    shapes = [chosen[f"trt_profile_{n}_shapes"] for n in ("min", "opt", "max")]
    assert shapes == ["image:1x3x16x16", "image:1x3x16x16", "image:8x3x16x16"]
    assert "(tensorrt, TF32 allowed)" in engine.describe()


def test_a_fixed_batch_has_no_profile_and_tf32_is_the_users_choice(stand_in, tmp_path, monkeypatch):
    ort = stand_in()
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    shape = (2, 3, 16, 16)
    path = write_network(tmp_path / "n.onnx", shape=shape, maps=shape)
    engine = load_engine(path, provider="tensorrt")
    assert not [key for key in ort.calls[-1][1] if "profile" in key]
    assert "(tensorrt)" in engine.describe()
    assert np.array_equal(engine.infer_all(IMAGES[:5]), IMAGES[:5])


@pytest.mark.parametrize("type_", [1, HALF])
def test_arrays_stay_on_the_device_one_pair_a_batch(stand_in, tmp_path, type_):
    ort = stand_in()
    with load_engine(write_network(tmp_path / "n.onnx", type_=type_), provider="cuda") as engine:
        for images in (IMAGES[:1], IMAGES[1:2], IMAGES[:3], IMAGES[:1]):
            assert engine.infer(images) == pytest.approx(images, abs=1e-3)
        assert engine.infer_all(IMAGES) == pytest.approx(IMAGES, abs=1e-3)
        with pytest.raises(BadInput, match="9 images, the engine takes 8"):
            engine.infer(IMAGES)
    made = [shape[0] for shape, device, index in ort.arrays if (device, index) == ("cuda", 0)]
    assert made == [1, 1, 3, 3, 8, 8]


def test_bound_results_are_the_callers_own(tmp_path):
    path = write_network(tmp_path / "n.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = Signature("n", "ict", "fp32", 16, 16, 0, "float32")
    bound = Bound(onnxruntime, session, found, "cpu")
    first = bound.run(IMAGES[:1])
    bound.run(IMAGES[1:2])
    assert np.array_equal(first, IMAGES[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": False}, "cannot start its cuda provider here: it needs an NVIDIA driver"),
        ({"fails": "CUDA failure 35:\n no driver"}, "provider here: CUDA failure 35: no driver"),
    ],
)
def test_a_provider_that_does_not_start_is_one_line(stand_in, tmp_path, options, message):
    stand_in(**options)
    with pytest.raises(MissingRuntime, match=message) as caught:
        load_engine(write_network(tmp_path / "n.onnx"), provider="cuda")
    assert "\n" not in str(caught.value)


def test_a_wrong_network_is_refused_before_the_gpu_is_asked(stand_in, tmp_path):
    ort = stand_in()
    with pytest.raises(BadInput, match="has more inputs than 'image'"):
        load_engine(write_network(tmp_path / "n.onnx", extra=("gain",)), provider="cuda")
    assert [name for name, _, _ in ort.calls] == ["CPUExecutionProvider"]


@pytest.mark.parametrize("command", ["run", "benchmark"])
def test_commands_say_what_to_install(run, tmp_path, command):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the cuda provider")
    from tests.helpers.data import PORTRAIT, write_human_npz

    write_human_npz(tmp_path / "faces.npz", 2)
    arguments = {
        "run": [PORTRAIT, "--box", "179,88,97,90", "--no-window", "--provider", "cuda"],
        "benchmark": ["--dataset", tmp_path / "faces.npz", "--engine", "cuda:edge"],
    }[command]
    code, _, err = run(command, *arguments)
    assert code == 3
    assert "this onnxruntime has no cuda provider: pip install onnxruntime-gpu" in err


def tools(folder, monkeypatch, **scripts):
    folder.mkdir()
    for name, text in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


@pytest.mark.parametrize(
    ("scripts", "block"),
    [
        ({}, {}),
        ({"nvidia_smi": "exit 9"}, {}),
        (
            {"nvidia_smi": "echo 'NVIDIA H100, 580.65.06, 700.00 W'"},
            {"gpu": "NVIDIA H100", "driver": "580.65.06", "power_mode": "limit 700.00 W"},
        ),
        (
            {"nvidia_smi": "echo 'Orin (nvgpu), 540.4.0, [N/A]'",
             "nvpmodel": "printf 'NV Power Mode: MAXN\\n0\\n'"},
            {"gpu": "Orin (nvgpu)", "driver": "540.4.0", "power_mode": "MAXN"},
        ),
    ],
)  # fmt: skip
def test_records_name_gpu_driver_and_power_mode(tmp_path, monkeypatch, scripts, block):
    tools(tmp_path / "bin", monkeypatch, **scripts)
    assert system.gpu_block() == block
    machine = system.machine_block()
    assert {key: machine[key] for key in block} == block
    assert ("gpu" in machine) == bool(block)


def test_the_gpu_is_known_without_pycuda(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", None)
    tools(tmp_path / "bin", monkeypatch, nvidia_smi="echo 'NVIDIA RTX 4060, 8.9'")
    assert system.gpu_here() == ("NVIDIA RTX 4060", "8.9")


def test_doctor_has_a_row_for_each_provider(tmp_path, monkeypatch, run):
    tools(tmp_path / "bin", monkeypatch, nvidia_smi="echo 'NVIDIA RTX 4060, 8.9'")
    every = [*engines.PROVIDERS.values()]
    for available, marks in ((every, ["yes", "yes"]), (every[:1], ["no", "no"])):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda a=available: a)
        _, out, _ = run("doctor")
        rows = [line for line in out.splitlines() if "(--provider " in line]
        assert [row.split()[0] for row in rows] == marks
        assert all(("RTX 4060" if marks[0] == "yes" else "onnxruntime-gpu") in row for row in rows)
