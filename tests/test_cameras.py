"""Several cameras in one run: one engine, batches, a summary and outputs for each."""

import http.client
import json
import signal
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from posgan_edge import FaceBox, FaceTracker, Frame, GivenBoxes, load_engine
from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput
from posgan_edge.images import read_image
from posgan_edge.live.capture import Capture
from posgan_edge.live.loop import Camera, Limits, run_cameras
from posgan_edge.live.sinks import Outputs, Result, SharedSink
from posgan_edge.live.sinks.live_page import LivePageSink
from posgan_edge.live.sources import names_camera, open_source
from posgan_edge.live.sources.synthetic import SyntheticSource
from tests.helpers.data import PORTRAIT, read_lines
from tests.test_live import Keeper, Still, start

SMALL = "synthetic:?width=320&height=240&fps=50&roll=0"
#: Frames in which the box lies on the face.
FACE, BOX = "synthetic:?width=320&height=320&roll=0&sway=0&zoom=0", "90,60,120,120"


class Breaks(SyntheticSource):
    """Gives some frames, then an error."""

    def __init__(self, frames, uri=SMALL):
        super().__init__(SyntheticSource.from_uri(uri).motion, "broken")
        self.frames = frames

    def read(self, into=None):
        if self._index >= self.frames:
            raise BadInput("broken: cable pulled")
        return super().read(into)


def run_all(sources, sinks, finders=None, limits=None, drop=True, told=None):
    """The summaries of a run of these sources, each with its sinks and finder."""
    captures = [Capture(source, drop) for source in sources]
    finders = finders or [Still() for _ in sources]
    cameras = [
        Camera(capture, finder, own, number)
        for number, (capture, finder, own) in enumerate(
            zip(captures, finders, sinks, strict=True), 1
        )
    ]
    for capture in captures:
        capture.open()
    return run_cameras(cameras, limits, notify=(told if told is not None else []).append)


def synthetic(seconds):
    return SyntheticSource.from_uri(f"{SMALL}&seconds={seconds}")


