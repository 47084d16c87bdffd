"""Sources by URI, and the thread that reads them."""

import io
import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.live.capture import Capture
from posgan_edge.live.clock import SteadyClock
from posgan_edge.live.sources import Source, SourceLost, is_picture, open_source
from posgan_edge.live.sources.opencv import OpenCvSource
from posgan_edge.live.sources.raw import RawSource
from posgan_edge.live.sources.rtsp import RtspSource, has_av
from posgan_edge.live.sources.synthetic import SyntheticSource
from tests.helpers.data import PORTRAIT
from tests.helpers.there import there


@pytest.mark.parametrize(
    ("uri", "kind", "live"),
    [
        ("0", OpenCvSource, True),
        ("/dev/video3", OpenCvSource, True),
        ("v4l2:///dev/video3", OpenCvSource, True),
        ("csi://1", OpenCvSource, True),
        ("rtsp://host/stream", RtspSource if has_av() else OpenCvSource, True),
        ("http://host:80/video", OpenCvSource, True),
        (str(PORTRAIT), OpenCvSource, False),
        (f"file://{PORTRAIT}", OpenCvSource, False),
        (f"{PORTRAIT.parent}/frame-%04d.png", OpenCvSource, False),
        ("synthetic:", SyntheticSource, False),
        ("synthetic", SyntheticSource, False),
        ("synthetic:?faces=3&seconds=2", SyntheticSource, False),
    ],
)
def test_uris(uri, kind, live):
    source = open_source(uri)
    assert type(source) is kind
    assert source.live is live


@pytest.mark.parametrize(
    ("uri", "options", "error", "message"),
    [
        ("gopher://a", {}, UsageError, "unknown kind of source 'gopher'"),
        ("absent.mp4", {}, BadInput, "no such video file"),
        ("absent/%d.png", {}, BadInput, "no such video file"),
        ("-", {}, UsageError, "need a size"),
        ("0", {"size": (2, 2)}, UsageError, "others do not"),
        ("csi://left", {}, UsageError, "csi:// and its number"),
        ("synthetic:?faces=0", {}, UsageError, "from 1 to 16"),
        ("synthetic:?faces=two", {}, UsageError, "faces='two' is not a number"),
        ("synthetic:?colour=1", {}, UsageError, "unknown key 'colour'"),
        ("synthetic:?seconds=nan", {}, UsageError, "not finite"),
        ("synthetic:?blank=1&every=0", {}, UsageError, "every must be from 0.01"),
        ("99999999999", {}, BadInput, "no such camera"),
        ("²", {}, BadInput, "no such camera"),
        ("synthetic:?zoom=-50", {}, UsageError, "zoom must be from 0 to 0.9"),
        ("synthetic:?width=1e6", {}, UsageError, "width='1e6' is not a number"),
        ("synthetic:?width=1000000", {}, UsageError, "width must be from 64 to 8192"),
        ("synthetic:?fps=1e-300", {}, UsageError, "fps must be from 0.01 to 1000"),
        ("synthetic:?jpeg=101", {}, UsageError, "jpeg must be from 0 to 100"),
        ("synthetic:?noise=-1", {}, UsageError, "noise must be from 0 to 255"),
        ("synthetic:?fps=10&fps=20", {}, UsageError, "fps is given twice"),
        ("synthetic:faces=2", {}, UsageError, r"give synthetic:\?key=value"),
    ],
)
def test_bad_uris(uri, options, error, message):
    with pytest.raises(error, match=message):
        open_source(uri, **options)


def test_what_is_a_picture(tmp_path):
    assert is_picture("a.JPG")
    assert is_picture(str(tmp_path))
    assert is_picture("http://host/a.jpg")
    assert not any(map(is_picture, ("http://host/live", "http://host.jpg", "rtsp://host/a.jpg")))
    assert not is_picture("frame-%04d.png")
    assert not is_picture("a.mp4")


@pytest.mark.parametrize("password", ["secret", "se@cret", "se?cret", "se#cret"])
def test_passwords_are_not_shown(password):
    assert open_source(f"rtsp://me:{password}@host/a").name == "rtsp://***@host/a"


def test_frame_patterns_are_videos(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"f{i:02d}.png"), np.full((40, 60, 3), 50 * i, np.uint8))
    with open_source(str(tmp_path / "f%02d.png")) as source:
        assert [int(frame.image.mean()) for frame in source] == [0, 50, 100]


def test_raw_frames(monkeypatch):
    frames = np.arange(3 * 4 * 6 * 3, dtype=np.uint8).reshape(3, 4, 6, 3)
    cut = frames.tobytes() + b"half a frame"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(cut)))
    source = RawSource((6, 4), 10.0)
    memory = np.empty((4, 6, 3), np.uint8)
    assert source.read(memory) is memory
    assert np.array_equal(memory, frames[0])
    assert np.array_equal(there(source.read()), frames[1])
    source.read()
    assert there(source.read()).size == 0
    assert source.read() is None


def test_synthetic_frames_repeat_and_move():
    first, again = (open_source("synthetic:?width=320&height=240&noise=5") for _ in range(2))
    a, b = ([there(source.read()) for _ in range(20)] for source in (first, again))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0], a[19])
    ended = open_source("synthetic:?seconds=0.2&fps=10&width=64&height=64")
    assert [ended.read() is None for _ in range(3)] == [False, False, True]
    blank = open_source("synthetic:?blank=1&every=2&fps=1&width=64&height=64")
    assert [np.ptp(there(blank.read())) > 20 for _ in range(4)] == [False, True, False, True]


