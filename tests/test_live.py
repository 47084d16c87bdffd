"""The live loop and its sinks."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import cv2
import numpy as np
import pytest

from posgan_edge import FaceBox, FacePipeline, Frame, load_engine
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.images import read_image
from posgan_edge.live.capture import Capture
from posgan_edge.live.loop import Drawing, Limits, run_live
from posgan_edge.live.sinks import (
    DenseSink,
    ImagesSink,
    JsonLinesSink,
    MeshesSink,
    NpzSink,
    Result,
    Sink,
    VideoSink,
)
from posgan_edge.live.sources import SourceLost, open_source
from posgan_edge.live.sources.synthetic import SyntheticSource
from posgan_edge.live.stages import StageTimes
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, read_lines

BOX = ",".join(map(str, PORTRAIT_BOX))
SMALL = "synthetic:?width=320&height=240&fps=50&seconds="


@pytest.fixture(scope="module")
def result():
    """The portrait's face as the loop hands it on."""
    frame = Frame(read_image(PORTRAIT), 7, 0.28)
    faces = FacePipeline(load_engine("edge")).process(frame, [FaceBox(*PORTRAIT_BOX)])
    return Result(frame, faces, frame.image, {"track": 4.0}, 5.0)


class Still:
    """A tracker that returns the same faces for every frame."""

    detections, detect_ms = 0, 0.0
    timings_ms = dict.fromkeys(("crop", "network", "landmarks", "total"), 1.0)

    def __init__(self, faces=(), seconds=0.0):
        self.faces, self.seconds = list(faces), seconds

    def update(self, frame):
        time.sleep(self.seconds)
        return self.faces


class Keeper(Sink):
    """Keeps what it gets; fails from a given frame on; may be slow."""

    def __init__(self, name="keeper", fails_at=None, seconds=0.0, error=None, draws=False):
        self.name, self.fails_at, self.seconds, self.draws = name, fails_at, seconds, draws
        self.error = error or BadInput(f"{name}: broke")
        self.frames, self.closed, self.canvases = [], 0, 0

    def write(self, result):
        if result.frame.index == self.fails_at:
            raise self.error
        time.sleep(self.seconds)
        self.frames.append(result.frame.index)
        self.canvases += result.canvas is not None

    def close(self):
        self.closed += 1


def live(seconds, sinks, tracker=None, limits=None, drop=None, told=None, **drawing):
    with Capture(open_source(SMALL + str(seconds)), drop) as capture:
        return run_live(
            capture, tracker or Still(), sinks, limits, Drawing(**drawing),
            (told if told is not None else []).append,
        )  # fmt: skip


def test_every_frame_reaches_every_sink(result):
    one, two = Keeper("one"), Keeper("two", draws=True)
    report = live(0.4, [one, two], Still(result.faces), overlay=True)
    assert one.frames == two.frames == list(range(20))
    assert (one.canvases, two.canvases) == (20, 20)
    assert (report.processed, report.with_face, report.counts.captured) == (20, 20, 20)
    assert one.closed == two.closed == 1
    assert report.failures == []
    assert {"track", "network", "capture to result", "draw", "to one"} <= set(report.stages)
    assert report.stages["track"].count == 20


def test_a_drawing_that_fails_ends_only_what_is_drawn(monkeypatch):
    from posgan_edge.live import worker as module

    def broken(*_, **__):
        raise ValueError("cannot draw")

    monkeypatch.setattr(module, "draw_faces", broken)
    drawn, plain = Keeper("drawn", draws=True), Keeper("plain")
    report = live(0.2, [drawn, plain])
    assert report.failures == ["drawn: ValueError: cannot draw"]
    assert (drawn.frames, plain.frames) == ([], list(range(10)))


def test_nothing_is_drawn_where_no_sink_asks(result):
    assert "draw" not in live(0.1, [Keeper()], Still(result.faces)).stages


