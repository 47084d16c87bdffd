"""What holds a resource: it is a context manager, closes twice, and closes what it made alone."""

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from posgan_edge import FaceBox, FacePipeline, FaceTracker, GivenBoxes, load_engine, read_image
from posgan_edge.closing import Closing
from posgan_edge.engines.manifest import Manifest
from posgan_edge.errors import BadInput
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.files import sha256
from posgan_edge.live.capture import Capture
from posgan_edge.live.sinks import (
    CsvSink,
    ImagesSink,
    Journal,
    JsonLinesSink,
    NpzSink,
    VideoSink,
    WindowSink,
)
from posgan_edge.live.sinks.live_page import LivePageSink
from posgan_edge.live.sources import open_source
from posgan_edge.live.sources.pictures import PictureReader
from tests.helpers.data import PORTRAIT

BOXES = GivenBoxes([FaceBox(179, 88, 97, 90)])
EDGE = Path(sys.modules["posgan_edge"].__path__[0]) / "assets" / "edge.onnx"

HOLDERS = {
    "engine on ONNX Runtime": lambda _: load_engine("edge"),
    "pipeline": lambda _: FacePipeline("edge", BOXES),
    "tracker": lambda _: FaceTracker("edge", BOXES),
    "capture": lambda _: Capture(open_source("synthetic:?seconds=1")),
    "moving portrait": lambda _: open_source("synthetic:?seconds=1"),
    "pictures": lambda _: PictureReader(),
    "journal": lambda folder: Journal(folder / "j", {}),
    "JSON lines": lambda folder: JsonLinesSink(folder / "a.jsonl"),
    "CSV": lambda folder: CsvSink(folder / "a.csv"),
    "NPZ": lambda folder: NpzSink(folder / "a.npz"),
    "drawn pictures": lambda folder: ImagesSink(folder / "drawn"),
    "video": lambda folder: VideoSink(folder / "a.mp4", 30),
    "window": lambda _: WindowSink(),
    "live page": lambda _: LivePageSink("0"),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_it_is_a_context_manager_and_closes_twice(tmp_path, name):
    holder = HOLDERS[name](tmp_path)
    assert isinstance(holder, Closing)
    with holder as inside:
        assert inside is holder
    holder.close()


def test_an_engine_on_openvino_and_a_detector_too():
    pytest.importorskip("openvino")
    pytest.importorskip("mediapipe")
    for holder in (load_engine("openvino:edge"), MediaPipeDetector()):
        with holder as inside:
            assert inside is holder
        holder.close()


@pytest.mark.parametrize("kind", [FacePipeline, FaceTracker])
def test_what_was_made_is_closed_and_what_was_given_stays_open(kind):
    with ExitStack() as stack:
        given = stack.enter_context(load_engine("edge"))
        with kind(given, BOXES) as user:
            pass
        user.close()
        assert not given.closed
        with kind("edge", BOXES) as user:
            made = getattr(user, "pipeline", user).engine
        assert made.closed
    assert given.closed


def test_a_tracker_closes_the_detector_that_it_made():
    pytest.importorskip("mediapipe")
    with FaceTracker("edge") as tracker:
        detector = tracker.detector
    with pytest.raises(BadInput, match="the detector is closed"):
        detector.detect(read_image(PORTRAIT))


def test_the_bytes_that_were_hashed_are_those_that_are_loaded(tmp_path, monkeypatch):
    """The file is exchanged once it was read; the engine is still the one that was checked."""
    engine = tmp_path / "edge.onnx"
    engine.write_bytes(EDGE.read_bytes())
    Manifest(
        engine_sha256=sha256(engine), onnx_sha256="", runtime="onnxruntime", runtime_version="",
        precision="fp32", name="edge", layout="ict", input_size=128, map_size=128, batch=0,
        command="",
    ).save(engine)  # fmt: skip
    read_bytes = Path.read_bytes

    def exchanged(path):
        data = read_bytes(path)
        if path == engine:
            path.write_bytes(b"other code")
        return data

    monkeypatch.setattr(Path, "read_bytes", exchanged)
    with load_engine(engine) as loaded, load_engine("edge") as expected:
        assert engine.read_bytes() == b"other code"
        images = np.random.default_rng(0).random((1, 3, 128, 128), np.float32)
        assert np.array_equal(loaded.infer(images), expected.infer(images))
