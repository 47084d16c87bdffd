"""Networks from outside: what is not a generator is refused in one line, by every command."""

import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from posgan_edge import FacePipeline, load_engine
from posgan_edge.build.graph import tidied
from posgan_edge.build.int8 import matching_layers
from posgan_edge.engines import onnxruntime
from posgan_edge.errors import BadInput, UsageError
from tests.helpers import networks
from tests.helpers.data import PORTRAIT, write_aflw2000
from tests.helpers.networks import DOUBLE, HALF, INT8, write_convolution, write_network

PROVIDERS = ["cpu", "openvino"]
IMAGES = np.random.default_rng(0).random((5, 3, 16, 16), np.float32)


def needs(provider):
    if provider == "openvino":
        pytest.importorskip("openvino")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type_": DOUBLE}, "float32 or float16 is needed"),
        ({"type_": INT8}, "image (int8|i8) "),
        ({"shape": (3, 16, 16), "maps": (3, 16, 16)}, r"image float32 \(3, 16, 16\): the shape"),
        ({"shape": ("n", 1, 16, 16), "maps": ("n", 1, 16, 16)}, r"\(\?, 1, 16, 16\): the shape"),
        ({"shape": ("n", 3, 16, 8), "maps": ("n", 3, 16, 8)}, r"\(\?, 3, 16, 8\): the shape"),
        ({"shape": ("n", 3, "h", "w"), "maps": ("n", 3, "h", "w")}, "with a fixed S"),
        ({"shape": ("n", 3, 16, 16, 1), "maps": ("n", 3, 16, 16, 1)}, "the shape must be"),
        ({"shape": None, "maps": None}, r"the shape must be \(N, 3, S, S\)"),
        ({"shape": (1, 3, 4096, 4096), "maps": (1, 3, 4096, 4096)}, "at most 2048 pixels"),
        ({"extra": ("gain",)}, r"has more inputs than 'image': gain float32 \(1\)"),
        ({"metadata": ()}, "not a posgan-edge model"),
        ({"names": ("x", "y")}, r"found \['x'\] -> \['y'\]"),
    ],
)
def test_other_networks_are_refused(tmp_path, provider, values, message):
    needs(provider)
    path = write_network(tmp_path / "n.onnx", **values)
    with pytest.raises(BadInput, match=message) as caught:
        load_engine(path, provider=provider)
    assert "\n" not in str(caught.value)
    assert "n.onnx" in str(caught.value)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (networks.write_other_maps, r"returns maps \(1, 3, 8, 16\)|\(\?, 3, \?, 16\): the shape"),
        (lambda path: path.write_bytes(b"\x08\x09"), "not an ONNX model|cannot read it"),
        (lambda path: path.write_bytes(b""), "not an ONNX model|cannot read it"),
    ],
)
def test_broken_networks_are_refused(tmp_path, provider, write, message):
    needs(provider)
    write(tmp_path / "n.onnx")
    with pytest.raises(BadInput, match=message) as caught:
        load_engine(tmp_path / "n.onnx", provider=provider)
    assert "\n" not in str(caught.value)


def test_a_network_with_names_that_are_not_text_is_refused(tmp_path):
    path = write_network(tmp_path / "n.onnx")
    path.write_bytes(path.read_bytes().replace(b"batch", b"\x80atch"))
    with pytest.raises(BadInput, match="not UTF-8 text"):
        load_engine(path)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_weights_may_lie_beside_the_file(tmp_path, provider):
    needs(provider)
    path = networks.write_with_weights_beside(tmp_path / "n.onnx")
    with load_engine(path, provider=provider) as engine:
        assert engine.infer(IMAGES) == pytest.approx(IMAGES + 0.5)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(BadInput, match=r"not an ONNX model|cannot read it") as caught:
        load_engine(path, provider=provider)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_float16_inputs_and_outputs_are_converted(tmp_path, provider):
    needs(provider)
    path = write_network(tmp_path / "n.onnx", type_=HALF)
    with load_engine(path, provider=provider) as engine:
        maps = engine.infer(IMAGES)
    assert maps.dtype == np.float32
    assert maps == pytest.approx(IMAGES, abs=1e-3)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("fixed", [1, 4])
def test_a_fixed_batch_is_filled_up(tmp_path, provider, fixed):
    needs(provider)
    shape = (fixed, 3, 16, 16)
    path = write_network(tmp_path / "n.onnx", shape=shape, maps=shape)
    with load_engine(path, provider=provider) as engine:
        assert engine.info.batch == fixed
        assert np.array_equal(engine.infer(IMAGES[:1]), IMAGES[:1])
        assert np.array_equal(engine.infer_all(IMAGES), IMAGES)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_fails_in_a_later_batch_is_one_line(tmp_path, provider):
    needs(provider)
    path = networks.write_one_image_only(tmp_path / "n.onnx")
    with load_engine(path, provider=provider) as engine:
        assert np.array_equal(engine.infer(IMAGES[:1]), IMAGES[:1])
        with pytest.raises(BadInput, match="cannot run a batch of 2") as caught:
            engine.infer(IMAGES[:2])
    assert "\n" not in str(caught.value)