@pytest.mark.parametrize(
    "error",
    [BadInput("first: broke"), OSError(28, "No space left on device"), ValueError("a bug")],
)
def test_a_sink_that_fails_is_reported_and_the_others_go_on(error):
    told: list[str] = []
    good = Keeper("good")
    bad = Keeper("first", fails_at=5, error=error)
    report = live(0.4, [bad, good], told=told)
    assert bad.frames == list(range(5))
    assert good.frames == list(range(20))
    assert bad.closed == good.closed == 1
    (line,) = told
    expected = {BadInput: "broke", OSError: "No space", ValueError: "ValueError: a bug"}
    assert line.startswith(f"first: {expected[type(error)]}")
    assert len(report.failures) == 1


class Stubborn(Keeper):
    """A sink that raises when it is asked, when it writes, when it is closed, or all of these."""

    def __init__(self, error, *when):
        super().__init__("stubborn", fails_at=3 if "write" in when else None, error=error)
        self.when = when

    def wants(self):
        if "wants" in self.when:
            raise self.error
        return True

    def close(self):
        super().close()
        if "close" in self.when:
            raise self.error


@pytest.mark.parametrize(
    "error",
    [BadInput("stubborn: no"), ValueError("no"), SystemExit(3), OSError(5, "no"), cv2.error("no")],
)
@pytest.mark.parametrize("when", [("close",), ("write", "close"), ("wants",), ("wants", "close")])
def test_no_sink_stops_the_loop(error, when):
    told: list[str] = []
    reports: list[Any] = []
    good, bad = Keeper("good"), Stubborn(error, *when)
    # On a thread of its own, so that a loop that blocks fails this test and holds up no other.
    thread = threading.Thread(
        target=lambda: reports.append(live(0.6, [bad, good], told=told)), daemon=True
    )
    thread.start()
    thread.join(30)
    (report,) = reports
    assert good.frames == list(range(30))
    assert bad.closed == good.closed == 1
    assert len(report.failures) == 1
    assert report.failures[0].startswith("stubborn: ")
    assert told[0].startswith(report.failures[0])


def test_nobody_needs_to_listen_to_the_reports():
    def gone(_):
        raise BrokenPipeError

    keeper = Keeper("good")
    with Capture(open_source(SMALL + "0.6")) as capture:
        report = run_live(
            capture, Still(), [Stubborn(ValueError("no"), "write", "close"), keeper], notify=gone
        )
    assert keeper.frames == list(range(30))
    assert report.failures[0] == "stubborn: ValueError: no"


@pytest.mark.parametrize("limits", [Limits(frames=7), Limits(seconds=0.3)])
def test_limits(limits):
    keeper = Keeper()
    report = live(60, [keeper], limits=limits, drop=True)
    assert keeper.frames == sorted(set(keeper.frames))
    assert len(keeper.frames) == report.processed
    assert report.processed == 7 if limits.frames else 8 <= report.processed <= 18


@pytest.mark.parametrize("slow", ["tracker", "sink"])
def test_slow_work_drops_frames_and_never_adds_latency(slow):
    tracker = Still(seconds=0.05 if slow == "tracker" else 0)
    sink = Keeper(seconds=0.05 if slow == "sink" else 0)
    report = live(2, [sink], tracker, drop=True)
    counts = report.counts
    assert counts.dropped > 40
    assert counts.captured == report.processed + counts.dropped
    assert report.processed == len(sink.frames)
    assert report.stages["capture to result"].p90 < 120


def test_a_source_that_breaks_still_closes_sinks():
    class Breaks(SyntheticSource):
        def read(self, into=None):
            if self._index == 5:
                raise BadInput("cable: pulled")
            return super().read(into)

    opened: Any = open_source(SMALL + "1")
    source = Breaks(opened.motion)
    keeper = Keeper()
    with Capture(source) as capture:
        report = run_live(capture, Still(), [keeper])
    assert report.failures == ["cable: pulled"]
    assert (keeper.frames, keeper.closed) == ([0, 1, 2, 3, 4], 1)


