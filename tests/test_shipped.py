"""The files that the package ships belong together."""

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import pytest

from posgan_edge import FaceBox, FacePipeline
from posgan_edge.build.calibration import CalibrationRecord
from posgan_edge.build.export import weights_digest
from posgan_edge.build.graph import props
from posgan_edge.engines.loader import SHIPPED, load_engine
from posgan_edge.images import read_image
from posgan_edge.models.checkpoints import load_generator

ASSETS = resources.files("posgan_edge.assets")
RECORD = Path(__file__).parents[1] / "calibration" / "edge-mse.json"
BOX = FaceBox(179, 88, 97, 90)


@pytest.mark.parametrize(("name", "precision"), [("edge", "fp32"), ("edge-int8", "int8")])
def test_every_shipped_model_is_made_of_the_shipped_weights(name, precision):
    found = props(onnx.load(str(ASSETS / SHIPPED[name])))
    assert found["precision"] == precision
    assert found["weights_sha256"] == weights_digest(load_generator("edge"))
    with load_engine(name) as engine:
        assert engine.info.precision == precision


def test_the_shipped_int8_model_was_calibrated_by_the_record_in_the_tree():
    found = props(onnx.load(str(ASSETS / SHIPPED["edge-int8"])))
    assert found["calibration"] == CalibrationRecord.load(RECORD).digest
    assert found["kept_float"] == ""


def test_the_shipped_int8_model_sees_the_same_face():
    image = read_image(str(ASSETS / "portrait.jpg"))
    with FacePipeline("edge") as exact, FacePipeline("edge-int8") as rounded:
        (a,), (b,) = (p.process(image, [BOX]) for p in (exact, rounded))
    distance = np.linalg.norm(a.landmarks - b.landmarks, axis=1)[:, None]
    assert 0 < distance.mean() < 0.005 * max(a.box.width, a.box.height)


def test_the_figures_of_the_documents_are_the_recorded_ones():
    script = Path(__file__).parents[1] / "benchmarks" / "figures.py"
    run = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
