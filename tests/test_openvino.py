"""OpenVINO beside ONNX Runtime: numbers, batches, and what the commands say."""

import json
import sys

import numpy as np
import pytest

from posgan_edge import Crop, load_engine
from posgan_edge.engines.manifest import load_manifest
from posgan_edge.errors import BadInput
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, real_data

pytest.importorskip("openvino")
EDGE = PORTRAIT.with_name("edge.onnx")
RECORD = EDGE.parents[2] / "calibration" / "edge-mse.json"
BOX = ",".join(map(str, PORTRAIT_BOX))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    picture = read_image(PORTRAIT)
    crops = [Crop(224 + dx, 132 + dy, 140, a) for dx, dy, a in rng.normal(0, 6, (11, 3))]
    return np.stack([extract_crop(picture, crop, 128) for crop in crops])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 11])
def test_fp32_equals_onnx_runtime_at_any_batch(images, count):
    want = load_engine("edge").infer(images[:count])
    with load_engine("openvino:edge") as engine:
        for _ in range(2):
            maps = engine.infer(images[:count])
            assert (maps.shape, maps.dtype) == (want.shape, np.dtype(np.float32))
            assert maps == pytest.approx(want, abs=1e-4)


def test_results_are_the_callers_own(images):
    with load_engine("openvino:edge") as engine:
        first = engine.infer(images[:1])
        kept = first.copy()
        engine.infer(images[1:2])
        assert np.array_equal(first, kept)


def test_int8_is_within_the_budget_of_the_build(run, tmp_path, images):
    path = tmp_path / "edge.onnx"
    code, out, err = run(
        "build-engine", "--target", "openvino", "--precision", "int8", "--even-if-slower",
        "--calibration", RECORD, "--output", path,
    )  # fmt: skip
    assert code == 0, err
    assert "int8 for openvino" in out
    manifest = load_manifest(path)
    assert (manifest.runtime, manifest.precision, manifest.batch) == ("openvino", "int8", 0)
    want = load_engine("edge").infer(images)
    engine = load_engine(path)
    assert engine.describe().startswith("edge: int8 on openvino ")
    off = np.linalg.norm(engine.infer(images) - want, axis=1).mean() * 256
    assert 0 < off < 0.5
    code, out, _ = run("inspect", path)
    assert (code, "runtime: openvino" in out, "agrees with its manifest" in out) == (0, True, True)
    assert "onnxruntime" in load_engine(path, provider="cpu").describe()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BadInput, match="not the file that its manifest describes"):
        load_engine(path)


def test_the_shipped_int8_network_is_within_the_budget(images):
    want = load_engine("edge").infer(images)
    with load_engine("openvino:edge-int8") as engine:
        off = np.linalg.norm(engine.infer(images) - want, axis=1).mean() * 256
    assert 0 < off < 0.5


def test_int8_that_is_slower_gives_way_to_fp32(run, tmp_path, monkeypatch):
    import posgan_edge.build.engine as build

    providers = []

    def slower(first, second, provider):
        providers.append(provider)
        return 1.5

    monkeypatch.setattr(build, "latency_ratio", slower)
    code, out, err = run(
        "build-engine", "--target", "openvino", "--precision", "int8", "--calibration", RECORD,
        "--output", tmp_path / "edge.onnx",
    )  # fmt: skip
    assert (code, providers) == (0, ["openvino"]), err
    assert "1.50 times as long as FP32" in out
    assert load_manifest(tmp_path / "edge.onnx").precision == "fp32"


def test_fp16_weights_run(run, tmp_path, images):
    code, _, err = run("build-engine", "--target", "openvino", "--precision", "fp16",
                       "--output", tmp_path / "edge.onnx")  # fmt: skip
    assert code == 0, err
    off = load_engine(tmp_path / "edge.onnx").infer(images) - load_engine("edge").infer(images)
    assert np.abs(off).max() < 2e-3


@pytest.mark.parametrize(
    "arguments", [["--provider", "openvino"], ["--model", "openvino:edge"]], ids=str
)
def test_run_takes_it(run, tmp_path, arguments):
    found = {}
    for name, more in (("openvino", arguments), ("cpu", [])):
        path = tmp_path / f"{name}.jsonl"
        code, _, err = run("run", PORTRAIT, "--box", BOX, "--no-window", "--json", path, *more)
        assert code == 0, err
        found[name] = np.array(json.loads(path.read_text())["faces"][0]["landmarks"])
    assert found["openvino"] == pytest.approx(found["cpu"], abs=0.02)


def test_threads_and_closing(images):
    engine = load_engine("edge", threads=2, provider="openvino")
    assert engine.info.threads == 2
    assert ", 2 threads, layout ict" in engine.describe()
    engine.close()
    engine.close()
    with pytest.raises(BadInput, match="the engine is closed"):
        engine.infer(images)


def test_without_openvino_one_line_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    wanted = "openvino is not installed, and running a model on OpenVINO needs it: pip install "
    for arguments in (
        ["run", PORTRAIT, "--box", BOX, "--no-window", "--provider", "openvino"],
        ["build-engine", "--target", "openvino", "--output", tmp_path / "edge.onnx"],
    ):
        code, _, err = run(*arguments)
        assert (code, len(err.split("error: ")), len(err.strip().splitlines())) == (3, 2, 1), err
        assert wanted + "'posgan-edge[openvino]'" in err
    assert list(tmp_path.iterdir()) == []


def test_doctor_and_benchmark_name_it(run, tmp_path):
    _, out, _ = run("doctor")
    assert "yes  running ONNX models on OpenVINO: openvino 20" in out
    from tests.helpers.data import write_human_npz

    write_human_npz(tmp_path / "faces.npz", 2)
    code, _, err = run(
        "benchmark", "--dataset", tmp_path / "faces.npz", "--engine", "edge", "--engine",
        "openvino:edge", "--rounds", 9, "--json", tmp_path / "b.json",
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads((tmp_path / "b.json").read_text())["engines"]
    assert list(rows) == ["edge", "openvino:edge"]
    row = rows["openvino:edge"]
    assert row["engine"]["runtime"].startswith("openvino ")
    assert set(row["threads_ms"]) == set(rows["edge"]["threads_ms"])
    assert row["cold_start"]["load_seconds"] > 0
    assert row["megabytes"] == rows["edge"]["megabytes"]


def test_it_scores_as_onnx_runtime_does(run, tmp_path):
    data = real_data("aflw2000-3d")
    code, _, err = run("benchmark", "--dataset", data, "--limit", 24, "--engine", "edge",
                       "--engine", "openvino:edge", "--json", tmp_path / "b.json")  # fmt: skip
    assert code == 0, err
    rows = json.loads((tmp_path / "b.json").read_text())["engines"]
    first, second = (rows[name]["labels"]["original"]["mean"] for name in ("edge", "openvino:edge"))
    assert first == pytest.approx(second, abs=1e-3)