class Dead(SyntheticSource):
    """A live source that gives ten frames and then hangs: as it is read, or as it is opened."""

    live = True

    def __init__(self, hangs):
        super().__init__(open_source(SMALL + "9").motion)  # type: ignore[attr-defined]
        self.hangs, self.gave_up = hangs, threading.Event()

    def open(self):
        if self._index and self.hangs == "open":
            self.gave_up.wait(20)
            raise BadInput("cannot be opened")
        super().open()

    def read(self, into=None):
        if self._index >= 10:
            if self.hangs == "read":
                self.gave_up.wait(20)
            raise SourceLost("dead: gives no frame")
        return super().read(into)


@pytest.mark.parametrize("hangs", ["read", "open"])
def test_a_dead_stream_does_not_prolong_a_run(hangs):
    source, keeper = Dead(hangs), Keeper()
    try:
        start = time.perf_counter()
        with Capture(source) as capture:
            report = run_live(capture, Still(), [keeper], Limits(seconds=2.5))
        took = time.perf_counter() - start
    finally:
        source.gave_up.set()
    assert 2.5 <= took < 4
    assert report.processed == len(keeper.frames) <= 10
    assert keeper.closed == 1


def test_stage_times_stay_small():
    times = StageTimes()
    for i in range(10000):
        times.add("a", float(i))
    summary = times.summary()["a"]
    assert (summary.count, summary.largest) == (10000, 9999)
    assert summary.mean == pytest.approx(4999.5)
    assert summary.median == pytest.approx(10000 - 4096 / 2, abs=2)
    assert times._times["a"].nbytes < 20000


