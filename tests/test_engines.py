import sys

import numpy as np
import onnx
import pytest
import torch

from posgan_edge import load_engine
from posgan_edge.build.export import export_onnx, weights_digest
from posgan_edge.engines.torch import TorchEngine
from posgan_edge.errors import BadInput, MissingRuntime
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.models.unet import UNetGenerator


def edge():
    torch.manual_seed(0)
    generator = EdgeGenerator(modes=4, map_size=16)
    with torch.no_grad():
        generator.modes.normal_(0, 0.05)
        generator.fc2.weight.normal_(0, 0.1)
    return generator.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "edge.onnx"
    generator = edge()
    return generator, path, export_onnx(generator, path)


def test_export_is_one_checked_file_that_says_what_it_is(exported):
    generator, path, difference = exported
    assert difference < 1e-4
    assert [p.name for p in path.parent.iterdir()] == ["edge.onnx"]
    model = onnx.load(path)
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata["name"] == "edge"
    assert metadata["layout"] == "ict"
    assert metadata["weights_sha256"] == weights_digest(generator)
    assert not any(n.op_type == "BatchNormalization" for n in model.graph.node)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert b".py" not in path.read_bytes()  # no source paths of the exporting machine


def test_export_repeats_byte_for_byte(exported, tmp_path):
    generator, path, _ = exported
    export_onnx(generator, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("batch", [0, 1, 2, 5])
def test_onnx_runtime_equals_torch_at_any_batch(exported, batch):
    generator, path, _ = exported
    images = np.random.default_rng(batch).random((batch, 3, 128, 128), np.float32)
    reference = TorchEngine(generator, "reference").infer(images)
    answer = load_engine(path).infer(images)
    assert answer.shape == (batch, 3, 16, 16)
    assert answer.dtype == np.float32
    assert answer == pytest.approx(reference, abs=1e-5)


@pytest.mark.slow
def test_unet_exports(tmp_path):
    torch.manual_seed(0)
    assert export_onnx(UNetGenerator(2), tmp_path / "unet.onnx") < 1e-4
    info = load_engine(tmp_path / "unet.onnx").info
    assert (info.name, info.layout, info.input_size, info.map_size) == ("unet", "prnet", 256, 256)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 3, 64, 64), np.float32),
        np.zeros((3, 128, 128), np.float32),
        np.zeros((1, 3, 128, 128), np.float64),
        np.zeros((1, 128, 128, 3), np.float32),
    ],
)
def test_wrong_inputs_are_named(exported, images):
    with pytest.raises(BadInput, match=r"the engine takes float32 \(N, 3, 128, 128\)"):
        load_engine(exported[1]).infer(images)


def _foreign_onnx(path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in ("x", "y")]
    graph = onnx.helper.make_graph([node], "g", value[:1], value[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), path)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("m.onnx", lambda p: p.write_bytes(b"not onnx"), "not an ONNX model"),
        ("m.onnx", _foreign_onnx, "not a posgan-edge model"),
        ("m.onnx", lambda p: None, r"no such model file \(shipped models: edge, edge-int8\)"),
        ("m.tflite", lambda p: p.write_bytes(b"x"), "unknown model type '.tflite'"),
        ("unet", lambda p: None, "no unet weights are shipped"),
    ],
)
def test_unusable_models_get_one_line(tmp_path, monkeypatch, name, make, message):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with pytest.raises(BadInput, match=message) as caught:
        load_engine(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_is_refused(exported, provider):
    import onnxruntime

    from posgan_edge.engines.onnxruntime import PROVIDERS

    if PROVIDERS[provider] in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has the {provider} provider")
    with pytest.raises(MissingRuntime, match=f"no {provider} provider"):
        load_engine(exported[1], provider=provider)


def test_describe_says_runtime_and_threads(exported):
    text = load_engine(exported[1], threads=1).describe()
    assert "onnxruntime" in text
    assert "1 thread," in text


def test_a_sweep_of_threads_closes_what_it_loads_and_loads_no_plan(exported, monkeypatch):
    from posgan_edge.evaluation import profile

    loaded = []

    def load(model, threads):
        loaded.append(load_engine(model, threads=threads))
        return loaded[-1]

    monkeypatch.setattr(profile, "load_engine", load)
    monkeypatch.setattr(profile.os, "cpu_count", lambda: 2)  # type: ignore[attr-defined]
    assert list(profile.thread_sweep(str(exported[1]), 3)) == [1, 2]
    assert [engine.closed for engine in loaded] == [True, True]
    plan = exported[1].with_suffix(".engine")
    plan.write_bytes(b"a plan")
    assert profile.thread_sweep(str(plan), 3) == {}
    plan.unlink()
    assert len(loaded) == 2


def test_one_command_that_works_is_named_for_the_gpu(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    _, out, _ = run("doctor")
    (row,) = [line for line in out.splitlines() if "running TensorRT engines" in line]
    assert "pip install ./cpp_ext '.[gpu]'" in row
    assert "posgan-edge[gpu]" not in out


def test_an_onnx_file_needs_no_manifest_and_must_agree_with_one_that_is_there(run, tmp_path):
    path = tmp_path / "edge.onnx"
    code, _, err = run("build-engine", "--precision", "fp16", "--output", path)
    assert code == 0, err
    load_engine(path).close()
    model = onnx.load(path)
    model.doc_string = "changed"
    onnx.save(model, path)
    with pytest.raises(BadInput, match="is not the file that its manifest describes"):
        load_engine(path)
    path.with_name("edge.onnx.json").unlink()
    load_engine(path).close()
