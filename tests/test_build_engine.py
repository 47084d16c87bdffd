import importlib.util
import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch

from posgan_edge import load_engine
from posgan_edge.build import engine
from posgan_edge.build.export import export_onnx
from posgan_edge.engines.manifest import checked_manifest, load_manifest, plan_header
from posgan_edge.errors import BadInput
from posgan_edge.files import sha256
from posgan_edge.models.unet import UNetGenerator
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX
from tests.helpers.networks import HALF, write_convolution
from tests.helpers.there import there

EDGE = PORTRAIT.with_name("edge.onnx")
BOX = ",".join(map(str, PORTRAIT_BOX))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of labelled faces: the portrait, shifted.

    The labels are the network's answer with an annotator's error (2 px of a face of 97): against
    the bare answer, every rounding would be a loss, as it is on no labelled photo.
    """
    from scipy.io import savemat

    from posgan_edge import FaceBox, FacePipeline, Frame
    from posgan_edge.images import read_image

    folder = tmp_path_factory.mktemp("faces")
    image = read_image(PORTRAIT)
    (face,) = FacePipeline(load_engine("edge")).process(Frame(image), [FaceBox(*PORTRAIT_BOX)])
    annotator = np.random.default_rng(1)
    for i in range(34):
        moved = np.roll(image, (i, 2 * i), axis=(0, 1))
        points = face.landmarks.T.copy() + np.array([[2 * i + 0.5], [i + 0.5], [0]])
        points[:2] += annotator.normal(0, 2, (2, 68))
        cv2.imwrite(str(folder / f"face{i:02d}.jpg"), moved)
        savemat(folder / f"face{i:02d}.mat", {"pt3d_68": points, "Pose_Para": np.zeros((1, 7))})
    return folder


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("unet") / "unet.onnx"
    export_onnx(UNetGenerator(2), path)
    return path


@pytest.fixture(scope="module")
def record(faces, tmp_path_factory):
    """Calibration records of both generators on the same faces."""
    from posgan_edge.build.calibration import calibrate, folder_faces
    from posgan_edge.build.graph import load_model
    from posgan_edge.evaluation.aflw2000 import landmark_labels

    folder = tmp_path_factory.mktemp("records")

    def make(model, size, layout):
        path = folder / f"{model.stem}.json"
        if not path.exists():
            found = folder_faces(faces, size, labels=landmark_labels(faces))
            calibrate(load_model(model), found, layout, "minmax").save(path)
        return path

    return make


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_onnxruntime_engines(run, tmp_path, faces, record, precision):
    output = tmp_path / "edge.onnx"
    given = ["--calibration", record(EDGE, 128, "ict"), "--calibration-images", faces]
    code, out, err = run(
        "build-engine", "--precision", precision, "--output", output, "--even-if-slower",
        *(given if precision == "int8" else []),
    )  # fmt: skip
    assert code == 0, err
    manifest = checked_manifest(output)
    assert (manifest.precision, manifest.runtime, manifest.layout) == (
        precision, "onnxruntime", "ict",
    )  # fmt: skip
    assert output.name in out
    images = np.random.default_rng(0).random((2, 3, 128, 128), np.float32)
    limit = {"fp32": 1e-6, "fp16": 2e-3, "int8": 0.05}[precision]
    answer = load_engine(output).infer(images)
    assert np.abs(answer - load_engine("edge").infer(images)).mean() < limit
    if precision == "int8":
        assert there(manifest.accuracy["pixels"]) < 0.5
        assert there(manifest.accuracy["nme_points"]) < 0.05
        assert manifest.calibration
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["edge.onnx", "edge.onnx.json"]


def test_shipped_calibration_fits_the_shipped_model(run, tmp_path):
    record = EDGE.parents[2] / "calibration" / "edge-mse.json"
    code, _, err = run(
        "build-engine", "--precision", "int8", "--calibration", record, "--even-if-slower",
        "--output", tmp_path / "edge.onnx",
    )  # fmt: skip
    assert code == 0, err
    assert load_manifest(tmp_path / "edge.onnx").precision == "int8"


def test_fp16_inputs_and_outputs_on_request(run, tmp_path):
    output = tmp_path / "edge.onnx"
    code, _, err = run("build-engine", "--precision", "fp16", "--fp16-io", "--output", output)
    assert code == 0, err
    model = onnx.load(output)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    images = np.random.default_rng(0).random((2, 3, 128, 128), np.float32)
    answer = load_engine(output).infer(images)
    assert answer.dtype == np.float32
    assert np.abs(answer - load_engine("edge").infer(images)).mean() < 5e-3


def test_int8_that_is_slower_gives_way_to_fp32(run, tmp_path, faces, record):
    code, out, _ = run(
        "build-engine", "--recipe", EDGE.parents[2] / "export" / "cpu.yaml",
        "--output", tmp_path / "edge.onnx", "--calibration", record(EDGE, 128, "ict"),
    )  # fmt: skip
    assert code == 0
    manifest = load_manifest(tmp_path / "edge.onnx")
    if manifest.precision == "fp32":
        assert there(manifest.accuracy["int8_latency_ratio"]) > 1
        assert "FP32 was kept" in out
    else:
        assert there(manifest.accuracy["latency_ratio"]) <= 1


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", ["edge", "unet"])
def test_real_rtx_engines(run, tmp_path, faces, record, unet, name, precision):
    pytest.importorskip("tensorrt_rtx")
    model, size, layout = (EDGE, 128, "ict") if name == "edge" else (unet, 256, "prnet")
    arguments = [
        "build-engine", "--model", model, "--precision", precision, "--target", "tensorrt-rtx",
        "--compute-capability", "8.9",
    ]  # fmt: skip
    if precision == "int8":
        arguments += ["--calibration", record(model, size, layout)]
    code, _, err = run(*arguments, "--output", tmp_path / "a.engine")
    assert code == 0, err
    manifest = checked_manifest(tmp_path / "a.engine")
    assert (manifest.name, manifest.precision, manifest.batch) == (name, precision, 1)
    assert plan_header(tmp_path / "a.engine") == ("tensorrt-rtx", manifest.runtime_version)
    code, _, _ = run(*arguments, "--output", tmp_path / "b.engine")
    assert code == 0
    assert (tmp_path / "a.engine").read_bytes() == (tmp_path / "b.engine").read_bytes()
    code, out, _ = run("inspect", tmp_path / "a.engine")
    assert code == 0
    assert "the file agrees with its manifest" in out


def test_rtx_engine_with_a_dynamic_batch(run, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    for name in ("a.engine", "b.engine"):
        code, _, err = run(
            "build-engine", "--target", "tensorrt-rtx", "--compute-capability", "8.9",
            "--batch", 8, "--precision", "fp16", "--output", tmp_path / name,
        )  # fmt: skip
        assert code == 0, err
    assert load_manifest(tmp_path / "a.engine").batch == 8
    probe = "import ctypes, sys; sys.exit(ctypes.CDLL(None).personality(0x0040000) == -1)"
    if sys.platform != "linux" or subprocess.run([sys.executable, "-c", probe]).returncode:
        pytest.skip("this system does not let a process fix its addresses")
    assert (tmp_path / "a.engine").read_bytes() == (tmp_path / "b.engine").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--compute-capability", "3.5"], 2, "tensorrt-rtx knows"),
        (["--target", "tensorrt"], 3, "pip install 'posgan-edge[tensorrt]'"),
    ],
)
def test_builder_errors_come_through(run, tmp_path, arguments, code, message):
    pytest.importorskip("tensorrt_rtx")
    if "tensorrt" in arguments and importlib.util.find_spec("tensorrt"):
        pytest.skip("TensorRT is installed")
    output = tmp_path / "a.engine"
    found, _, err = run("build-engine", "--target", "tensorrt-rtx", "--output", output, *arguments)
    assert found == code
    assert message in err
    assert list(tmp_path.iterdir()) == []


def engine_file(folder, name="a.engine"):
    """A file that passes for a plan, with its manifest."""
    import posgan_edge.engines.manifest as m

    path = folder / name
    path.write_bytes(b"vtrt" + bytes(20) + bytes([1, 7, 1, 116]) + bytes(100))
    m.Manifest(
        engine_sha256=sha256(path), onnx_sha256="0", runtime="tensorrt-rtx",
        runtime_version="1.7.1.116", precision="fp32", name="edge", layout="ict", input_size=128,
        map_size=128, batch=1, command="posgan-edge build-engine --x",
    ).save(path)  # fmt: skip
    return path


def _edit(path, **values):
    manifest = path.with_name("a.engine.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **values}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.with_name("a.engine.json").unlink(), "has no manifest a.engine.json"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "not the file that its manifest describes"),
        (lambda p: _edit(p, runtime_version="1.6.0.1"), "its header says tensorrt-rtx 1.7.1.116"),
        (lambda p: _edit(p, schema=99), "manifest version 99"),
        (lambda p: _edit(p, colour="red"), "not a valid manifest: unknown key 'colour'"),
        (lambda p: p.with_name("a.engine.json").write_text("{"), "not a valid manifest: "),
        (lambda p: _edit(p, batch=1.5), "batch: expected int, got float"),
        (lambda p: _edit(p, batch=float("nan")), "batch: expected int, got null"),
        (lambda p: _edit(p, build_seconds=float("inf")), "build_seconds: inf is not a finite"),
    ],
)
def test_engines_without_a_true_manifest_are_not_loaded(tmp_path, change, message):
    path = engine_file(tmp_path)
    change(path)
    with pytest.raises(BadInput, match=message):
        load_engine(path)


def test_manifest_names_the_command_that_rebuilds(tmp_path):
    path = engine_file(tmp_path)
    path.write_bytes(b"vtrt" + bytes(60))
    with pytest.raises(BadInput, match="rebuild it: posgan-edge build-engine --x"):
        load_engine(path)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--precision", "int8"], 2, "see --calibration RECORD or --calibration-images DIR"),
        (["--model", "broken.onnx"], 4, "a corrupt ONNX file"),
        (["--model", "absent.onnx"], 4, "no such ONNX file"),
        (["--target", "tensorrt-rtx"], 2, "does not end in .onnx"),
        (["--batch", "9"], 2, "not in the range"),
        (["--recipe", "bad.yaml"], 4, "unknown key 'precisoin'"),
        (["--recipe", "absent.yaml"], 4, "absent.yaml: cannot be read"),
        (["--recipe", "half.yaml"], 4, "half.yaml: not a valid build recipe: batch: expected int"),
        (["--recipe", "nan.yaml"], 4, "max-nme: nan is not a finite number"),
        (["--max-nme", "nan"], 2, "'--max-nme': nan is not a finite number"),
        (["--calibration", "other.json"], 2, "a calibration record and pictures are for int8"),
        (["--fp16-io"], 2, "see --fp16-io"),
        (["--output", "x" * 300 + ".onnx"], 4, "cannot be written (File name too long)"),
        (["--output", "a\0b.onnx"], 4, "cannot be written (embedded null byte)"),
        (["--precision", "int8", "--calibration", "absent.json"], 4, "absent.json: cannot be read"),
        (["--precision", "int8", "--calibration", "x" * 300], 4, "File name too long"),
        (["--precision", "int8", "--calibration", "absent.json", "--calibration-images", "few"], 4,
         "absent.json: cannot be read"),
        (["--precision", "int8", "--calibration-images", "few"], 4,
         "0 faces were found for calibration, 32 are needed"),
        (["--precision", "int8", "--calibration-images", "none"], 4, "none: no such folder"),
        (["--precision", "int8", "--calibration", "other.json"], 4, "made from another model"),
    ],
)  # fmt: skip
def test_bad_input_leaves_what_was_there(run, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    (tmp_path / "bad.yaml").write_text("precisoin: int8")
    (tmp_path / "half.yaml").write_text("batch: 1.5")
    (tmp_path / "nan.yaml").write_text("max-nme: .nan")
    (tmp_path / "few").mkdir()
    earlier = engine_file(tmp_path, "out.onnx")
    kept = earlier.read_bytes(), (tmp_path / "out.onnx.json").read_bytes()
    from posgan_edge.build.calibration import CalibrationRecord

    CalibrationRecord("0" * 64, "mse", 99.9, "ict", (), {"x": (0.0, 1.0)}).save("other.json")
    found, _, err = run("build-engine", "--output", "out.onnx", *arguments)
    assert (found, message in err) == (code, True), err
    assert "Traceback" not in err
    assert (earlier.read_bytes(), (tmp_path / "out.onnx.json").read_bytes()) == kept


def test_unreachable_budget_exits_with_one(run, tmp_path, faces):
    code, _, err = run(
        "build-engine", "--precision", "int8", "--output", tmp_path / "a.onnx",
        "--calibration-images", faces, "--max-pixels", "0.0001", "--method", "minmax",
    )  # fmt: skip
    assert code == 1
    assert "out of reach: best" in err
    assert list(tmp_path.iterdir()) == []


def test_calibrate_writes_a_record(run, tmp_path, faces):
    names = tmp_path / "names.txt"
    names.write_text("# a split\n" + "\n".join(f"face{i:02d}" for i in range(33)))
    code, out, err = run(
        "calibrate", "--images", faces, "--names", names, "--method", "minmax",
        "--output", tmp_path / "r.json",
    )  # fmt: skip
    assert code == 0, err
    assert "from 33 faces" in out
    assert len(json.loads((tmp_path / "r.json").read_text())["images"]) == 33


def test_export_with_landmarks_runs_as_an_engine(run, tmp_path):
    output = tmp_path / "edge.onnx"
    code, _, err = run(
        "export", "--model", EDGE.with_suffix(".safetensors"), "--output", output, "--landmarks"
    )
    assert code == 0, err
    assert [o.name for o in onnx.load(output).graph.output] == ["position_map", "landmarks"]
    import onnxruntime

    from posgan_edge import load_layout

    image = np.random.default_rng(0).random((1, 3, 128, 128), np.float32)
    maps, points = onnxruntime.InferenceSession(output).run(None, {"image": image})
    assert points == pytest.approx(load_layout("ict").landmarks(maps), abs=1e-5)
    code, _, _ = run("run", PORTRAIT, "--box", BOX, "--model", output, "--no-window")
    assert code == 0


def test_export_knows_the_landmark_sets(run, tmp_path):
    model, output = EDGE.with_suffix(".safetensors"), tmp_path / "edge.onnx"
    wanted = ("export", "--model", model, "--output", output, "--landmark-set", "300w")
    code, _, err = run(*wanted, "--landmarks")
    assert code == 0, err
    import onnxruntime

    from posgan_edge import load_layout

    layout = load_layout("ict").with_landmarks("300w")
    session = onnxruntime.InferenceSession(output)
    image = np.random.default_rng(0).random((1, 3, 128, 128), np.float32)
    maps, points = session.run(None, {"image": image})
    assert points == pytest.approx(layout.landmarks(maps), abs=1e-5)
    assert session.get_modelmeta().custom_metadata_map["landmark_set"] == "300w"
    code, _, err = run(*wanted, "--landmarks", tmp_path / "table.json")
    assert code == 0, err
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["landmark_set"] == "300w"
    assert np.array(table["landmark_uv"], np.float32) == pytest.approx(layout.landmark_uv)


def test_building_from_onnx_needs_no_torch(tmp_path):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['posgan-edge', 'build-engine', '--precision', 'fp16', "
        f"'--output', {str(tmp_path / 'a.onnx')!r}]\n"
        "from posgan_edge.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", ["{", '{"schema": 1}', '{"schema": 99}'])
def test_inspect_refuses_a_broken_manifest_beside_an_onnx(run, tmp_path, content):
    (tmp_path / "edge.onnx").write_bytes(EDGE.read_bytes())
    code, out, _ = run("inspect", tmp_path / "edge.onnx")
    assert (code, "layers with weights" in out) == (0, True)
    (tmp_path / "edge.onnx.json").write_text(content)
    code, out, err = run("inspect", tmp_path / "edge.onnx")
    assert code == 4
    assert "edge.onnx.json: " in err
    assert "agrees with its manifest" not in out


def test_sensitivity_without_matplotlib_is_refused_before_it_is_measured(
    run, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run(
        "calibrate", "--images", tmp_path, "--output", tmp_path / "r.json",
        "--sensitivity", tmp_path / "s",
    )  # fmt: skip
    assert (code, "pip install 'posgan-edge[benchmark]'" in err) == (3, True), err
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_no_torch(tmp_path):
    record = EDGE.parents[2] / "calibration" / "edge-mse.json"
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "sys.argv = ['posgan-edge', 'build-engine', '--precision', 'int8', '--even-if-slower', "
        f"'--calibration', {str(record)!r}, '--output', {str(tmp_path / 'a.onnx')!r}]\n"
        "from posgan_edge.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_build_imports_downward_alone():
    script = (
        "import sys, posgan_edge.build.engine, posgan_edge.build.sensitivity\n"
        "above = ('evaluation', 'training', 'cli', 'live', 'render')\n"
        "print([m for m in sys.modules if m.startswith('posgan_edge.') "
        "and m.split('.')[1] in above], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[] False", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("here", "code", "capability", "gpu", "message"),
    [
        (("NVIDIA RTX 4060", "8.9"), 0, "8.9", "NVIDIA RTX 4060", ""),
        (("", ""), 0, "", "", ""),
        (("NVIDIA H100", "9.0"), 2, None, None, "compute capability 9.0: tensorrt-rtx knows"),
    ],
)
def test_rtx_builds_for_the_gpu_at_hand(
    run, tmp_path, monkeypatch, here, code, capability, gpu, message
):
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr("posgan_edge.build.engine.gpu_here", lambda: here)
    path = tmp_path / "n.engine"
    network = write_convolution(tmp_path / "n.onnx")
    found, _, err = run("build-engine", "--model", network, "--target", "tensorrt-rtx",
                        "--output", path)  # fmt: skip
    assert (found, message in err) == (code, True), err
    if not code:
        manifest = load_manifest(path)
        assert (manifest.compute_capability, manifest.gpu) == (capability, gpu)
    path.unlink(missing_ok=True)
    code, _, err = run("build-engine", "--model", network, "--target", "tensorrt-rtx",
                       "--compute-capability", "7.5", "--output", path)  # fmt: skip
    assert code == 0, err
    assert (load_manifest(path).compute_capability, load_manifest(path).gpu) == ("7.5", "")


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_compute_capability_is_refused_for_onnx_targets(run, tmp_path, target):
    code, _, err = run("build-engine", "--target", target, "--compute-capability", "8.9",
                       "--output", tmp_path / "n.onnx")  # fmt: skip
    assert code == 2
    assert f"is for tensorrt-rtx, not for {target}: see --compute-capability" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "option", "value", "message"),
    [
        ("onnxruntime", "--workspace", 512,
         "a workspace limit is for tensorrt and tensorrt-rtx, not for onnxruntime"),
        ("openvino", "--workspace", 512,
         "a workspace limit is for tensorrt and tensorrt-rtx, not for openvino"),
        ("onnxruntime", "--timing-cache", "t.cache",
         "a timing cache is for tensorrt, not for onnxruntime"),
        ("openvino", "--timing-cache", "t.cache",
         "a timing cache is for tensorrt, not for openvino"),
        ("tensorrt-rtx", "--timing-cache", "t.cache",
         "a timing cache is for tensorrt, not for tensorrt-rtx"),
        ("onnxruntime", "--tuned-for", 2,
         "tuning for a batch is for tensorrt and tensorrt-rtx, not for onnxruntime"),
    ],
)  # fmt: skip
def test_options_of_other_targets_are_refused(run, tmp_path, target, option, value, message):
    output = tmp_path / ("n.engine" if target == "tensorrt-rtx" else "n.onnx")
    code, _, err = run("build-engine", "--target", target, option, value, "--output", output)
    assert (code, err.strip()) == (2, f"error: {message}: see {option}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "shapes"), [({"batch": 8}, (1, 1, 8)), ({"batch": 8, "tuned_for": 4}, (1, 4, 8))]
)
def test_plans_are_tuned_for_one_face_unless_asked(tmp_path, monkeypatch, options, shapes):
    trt = pytest.importorskip("tensorrt_rtx")
    from posgan_edge.build import tensorrt as build

    made = []

    real: Any = trt.Builder

    class Builder(real):  # type: ignore[misc]
        def create_optimization_profile(self):
            made.append(super().create_optimization_profile())
            return made[-1]

    monkeypatch.setattr(trt, "Builder", Builder)
    network = write_convolution(tmp_path / "n.onnx").read_bytes()
    build.build_plan(
        network, "tensorrt-rtx", build.PlanOptions(compute_capability="8.9", **options)
    )
    (profile,) = made
    assert [shape[0] for shape in profile.get_shape("image")] == list(shapes)


def test_tuning_for_more_than_the_largest_batch_is_refused(run, tmp_path):
    code, _, err = run("build-engine", "--target", "tensorrt-rtx", "--batch", 2, "--tuned-for", 4,
                       "--output", tmp_path / "n.engine")  # fmt: skip
    assert code == 2
    assert "tuned for batches of 4, but the plan takes at most 2: see --batch or --tuned-for" in err


def test_plans_have_one_output_and_float32_on_both_ends(tmp_path):
    """A plan that also gave landmarks would write them to memory that nobody made."""
    trt = pytest.importorskip("tensorrt_rtx")
    from posgan_edge.build.tensorrt import _check_network

    def parsed(path):
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(flag)
        parser = trt.OnnxParser(network, logger)
        assert parser.parse(path.read_bytes())
        return network, (builder, parser, logger)

    model = onnx.load(write_convolution(tmp_path / "n.onnx"))
    model.graph.node.append(onnx.helper.make_node("Neg", ["image"], ["landmarks"]))
    more = onnx.helper.make_tensor_value_info("landmarks", 1, ["batch", 3, 16, 16])
    model.graph.output.insert(0, more)
    onnx.save(model, tmp_path / "n.onnx")
    network, kept = parsed(tmp_path / "n.onnx")
    assert network.num_outputs == 2
    _check_network(trt, network)
    assert [network.get_output(i).name for i in range(network.num_outputs)] == ["position_map"]
    half = write_convolution(tmp_path / "h.onnx", type_=HALF)
    network, kept = parsed(half)
    with pytest.raises(BadInput, match="plans have float32 inputs and outputs"):
        _check_network(trt, network)
    del network, kept


@pytest.fixture
def planned(monkeypatch):
    """TensorRT is there; its builder adds to the timing cache. Returns the caches it is given."""
    given = []

    def build(data, target, options):
        given.append(options.timing_cache)
        return b"plan", options.timing_cache + b"timed"

    monkeypatch.setattr(engine, "load_tensorrt", lambda _: SimpleNamespace(__version__="10.3"))
    monkeypatch.setattr(engine, "build_plan_apart", build)
    return given


def test_a_timing_cache_grows_from_build_to_build(run, tmp_path, planned):
    network = write_convolution(tmp_path / "n.onnx")
    for name in ("a.engine", "b.engine"):
        code, _, err = run(
            "build-engine", "--model", network, "--target", "tensorrt", "--output",
            tmp_path / name, "--timing-cache", tmp_path / "t.cache",
        )  # fmt: skip
        assert code == 0, err
    assert planned == [b"", b"timed"]
    assert (tmp_path / "t.cache").read_bytes() == b"posgan-edge timing cache\ntimedtimed"


@pytest.mark.parametrize("kind", ["foreign", "model", "output", "folder", "fifo"])
def test_a_timing_cache_replaces_nothing_else(run, tmp_path, planned, kind):
    network = write_convolution(tmp_path / "n.onnx")
    content = network.read_bytes()
    cache = {"model": network, "output": tmp_path / "e.engine"}.get(kind, tmp_path / "photo.jpg")
    if kind == "foreign":
        cache.write_bytes(b"somebody's")
    elif kind == "folder":
        cache.mkdir()
    elif kind == "fifo":
        os.mkfifo(cache)
    code, _, err = run(
        "build-engine", "--model", network, "--target", "tensorrt", "--output",
        tmp_path / "e.engine", "--timing-cache", cache,
    )  # fmt: skip
    assert (code in (2, 4), err.count("rror: "), planned) == (True, 1, []), err
    assert str(cache) in err
    assert network.read_bytes() == content
    assert not (tmp_path / "e.engine").exists()
    assert kind != "foreign" or cache.read_bytes() == b"somebody's"