def test_npz_rows(result, tmp_path):
    with NpzSink(tmp_path / "a.npz") as sink:
        sink.write(result)
        sink.write(Result(result.frame, []))
        sink.write(result)
    face = result.faces[0]
    with np.load(tmp_path / "a.npz") as data:
        assert data["frame"].tolist() == [7, 7]
        assert data["timestamp"] == pytest.approx([0.28, 0.28])
        assert np.array_equal(data["landmarks"][1], face.landmarks)
        assert np.array_equal(data["facing"][0], face.facing)
        assert data["pose"][0] == pytest.approx([face.pose.pitch, face.pose.yaw, face.pose.roll])
        assert data["landmark_names"][36] == "right_eye_0"
        rebuilt = data["rotation"][0]
    assert rebuilt == pytest.approx(face.pose.rotation, abs=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_video_keeps_time_where_frames_are_missing(tmp_path):
    with VideoSink(tmp_path / "a.mp4", 10.0) as sink:
        for stamp in (0.0, 0.1, 0.5, 0.6, 9.0):
            image = np.full((48, 64, 3), int(stamp * 20), np.uint8)
            sink.write(Result(Frame(image, 0, stamp), [], image))
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    # 0.2 to 0.5 are filled; a gap of eight seconds is cut.
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 8


def test_a_full_disk_ends_a_video_properly(tmp_path, monkeypatch):
    from posgan_edge.live.sinks import base

    sink = VideoSink(tmp_path / "a.mp4", 30.0)
    image = np.zeros((48, 64, 3), np.uint8)
    for i in range(30):
        sink.write(Result(Frame(image, i, i / 30), [], image))
    monkeypatch.setattr(base, "RESERVE", 1 << 60)
    with pytest.raises(OSError, match="No space left"):
        sink.write(Result(Frame(image, 30, 1.0), [], image))
    sink.close()
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 30


def test_a_full_disk_leaves_whole_arrays(tmp_path, monkeypatch, result):
    from posgan_edge.live.sinks import base

    sink = NpzSink(tmp_path / "a.npz")
    sink.write(result)
    monkeypatch.setattr(base, "RESERVE", 1 << 60)
    with pytest.raises(OSError, match="No space left"):
        sink.write(result)
    sink.close()
    with np.load(tmp_path / "a.npz") as data:
        assert len(data["landmarks"]) == 1


@pytest.mark.parametrize(
    ("make", "files"),
    [
        (lambda p: ImagesSink(p / "out"), ["frame-000007.jpg"]),
        (lambda p: ImagesSink(p / "out" / "a.png"), ["a-000007.png"]),
        (
            lambda p: MeshesSink(p / "out"),
            ["face-000007-0.mtl", "face-000007-0.obj", "face-000007-0_uv.png"],
        ),
        (lambda p: MeshesSink(p / "out" / "m.glb"), ["m-000007-0.glb"]),
        (lambda p: MeshesSink(p / "out" / "m.ply"), ["m-000007-0.ply"]),
        (lambda p: DenseSink("depth", p / "out"), ["depth-000007-0.png"]),
        (lambda p: DenseSink("depth", p / "out" / "d.npy"), ["d-000007-0.npy"]),
        (lambda p: DenseSink("mask", p / "out"), ["mask-000007-0.png"]),
        (lambda p: DenseSink("texture", p / "out"), ["texture-000007-0.png"]),
    ],
)
def test_numbered_files(result, tmp_path, make, files):
    pytest.importorskip("trimesh")
    with make(tmp_path) as sink:
        sink.write(result)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == files


def test_numbered_files_need_a_type_that_is_known(tmp_path):
    with pytest.raises(UsageError, match="give a folder"):
        ImagesSink(tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def limited():
    # A file that may not grow behaves like a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "posgan_edge", "run", "--no-window", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_a_full_disk_leaves_whole_lines(tmp_path):
    process = start(
        "synthetic:?width=512&height=512&roll=0&sway=0", "--max-frames", 60, "--box", BOX,
        "--json", tmp_path / "a.jsonl", "--summary", tmp_path / "s.json", preexec_fn=limited,
    )  # fmt: skip
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "a.jsonl: File too large; the run continues without it" in err
    assert err.splitlines()[-1].endswith("a.jsonl: File too large")
    assert "Traceback" not in err
    assert 1 < len(read_lines(tmp_path / "a.jsonl")) < 60
    assert json.loads((tmp_path / "s.json").read_text())["processed"] == 60
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "s.json"]


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_file_that_may_not_grow_leaves_a_video_that_plays(tmp_path, suffix):
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    process = start(
        "synthetic:?width=640&height=480&noise=40", "--max-frames", 200, "--box", "250,180,95,92",
        "--save", tmp_path / f"a{suffix}", "--summary", tmp_path / "s.json", preexec_fn=small,
    )  # fmt: skip
    _, err = process.communicate(timeout=100)
    assert process.returncode == 4, err
    assert f"a{suffix}: File too large; the run continues without it" in err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "s.json").read_text())["processed"] == 200
    assert 2 < frames_of(tmp_path / f"a{suffix}") < 200
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}", "s.json"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_run_that_is_killed_leaves_a_video_that_plays(tmp_path, suffix):
    if suffix == ".mp4":
        pytest.importorskip("av")
    process = start(
        "synthetic:?width=320&height=320&noise=20", "--box", "90,60,120,120",
        "--save", tmp_path / f"a{suffix}", "--json", "-",
    )  # fmt: skip
    for _ in range(100):
        process.stdout.readline()
    process.kill()
    process.communicate(timeout=30)
    (left,) = tmp_path.iterdir()
    assert left.name == f".a.{process.pid}.part{suffix}"
    assert frames_of(left) > 30


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_finish_files(tmp_path, number, code):
    process = start(
        "synthetic:?width=320&height=320&roll=0", "--drop-frames", "--box", "90,60,120,120",
        "--save", tmp_path / "a.mp4", "--npz", tmp_path / "a.npz", "--json", "-",
    )  # fmt: skip
    for _ in range(20):
        json.loads(process.stdout.readline())
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) >= 20
    with np.load(tmp_path / "a.npz") as data:
        assert len(data["landmarks"]) >= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a.npz"]


def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path):
    process = start(
        "synthetic:?width=320&height=320&roll=0", "--box", "90,60,120,120", "--json", "-",
        "--max-frames", 4000,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) in (0, 4, 141), err
    assert "Traceback" not in err
    process.stderr.close()


