"""Every example runs as its first lines say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.data import PORTRAIT

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def example(name, *arguments, cwd):
    """Runs an example in a folder: what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def detector():
    pytest.importorskip("mediapipe")


@pytest.mark.usefixtures("detector")
def test_webcam(tmp_path):
    out = example("webcam.py", "synthetic:?seconds=1&width=640&height=360", cwd=tmp_path)
    assert "30 frames, 30 with a face" in out
    assert out.count("face 0  pitch") == 30


@pytest.mark.usefixtures("detector")
def test_blendshapes(tmp_path):
    source = "synthetic:?seconds=1&width=640&height=360&blink=0.9"
    out = example("blendshapes.py", source, 52, cwd=tmp_path)
    lines = [dict(zip(*[iter(line.split())] * 2, strict=True)) for line in out.splitlines()]
    assert len(lines) == 30
    assert all(len(line) == 52 and min(map(float, line.values())) >= 0 for line in lines)
    blinks = [float(line["eyeBlinkLeft"]) for line in lines]
    assert max(blinks) > min(blinks) + 0.3


@pytest.mark.usefixtures("detector")
def test_folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "in" / name).write_bytes(PORTRAIT.read_bytes())
    out = example("folder.py", "in", "faces.jsonl", cwd=tmp_path)
    assert out == "in/a.jpg: 1 faces\nin/b.jpg: 1 faces\n"
    lines = (tmp_path / "faces.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["faces"]) for line in lines] == [1, 1]


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("head_pose.py", [], ["pitch ", " degrees", " mm from the camera"]),
        ("expression.py", [], ["right_eye: ", "mouth: ", "tip of the nose at x 224."]),
        ("mesh.py", ["face.obj"], ["face.obj: 14026 vertices", " triangles"]),
        ("texture.py", ["uv.png"], ["seen: ", "with the mirrored side: "]),
        ("batch.py", [], ["cut at +20 degrees: ", "spread "]),
    ],
)
def test_pictures(tmp_path, name, arguments, expected):
    out = example(name, PORTRAIT, *arguments, cwd=tmp_path)
    for text in expected:
        assert text in out
    assert all((tmp_path / argument).stat().st_size > 1000 for argument in arguments)


@pytest.mark.usefixtures("detector")
def test_own_checkpoint(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from posgan_edge.models.registry import build_generator

    torch.manual_seed(0)
    torch.save({"Generator": build_generator("unet", ngf=2).state_dict()}, tmp_path / "own.pth")
    out = example("own_checkpoint.py", "own.pth", "own.onnx", PORTRAIT, cwd=tmp_path)
    assert "layout prnet" in out
    distance = float(out.rpartition("at most ")[2].split()[0])
    assert distance < 0.01


def test_build_engine_and_benchmark(tmp_path):
    pytest.importorskip("onnx")
    assert "fp16 on onnxruntime" in example("build_engine.py", "edge-fp16.onnx", cwd=tmp_path)
    out = example("benchmark.py", "edge", "edge-fp16.onnx", "--rounds", 8, cwd=tmp_path)
    assert out.startswith("edge: median ")
    assert "1.00 of the first (1.00 to 1.00)" in out
    assert out.count(" of the first") == 2


def test_every_example_is_listed_and_tested():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    listed = (EXAMPLES / "README.md").read_text()
    tested = Path(__file__).read_text()
    assert len(scripts) >= 10
    for name in scripts:
        assert f"`{name}`" in listed, name
        assert f'"{name}"' in tested, name