class Script(Source):
    """A source that does what a list says: a size, ``lost``, ``spoilt``, or an exception."""

    name = "script"

    def __init__(self, steps, live=True, rate=1000.0, pause=0.0, opens=()):
        self.steps, self.live, self.rate, self.pause = list(steps), live, rate, pause
        self.opens, self.opened, self.given = list(opens), 0, []

    def open(self):
        self.opened += 1
        if self.opens and not self.opens.pop(0):
            raise BadInput("script: cannot be opened")

    def read(self, into=None):
        time.sleep(self.pause)
        step = self.steps.pop(0) if self.steps else None
        self.given.append(into)
        if step == "lost":
            raise SourceLost("script: gives no frame")
        if step == "spoilt":
            return np.empty((0, 0, 3), np.uint8)
        if isinstance(step, Exception):
            raise step
        return None if step is None else np.zeros((step, step, 3), np.uint8)


def test_every_frame_comes_where_none_may_be_dropped():
    source = Script([8] * 50, live=False)
    with Capture(source) as capture:
        taken = []
        for frame in capture:
            time.sleep(0.001)
            taken.append(frame.index)
    assert taken == list(range(50))
    assert (capture.counts.captured, capture.counts.dropped) == (50, 0)


def test_a_slow_consumer_gets_the_newest_frame():
    source = Script([8] * 60, pause=0.005)
    ages, taken = [], 0
    with Capture(source) as capture:
        for frame in capture:
            ages.append(time.perf_counter() - frame.captured)
            taken += 1
            time.sleep(0.03)
    counts = capture.counts
    assert taken < 30
    assert counts.captured == 60
    assert counts.captured == taken + counts.dropped
    # A queue of old frames would make each later than the one before.
    assert max(ages) < 0.1


def test_a_file_is_played_at_its_rate_where_frames_may_be_dropped():
    start = time.perf_counter()
    with Capture(Script([8] * 20, live=False, rate=50.0), drop=True) as capture:
        stamps = [frame.timestamp for frame in capture]
    assert time.perf_counter() - start > 0.35
    assert np.allclose(np.array(stamps) * 50, np.round(np.array(stamps) * 50))


def test_memory_is_used_again():
    source = Script([8] * 30, live=False)
    with Capture(source) as capture:
        for frame in capture:
            capture.release(frame)
    assert sum(into is not None for into in source.given) > 20


@pytest.mark.parametrize(("rate", "expected"), [(10.0, 10), (12.5, 13), (25.0, 25), (100.0, 25)])
def test_thinning(rate, expected):
    with Capture(Script([8] * 25, live=False, rate=25.0), rate=rate) as capture:
        stamps = [frame.timestamp for frame in capture]
    assert len(stamps) == expected
    assert capture.counts.thinned == 25 - expected


def test_a_lost_stream_comes_back():
    told: list[str] = []
    source = Script([8, 8, "lost", 8, "spoilt", 16], opens=[True, False, True])
    with Capture(source, drop=False, notify=told.append) as capture:
        sizes = [frame.image.shape[0] for frame in capture]
    assert sizes == [8, 8, 8, 16]
    counts = capture.counts
    assert (counts.lost, counts.spoilt, counts.resized, counts.captured) == (1, 1, 1, 4)
    assert source.opened == 3
    assert [line.split(": ")[1][:12] for line in told] == [
        "gives no fra", "back after 0", "a broken fra", "size changed",
    ]  # fmt: skip


def test_patience_ends():
    source = Script([8, "lost", "lost", "lost", "lost", "lost", "lost", "lost"])
    with Capture(source, patience=0.6) as capture:
        start = time.perf_counter()
        with pytest.raises(SourceLost, match="gives no frame"):
            list(capture)
        assert time.perf_counter() - start < 3


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "script: gives no frame"),
        ([8, ValueError("driver")], "script: ValueError: driver"),
    ],
)
def test_failures_reach_the_consumer(steps, message):
    with Capture(Script(steps, live=False)) as capture, pytest.raises(BadInput, match=message):
        list(capture)


def test_closing_early_counts_only_what_was_handed_on():
    with Capture(Script([8] * 100, live=False)) as capture:
        for number, _ in enumerate(capture):
            if number == 4:
                break
    assert capture.counts.captured == 5


def test_a_steady_clock_rises_and_takes_the_jitter_out():
    rng = np.random.default_rng(0)
    true = np.arange(300) / 30
    true[200:] += 0.5  # fifteen frames never came
    arrivals = true + rng.uniform(0, 0.012, 300)
    clock = SteadyClock(25.0)  # what the camera claims
    stamps = np.array([clock(a) for a in arrivals])
    assert (np.diff(stamps) > 0).all()
    assert np.abs(stamps - arrivals).max() < 0.05
    settled = np.diff(stamps)[100:198]
    assert np.std(settled) < 0.4 * np.std(np.diff(arrivals)[100:198])
    assert np.diff(stamps)[199] == pytest.approx(0.533, abs=0.02)
    assert clock(there(clock._last) - 1) > stamps[-1]


def test_a_file_behind_an_address_ends(tmp_path):
    """Streams are opened again; a video on a web server is not."""
    import threading
    from functools import partial
    from http.server import HTTPServer, SimpleHTTPRequestHandler

    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for i in range(7):
        writer.write(np.full((48, 64, 3), 30 * i, np.uint8))
    writer.release()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        source = open_source(f"http://127.0.0.1:{server.server_address[1]}/a.avi")
        with Capture(source, drop=False, patience=1) as capture:
            assert len(list(capture)) == 7
        assert capture.counts.lost == 0
    finally:
        server.shutdown()
        server.server_close()
