"""The C++ example, built by CMake against OpenVINO's wheel, agrees with Python."""

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from posgan_edge import FaceBox, FacePipeline, Frame, load_engine, load_layout
from posgan_edge.build.landmark_table import save_landmark_table
from posgan_edge.geometry.crop import BOX_SCALE
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX

SOURCE = Path(__file__).parents[1] / "examples" / "cpp"
ASSETS = PORTRAIT.parent


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "landmarks.json"
    save_landmark_table(path, load_layout("ict"), 128, 128)
    return path


def test_export_writes_where_the_landmarks_are(run, tmp_path, table):
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    model, written = tmp_path / "edge.onnx", tmp_path / "landmarks.json"
    code, out, err = run("export", "--model", "edge", "--output", model, "--landmarks", written)
    assert (code, err) == (0, "")
    assert f"{written}: 68 landmarks of layout ict" in out
    assert written.read_text() == table.read_text()
    content = json.loads(written.read_text())
    assert content["layout"] == "ict"
    assert content["crop"]["box_scale"] == BOX_SCALE
    assert content["input"]["shape"] == ["N", 3, 128, 128]
    assert content["output"]["shape"] == ["N", 3, 128, 128]
    np.testing.assert_array_equal(
        np.array(content["landmark_uv"], np.float32), load_layout("ict").landmark_uv
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [("table.txt", "must end in .json"), ("/proc/none/table.json", "cannot be made")],
)
def test_a_table_that_cannot_be_written(run, tmp_path, name, message):
    output = tmp_path / "edge.onnx"
    code, _, err = run("export", "--model", "edge", "--output", output, "--landmarks",
                       tmp_path / name)  # fmt: skip
    assert (code, err.count("\n")) == (4, 1)
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    utils = pytest.importorskip("openvino.utils", reason="the openvino wheel is not installed")
    build = tmp_path_factory.mktemp("build")
    for command in (
        ["cmake", "-S", SOURCE, "-B", build, f"-DOpenVINO_DIR={utils.get_cmake_path()}"],
        ["cmake", "--build", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "warning" not in done.stdout + done.stderr
    return build / "landmarks"


def test_the_program_agrees_with_python(program, table, tmp_path):
    image = read_image(PORTRAIT)
    cv2.imwrite(str(tmp_path / "portrait.ppm"), image)
    engine = load_engine("edge")
    near = FaceBox(200.0, 100.0, 60.0, 61.0)  # enlarged; the other one is made smaller
    for box in (FaceBox(*PORTRAIT_BOX), near):
        arguments = [ASSETS / "edge.onnx", table, tmp_path / "portrait.ppm"]
        numbers = [str(v) for v in (box.x, box.y, box.width, box.height)]
        done = subprocess.run([program, *arguments, *numbers], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = np.array([line.split() for line in done.stdout.splitlines()], float)
        (face,) = FacePipeline(engine, passes=1).process(Frame(image), [box])
        np.testing.assert_allclose(found, face.landmarks, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({2: "absent.ppm"}, "absent.ppm: not a binary PPM"),
        ({1: "absent.json"}, "absent.json: no 'box_scale' here"),
        ({5: "0", 6: "0"}, "the box must have an area"),
    ],
)
def test_the_program_refuses_bad_input(program, table, tmp_path, change, message):
    arguments = [ASSETS / "edge.onnx", table, tmp_path / "a.ppm", "1", "2", "30", "30"]
    for index, value in change.items():
        arguments[index] = value
    done = subprocess.run([program, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