def test_a_loop_without_an_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(onnxruntime, "FIRST_CALL_SECONDS", 0.5)
    path = networks.write_endless(tmp_path / "n.onnx")
    before = threading.active_count()
    start = time.monotonic()
    with pytest.raises(BadInput, match=r"the first call took over 0\.5 s"):
        load_engine(path)
    assert time.monotonic() - start < 20
    assert threading.active_count() == before


def test_openvino_takes_no_loops(tmp_path):
    needs("openvino")
    path = networks.write_endless(tmp_path / "n.onnx")
    with pytest.raises(BadInput, match="holds Loop, which is not run on OpenVINO"):
        load_engine(path, provider="openvino")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_network(path, shape=("n", 3, "h", "w")), "with a fixed S"),
        (lambda path: write_network(path, type_=DOUBLE), "float32 or float16 is needed"),
        (lambda path: write_network(path, extra=("gain",)), "has more inputs than 'image': gain"),
        (networks.write_endless, "holds Loop"),
    ],
)
@pytest.mark.parametrize("command", ["build-engine", "calibrate", "inspect"])
def test_commands_that_convert_refuse_them_too(run, tmp_path, command, write, message):
    write(tmp_path / "n.onnx")
    arguments = {
        "build-engine": ["--model", tmp_path / "n.onnx", "--output", tmp_path / "o.onnx"],
        "calibrate": ["--model", tmp_path / "n.onnx", "--images", PORTRAIT.parent,
                      "--output", tmp_path / "r.json"],
        "inspect": [tmp_path / "n.onnx"],
    }[command]  # fmt: skip
    code, _, err = run(command, *arguments)
    assert (code, message in err, "Traceback" in err) == (4, True, False), err
    assert [p.name for p in tmp_path.iterdir()] == ["n.onnx"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_network, "holds no convolution"),
        (lambda p: write_convolution(p, type_=HALF), "is float16: give the FP32 model"),
        (lambda p: write_convolution(p, shape=(4, 3, 16, 16), maps=(4, 3, 16, 16)),
         "takes a fixed batch only"),
        (lambda p: write_convolution(p, metadata=[("layout", "foo")]), "unknown UV layout 'foo'"),
        (lambda p: write_convolution(p, float("nan")), "returns numbers that are not finite"),
        (lambda p: write_convolution(p, maps=("n", 3, 8, 8)),
         "returns maps of 16 px, its file says 8"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["fp16", "int8", "tensorrt-rtx", "calibrate"], ids=lambda c: c)
def test_networks_that_cannot_be_converted_are_refused(run, tmp_path, command, write, message):
    if command == "tensorrt-rtx":
        pytest.importorskip("tensorrt_rtx")
    path = write(tmp_path / "n.onnx")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(34):
        (pictures / f"{index}.jpg").symlink_to(PORTRAIT)
    build = ["build-engine", "--model", path, "--output"]
    arguments = {
        "fp16": [*build, tmp_path / "o.onnx", "--precision", "fp16"],
        "int8": [*build, tmp_path / "o.onnx", "--precision", "int8",
                 "--calibration-images", pictures],
        "tensorrt-rtx": [*build, tmp_path / "o.engine", "--target", "tensorrt-rtx"],
        "calibrate": ["calibrate", "--model", path, "--images", pictures,
                      "--output", tmp_path / "r.json"],
    }[command]  # fmt: skip
    code, _, err = run(*arguments)
    assert (code, bool(re.search(message, err)), "Traceback" in err) == (4, True, False), err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.onnx", "pictures"]


@pytest.mark.parametrize(
    "words",
    [
        ("build-engine", "--output", "o.onnx", "--precision", "int8", "--calibration-images"),
        ("calibrate", "--output", "r.json", "--sensitivity", "costs", "--images"),
    ],
    ids=lambda words: words[0],
)
def test_int8_needs_an_opset_that_has_it(run, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    model = onnx.load(write_convolution(tmp_path / "n.onnx"))
    model.opset_import[0].version = 12
    onnx.save(model, "n.onnx")
    write_aflw2000(tmp_path / "faces", 32)
    code, _, err = run(*words, "faces", "--model", "n.onnx", "--method", "minmax")
    assert code == 4, err
    assert "error: the network's ONNX opset is 12, INT8 needs 13: export it again\n" in err
    found = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"n.onnx", *(p.name for p in (tmp_path / "faces").iterdir())}