class Numbers(Keeper):
    """Keeps the numbers of the cameras too, and when it was closed."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.cameras, self.closed_at = set(), 0.0

    def write(self, result):
        super().write(result)
        self.cameras.add(result.camera)

    def close(self):
        super().close()
        self.closed_at = time.perf_counter()


def test_each_camera_has_its_frames_sinks_and_summary():
    sinks = [Numbers() for _ in range(3)]
    summaries = run_all(
        [synthetic(0.2), synthetic(0.4), synthetic(0.6)], [[s] for s in sinks], drop=False
    )
    for camera, (sink, summary) in enumerate(zip(sinks, summaries, strict=True)):
        count = (10, 20, 30)[camera]
        assert sink.frames == list(range(count))
        assert sink.cameras == {camera + 1}
        assert sink.closed == 1
        assert (summary.processed, summary.counts.captured) == (count, count)
        assert summary.source == f"{SMALL}&seconds={(0.2, 0.4, 0.6)[camera]}"
        assert summary.stages["track"].count == count
        assert summary.failures == []


def test_a_camera_that_dies_does_not_stop_the_others():
    told: list[str] = []
    sinks = [Numbers("a"), Numbers("b"), Numbers("c")]
    summaries = run_all(
        [synthetic(3), Breaks(5), synthetic(3)], [[s] for s in sinks], drop=False, told=told
    )
    assert [len(s.frames) for s in sinks] == [150, 5, 150]
    assert [s.failures for s in summaries] == [[], ["broken: cable pulled"], []]
    assert told == ["broken: cable pulled; the other cameras continue"]
    # Its files are finished when it ends, not when the run ends.
    assert sinks[1].closed == 1
    assert sinks[1].closed_at < min(sinks[0].closed_at, sinks[2].closed_at)


def test_a_finder_that_fails_ends_its_camera_alone():
    class Fails(Still):
        def update(self, frame):
            if frame.index == 3:
                raise BadInput("no more")
            return super().update(frame)

    sinks = [Numbers(), Numbers()]
    summaries = run_all(
        [synthetic(1), synthetic(1)], [[s] for s in sinks], [Fails(), Still()], drop=False
    )
    assert [s.frames for s in sinks] == [[0, 1, 2], list(range(50))]
    assert [s.failures for s in summaries] == [["no more"], []]


def test_a_slow_sink_holds_up_its_own_camera_alone():
    slow, quick = Numbers(seconds=0.5), Numbers()
    summaries = run_all([synthetic(4), synthetic(4)], [[slow], [quick]])
    assert len(slow.frames) < 20
    assert len(quick.frames) > 4 * len(slow.frames)
    for summary in summaries:
        assert summary.counts.captured == summary.processed + summary.counts.dropped


def test_the_number_of_frames_is_for_each_camera():
    sinks = [Numbers(), Numbers()]
    summaries = run_all([synthetic(2), synthetic(60)], [[s] for s in sinks], limits=Limits(7))
    assert [s.processed for s in summaries] == [7, 7]
    assert [len(s.frames) for s in sinks] == [7, 7]


class Counting(Engine):
    """An engine that keeps the size of each batch."""

    def __init__(self, engine):
        self.engine, self.info, self.batches = engine, engine.info, []

    def _infer(self, images):
        self.batches.append(len(images))
        return self.engine.infer(images)


def test_cameras_share_batches_and_keep_their_own_tracks():
    engine = Counting(load_engine("edge"))
    box = GivenBoxes([FaceBox(90, 60, 120, 120)])
    trackers = [FaceTracker(engine, box) for _ in range(3)]
    sources = [SyntheticSource.from_uri(f"{FACE}&seconds=1") for _ in range(3)]
    sinks: list[Any] = [Numbers() for _ in range(3)]
    summaries = run_all(sources, [[s] for s in sinks], trackers, drop=False)
    assert [s.with_face for s in summaries] == [30, 30, 30]
    assert max(engine.batches) == 3
    # Two passes on the first frame of each, then one crop a frame.
    assert sum(engine.batches) == 3 * (30 + 1)
    assert len(engine.batches) < 3 * 31
    assert [t.tracks[0].id for t in trackers] == [0, 0, 0]


def test_a_camera_that_cannot_be_opened_is_waited_for():
    class Late(SyntheticSource):
        live, tries = True, 0

        def open(self):
            self.tries += 1
            if self.tries < 3:
                raise BadInput("late: cannot be opened")
            super().open()

    told: list[str] = []
    source = Late(SyntheticSource.from_uri(SMALL + "&seconds=0.2").motion, "late")
    capture = Capture(source, patience=20, notify=told.append)
    capture.open(wait=True)
    with pytest.raises(BadInput, match="late: cannot be opened"):
        Capture(Late(source.motion, "late")).open()
    sink = Numbers()
    (summary,) = run_cameras([Camera(capture, Still(), [sink])])
    assert summary.processed == len(sink.frames) > 0
    assert summary.counts.lost == 1
    assert told[0] == "late: cannot be opened; trying again for 20 s"
    assert told[1].startswith("late: back after")


def test_a_shared_sink_is_started_and_closed_once():
    class Started(Numbers):
        starts = 0

        def start(self, engine, layout=None):
            self.starts += 1

    inner = Started()
    shared = SharedSink(inner, 2)
    for _ in range(2):
        shared.start(load_engine("edge"))
    run_all([synthetic(0.4), synthetic(1)], [[shared], [shared]], drop=False)
    assert (inner.starts, inner.closed) == (1, 1)
    assert inner.cameras == {1, 2}
    assert sorted(inner.frames) == sorted([*range(20), *range(50)])


def test_outputs_of_two_cameras(run, tmp_path):
    pytest.importorskip("trimesh")
    code, out, err = run(
        "run", FACE, f"{FACE}&noise=2", "--drop-frames", "--max-frames", 4, "--box", BOX,
        "--json", tmp_path / "a.jsonl", "--npz", tmp_path / "a.npz", "--save", tmp_path / "a.avi",
        "--mask", tmp_path / "masks", "--mesh", tmp_path / "meshes" / "m.ply",
        "--summary", tmp_path / "s.json",
    )  # fmt: skip
    assert code == 0, err
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert [n for n in names if "/" not in n] == [
        "a-1.avi", "a-1.npz", "a-2.avi", "a-2.npz", "a.jsonl", "s.json",
    ]  # fmt: skip
    assert len([n for n in names if n.startswith("masks/1/mask-")]) == 4
    assert len([n for n in names if n.startswith("masks/2/mask-")]) == 4
    assert len([n for n in names if n.startswith("meshes/m-1-")]) == 4
    assert len([n for n in names if n.startswith("meshes/m-2-")]) == 4
    lines = read_lines(tmp_path / "a.jsonl")
    assert sorted(line["camera"] for line in lines) == [1] * 4 + [2] * 4
    assert {(line["camera"], line["source"]) for line in lines} == {
        (1, FACE), (2, f"{FACE}&noise=2"),
    }  # fmt: skip
    cameras = json.loads((tmp_path / "s.json").read_text())["cameras"]
    assert [c["source"] for c in cameras] == [FACE, f"{FACE}&noise=2"]
    assert [c["processed"] for c in cameras] == [4, 4]
    assert f"{FACE}: 4 frames, a face in 4" in out
    assert f"{FACE}&noise=2: 4 frames, a face in 4" in out
    with np.load(tmp_path / "a-2.npz") as data:
        assert data["source_names"].tolist() == [f"{FACE}&noise=2"]
    # What is there is not replaced, under the names of each camera.
    code, _, err = run("run", FACE, FACE, "--box", BOX, "--save", tmp_path / "a.avi")
    assert (code, "a-1.avi: already exists" in err) == (2, True)


def test_one_camera_has_no_number(run, tmp_path):
    code, _, err = run(
        "run", FACE, "--max-frames", 2, "--box", BOX, "--json", tmp_path / "a.jsonl",
        "--save", tmp_path / "a.avi", "--summary", tmp_path / "s.json",
    )  # fmt: skip
    assert code == 0, err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.avi", "a.jsonl", "s.json"]
    assert "camera" not in read_lines(tmp_path / "a.jsonl")[0]
    assert json.loads((tmp_path / "s.json").read_text())["processed"] == 2


def test_a_camera_that_is_not_there_is_named_at_the_end(run, tmp_path):
    code, out, err = run(
        "run", FACE, "rtsp://user:secret@127.0.0.1:9/a", "--drop-frames", "--max-frames", 40,
        "--box", BOX, "--patience", 0.5, "--npz", tmp_path / "a.npz",
    )  # fmt: skip
    assert code == 4
    assert "error: rtsp://***@127.0.0.1:9/a: stream cannot be opened\n" in err
    assert "secret" not in err
    assert "Traceback" not in err
    assert f"{FACE}: 40 frames, a face in 40" in out
    assert err.count("milliseconds") == 1  # no empty table of stages
    assert [p.name for p in tmp_path.iterdir()] == ["a-1.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "b.mp4"], "give one video at a time"),
        (["0", "photo.jpg"], "give one video at a time"),
        (["file:///a.mp4", "synthetic:"], "give one video at a time"),
        ([SMALL, SMALL, "--osc", "127.0.0.1:9000"], "--osc sends one face: give one camera"),
    ],
)
def test_what_cannot_run_together(run, arguments, message):
    code, _, err = run("run", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


@pytest.mark.parametrize(
    ("uri", "camera"),
    [("0", True), ("/dev/video2", True), ("rtsp://a/b", True), ("http://a/b.mjpg", True),
     ("csi://1", True), ("v4l2:///dev/video0", True), ("synthetic:?noise=2", True),
     ("synthetic", True), ("file:///a.mp4", False), ("a.mp4", False), ("f-%04d.png", False),
     ("-", False)],
)  # fmt: skip
def test_what_is_a_camera_by_its_name(uri, camera):
    assert names_camera(uri) == camera


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_finish_the_files_of_every_camera(tmp_path, number, code):
    process = start(
        FACE, f"{FACE}&noise=1", "--drop-frames", "--box", BOX, "--save", tmp_path / "a.avi",
        "--npz", tmp_path / "a.npz", "--json", "-",
    )  # fmt: skip
    seen: dict[int, int] = {}
    while min([seen.get(1, 0), seen.get(2, 0)]) < 10:
        camera = json.loads(process.stdout.readline())["camera"]
        seen[camera] = seen.get(camera, 0) + 1
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    for camera in (1, 2):
        with open_source(str(tmp_path / f"a-{camera}.avi")) as video:
            assert len(list(video)) >= 10
        with np.load(tmp_path / f"a-{camera}.npz") as data:
            assert len(data["landmarks"]) >= 10
    assert len(list(tmp_path.iterdir())) == 4


def test_every_camera_has_a_window(run, monkeypatch):
    shown = set()
    monkeypatch.setattr("posgan_edge.cli.run_outputs.has_display", lambda: True)
    monkeypatch.setattr(cv2, "imshow", lambda title, _: shown.add(title))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord(" "))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    code, _, err = run(
        "run", FACE, f"{FACE}&noise=1", "--drop-frames", "--box", BOX, "--max-frames", 10
    )
    assert code == 0, err
    assert shown == {f"posgan-edge {FACE}", f"posgan-edge {FACE}&noise=1"}


def test_the_live_page_shows_all_cameras_and_each():
    image = read_image(PORTRAIT)
    names = ["rtsp://front", "</script><b>back"]

    def get(path):
        parts = urlsplit(sink.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer

    with LivePageSink("0", cameras=names) as sink:
        status, answer = get("/")
        page = answer.read().decode()
        assert status == 200
        assert "rtsp://front" in page
        assert page.count("</script>") == 1
        for path, expected in (
            ("/1/", 200), ("/2/", 200), ("/0/", 404), ("/3/", 404), ("/01/", 404), ("/x/", 404),
            ("/stream.mjpg", 404), ("/events", 404), ("/1/other", 404), ("/1/2/", 404),
        ):  # fmt: skip
            assert get(path)[0] == expected, path
        assert not sink.wants()
        stop = threading.Event()

        def write():
            while not stop.wait(0.05):
                for camera in (1, 2):
                    frame = Frame(image[: 100 * camera], camera)
                    if sink.wants():
                        sink.write(Result(frame, [], camera=camera))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for camera in (1, 2):
                status, answer = get(f"/{camera}/frame.jpg")
                jpeg = np.frombuffer(answer.read(), np.uint8)
                assert status == 200
                assert answer.getheader("Content-Type") == "image/jpeg"
                assert cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape == (100 * camera, 512, 3)
                status, answer = get(f"/{camera}/events")
                line = answer.fp.readline()
                assert json.loads(line.removeprefix(b"data: "))["frame"] == camera
        finally:
            stop.set()
            writer.join()


@pytest.mark.slow
def test_a_browser_shows_all_cameras_and_opens_one(browser):
    process = start(
        FACE, f"{FACE}&blink=3", "--drop-frames", "--box", BOX, "--serve", "0", "--duration", 300
    )
    try:
        line = process.stderr.readline()
        assert line.startswith("live page: "), line
        url = line.split()[-1]
        browser.open(url)
        browser.until("document.querySelectorAll('figure').length === 2", 60)
        browser.until(
            "[...document.images].length === 2 && "
            "[...document.images].every(i => i.naturalWidth === 320)", 60
        )  # fmt: skip
        captions = browser.ask("[...document.querySelectorAll('figcaption')].map(c => c.innerText)")
        assert captions == [f"1: {FACE}", f"2: {FACE}&blink=3"]
        # The pictures are loaded again and again.
        first = browser.ask("document.images[0].src")
        browser.until(f"document.images[0].src !== '{first}'")
        browser.ask("document.querySelectorAll('a')[1].click()")
        browser.until("document.getElementById('state')?.dataset.live === 'yes'", 60)
        browser.until("document.getElementById('picture').naturalWidth === 320", 60)
        assert browser.ask("location.pathname") == "/2/"
        assert browser.errors == []
        assert {urlsplit(r).netloc for r in browser.requests} == {urlsplit(url).netloc}
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_names_of_outputs(tmp_path):
    from posgan_edge.cli.run_outputs import numbered

    (tmp_path / "a.b").mkdir()
    assert numbered(tmp_path / "a.mp4", 2) == tmp_path / "a-2.mp4"
    assert numbered(tmp_path / "a", 2) == tmp_path / "a" / "2"
    assert numbered(tmp_path / "a.b", 2) == tmp_path / "a.b" / "2"
    assert Outputs().claim(numbered(tmp_path / "a.mp4", 1)) == tmp_path / "a-1.mp4"