class FlakyCamera:
    """A network camera (MJPEG over HTTP) that dies, returns larger, and spoils pictures."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        sizes = [(240, 320), (480, 640)]
        for number in range(100):
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n"
                try:
                    client.sendall(head + b"\r\n")
                    self._pictures(client, *sizes[min(number, 1)], count=30 if number == 0 else 500)
                except OSError:
                    continue

    def _pictures(self, client, height, width, count):
        portrait = cv2.resize(read_image(PORTRAIT), (width, height))
        jpeg = cv2.imencode(".jpg", portrait)[1].tobytes()
        for i in range(count):
            if self._stop.wait(0.02):
                return
            sent = jpeg[:200] + bytes(len(jpeg) - 200) if i % 10 == 7 else jpeg
            head = f"--f\r\nContent-Type: image/jpeg\r\nContent-Length: {len(sent)}\r\n\r\n"
            client.sendall(head.encode() + sent + b"\r\n")

    def close(self):
        self._stop.set()
        self._listener.close()


@pytest.mark.slow
def test_a_camera_that_dies_and_returns_is_survived(run, tmp_path):
    camera = FlakyCamera()
    try:
        code, _out, err = run(
            "run", "--camera", camera.url, "--box", "100,80,100,100", "--max-frames", 60,
            "--duration", 40, "--json", tmp_path / "a.jsonl", "--keep-frames",
        )  # fmt: skip
    finally:
        camera.close()
    assert "gives no frame; trying again" in err
    assert "back after" in err
    assert "size changed, 320x240 to 640x480" in err
    assert "Traceback" not in err
    assert code in (0, 4), err
    lines = read_lines(tmp_path / "a.jsonl")
    assert {(line["width"], line["height"]) for line in lines} == {(320, 240), (640, 480)}
    stamps = [line["timestamp"] for line in lines]
    assert stamps == sorted(set(stamps))


def test_json_lines_can_go_to_stdout(run):
    code, out, err = run(
        "run", "synthetic:?width=512&height=512&roll=0&sway=0&zoom=0", "--max-frames", 3,
        "--box", "140,150,150,150", "--json", "-",
    )  # fmt: skip
    assert code == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    assert [r["frame"] for r in records] == [0, 1, 2]
    assert "3 frames, a face in" in err
    assert "milliseconds" in err
    (face,) = records[-1]["faces"]
    assert len(face["visible"]) == 68
    assert set(face["openness"]) == {"right_eye", "left_eye", "mouth"}


@pytest.mark.slow
def test_demo(run, tmp_path):
    pytest.importorskip("mediapipe")
    assert run("demo", "--output", tmp_path, "--seconds", 1)[0] == 0
    # A second demo replaces what the first one made.
    code, out, err = run("demo", "--output", tmp_path, "--seconds", 2)
    assert code == 0, err
    assert "$ posgan-edge run" in out
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        "portrait.png", "portrait.obj", "portrait.mtl", "portrait_uv.png", "portrait.jsonl",
        "portrait-texture.png", "portrait-depth.png", "moving.mp4", "moving.jsonl", "moving.npz",
        "moving-summary.json",
    }  # fmt: skip
    assert cv2.imread(str(tmp_path / "portrait.png")).shape == (1024, 1024, 3)
    summary = json.loads((tmp_path / "moving-summary.json").read_text())
    assert summary["processed"] == 60
    assert summary["with_face"] >= 40
    assert os.path.getsize(tmp_path / "moving.mp4") > 10000


def test_a_demo_keeps_files_that_it_did_not_make(run, tmp_path):
    (tmp_path / "portrait.png").write_text("mine")
    code, _, err = run("demo", "--output", tmp_path)
    assert code == 2
    assert "portrait.png: already exists" in err
    assert (tmp_path / "portrait.png").read_text() == "mine"


@pytest.mark.parametrize("make", [lambda p: VideoSink(p / "a.avi", 10), lambda p: ImagesSink(p)])
def test_sinks_that_draw_say_so_where_nothing_was_drawn(tmp_path, result, make):
    with make(tmp_path) as sink, pytest.raises(BadInput, match="has no drawn frame"):
        sink.write(Result(result.frame, result.faces))


def test_json_sink_is_a_sink(tmp_path, result):
    with JsonLinesSink(tmp_path / "a.jsonl") as sink:
        sink.write(result)
    (line,) = read_lines(tmp_path / "a.jsonl")
    assert line["latency_ms"] == 5.0
    assert line["faces"][0]["openness"]["mouth"] > 0.05