@pytest.mark.parametrize("old", [b"image", b"layout", b"ict"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_names_that_are_not_utf8_are_refused(tmp_path, old, provider):
    needs(provider)
    path = write_convolution(tmp_path / "n.onnx")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, b"\xa1" + old[1:]))
    with pytest.raises(BadInput, match=r"n\.onnx: [^\n]+$"):
        load_engine(path, provider=provider)


@pytest.mark.parametrize("pattern", ["[", "(", "*", "a{99999999999}", "\x1b[31m"])
def test_layers_to_keep_are_named_by_a_regular_expression(run, tmp_path, pattern):
    code, _, err = run(
        "build-engine", "--model", write_convolution(tmp_path / "n.onnx"), "--precision", "int8",
        "--calibration", Path(__file__).parents[1] / "calibration" / "edge-mse.json",
        "--output", tmp_path / "o.onnx", "--keep-fp16", pattern,
    )  # fmt: skip
    assert (code, "Traceback" in err) in ((2, False), (4, False)), err
    model = onnx.load(tmp_path / "n.onnx")
    with pytest.raises(UsageError, match=": not a regular expression: "):
        matching_layers(model, pattern)


def test_a_conversion_that_onnx_finds_wrong_is_one_line(tmp_path):
    model = onnx.load(write_convolution(tmp_path / "n.onnx"))
    model.graph.node[0].op_type = "QuantizeLinear"
    with pytest.raises(BadInput, match=r"^the network cannot be converted: \S.*$"):
        tidied(model)


def test_a_float16_input_is_refused_for_plans(run, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    path = write_network(
        tmp_path / "n.onnx", type_=HALF, metadata=[("layout", "ict"), ("precision", "fp16")]
    )
    code, _, err = run(
        "build-engine", "--model", path, "--precision", "fp16", "--target", "tensorrt-rtx",
        "--output", tmp_path / "n.engine",
    )  # fmt: skip
    assert (code, "are float16, a tensorrt-rtx engine takes float32" in err) == (4, True), err


@pytest.mark.parametrize("threads", [0, -1, 257, 100_000, 1.5, True, "2", float("nan")])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_threads_out_of_range_are_refused(threads, provider):
    needs(provider)
    with pytest.raises(BadInput, match="give a whole number from 1 to 256"):
        load_engine("edge", threads=threads, provider=provider)


@pytest.mark.parametrize("workers", [0, -1, 257, 1000, 2.0])
def test_workers_out_of_range_are_refused(workers):
    with pytest.raises(BadInput, match=r"workers is .*: give a whole number from 1 to 256"):
        FacePipeline("edge", workers=workers)


@pytest.mark.parametrize(
    ("model", "provider", "message"),
    [
        ("edge", "npu", "unknown provider 'npu': use cpu, cuda, tensorrt, openvino"),
        ("openvino:edge", "cpu", "names the provider openvino, but cpu is given too"),
        ("openvino:absent.onnx", None, r"absent\.onnx: no such model file"),
        ("npu:edge", None, "npu:edge: no such model file"),
        (str(PORTRAIT.with_name("edge.safetensors")), "cpu", "runs on PyTorch, provider 'cpu'"),
        (str(PORTRAIT.with_name("edge.safetensors")), "cuda", "runs on PyTorch, provider 'cuda'"),
        ("cuda:a.engine", None, "runs on TensorRT, provider 'cuda'"),
    ],
)
def test_providers_are_refused_where_they_mean_nothing(
    tmp_path, monkeypatch, model, provider, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.engine").write_bytes(b"plan")
    with pytest.raises(BadInput, match=message):
        load_engine(model, provider=provider)


@pytest.mark.parametrize("model", ["x" * 300 + ".onnx", "a\0b.onnx", "", ".", "p.onnx", "f.onnx"])
@pytest.mark.parametrize("command", ["run", "build-engine", "inspect"])
def test_names_that_name_no_file_are_one_line(run, tmp_path, monkeypatch, command, model):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("p.onnx")
    (tmp_path / "f.onnx").mkdir()
    arguments = {
        "run": ["run", PORTRAIT, "--box", "179,88,97,90", "--no-window", "--model", model],
        "build-engine": ["build-engine", "--model", model, "--output", "o.onnx"],
        "inspect": ["inspect", model],
    }[command]
    code, _, err = run(*arguments)
    assert (code, "Traceback" in err) == (4, False), err
    assert len(err.strip().splitlines()) == 1


def test_a_name_with_no_room_for_its_manifest_is_a_name(tmp_path):
    path = write_network(tmp_path / ("x" * 248 + ".onnx"))
    assert load_engine(path).info.input_size == 16


def test_a_huge_model_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "n.onnx"
    with open(path, "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BadInput, match="is larger than 2 GiB"):
        load_engine(path)
