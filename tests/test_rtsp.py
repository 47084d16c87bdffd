"""RTSP streams of a real server (GStreamer's): both transports, and everything that breaks them.

Each test runs with PyAV and with OpenCV. None counts the frames of a fixed time: the machine may be
busy. They wait for what must happen, with limits that are far away.
"""

import json
import signal
import threading
import time
from typing import Any

import pytest

from posgan_edge.errors import BadInput
from posgan_edge.live.capture import Capture
from posgan_edge.live.sources import SourceLost, open_source
from posgan_edge.live.sources.opencv import OpenCvSource
from posgan_edge.live.sources.rtsp import RtspSource
from tests.helpers.rtsp import RtspServer, need_gstreamer, write_mp4
from tests.test_live import start

pytestmark = pytest.mark.slow

#: Seconds in which anything that must happen has happened, on a busy machine too.
LONG = 60


@pytest.fixture(scope="module", autouse=True)
def _gstreamer():
    need_gstreamer()


@pytest.fixture(params=["pyav", "opencv"], autouse=True)
def through(request, monkeypatch):
    """What streams are opened with."""
    if request.param == "pyav":
        pytest.importorskip("av")
    else:
        monkeypatch.setattr("posgan_edge.live.sources.rtsp.has_av", lambda: False)
    return request.param


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A function that makes a video of so many frames."""
    folder = tmp_path_factory.mktemp("rtsp")

    def make(frames):
        path = folder / f"{frames}.mp4"
        if not path.exists():
            write_mp4(path, frames)
        return path

    return make


def take(capture, enough):
    """Takes frames until ``enough`` of their number says so, or the stream ends."""
    count, end = 0, time.perf_counter() + LONG
    while not capture.ended and not enough(count):
        assert time.perf_counter() < end, "nothing came of it"
        count += capture.take(0.2) is not None
    return count


def test_what_opens_a_stream(through):
    kind = RtspSource if through == "pyav" else OpenCvSource
    assert type(open_source("rtsp://host/a")) is kind
    assert type(open_source("rtsps://user:secret@host/a")) is kind
    assert open_source("rtsps://user:secret@host/a").name == "rtsps://***@host/a"
    assert type(open_source("http://host/a")) is OpenCvSource


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_live_stream_has_no_old_frames(transport):
    """The age of a frame is how much later it came than its time stamp says, against the frame that
    came soonest. Opening a stream takes a second or two, and frames of that time would be old."""
    with RtspServer("live", transport) as server, open_source(server.url) as opened:
        source: Any = opened
        ages, shapes = [], set()
        for _ in range(75):
            shapes.add(source.read().shape)
            ages.append(time.perf_counter() - source.position)
    assert source.rate == pytest.approx(30)
    assert shapes == {(240, 320, 3)}
    # Some of the first frames may be late on a busy machine, but not all of them.
    assert min(ages[:10]) - min(ages) < 0.5


@pytest.mark.parametrize("through", ["pyav"], indirect=True)
def test_a_stream_is_opened_before_its_first_picture():
    """PyAV reads the description alone, OpenCV some seconds of the stream."""
    with RtspServer("live", "tcp") as server:
        took = []
        for _ in range(3):
            source = open_source(server.url)
            begun = time.perf_counter()
            source.open()
            took.append(time.perf_counter() - begun)
            source.close()
    assert min(took) < 1


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_stream_of_a_stated_length_ends(clip, transport):
    told: list[str] = []
    with (
        RtspServer(clip(75), transport) as server,
        Capture(open_source(server.url), drop=False, notify=told.append) as capture,
    ):
        count = take(capture, lambda _: False)
        assert capture.source.frames_promised == 75
    assert 30 <= count <= 75  # of UDP packets, a busy machine loses some
    assert capture.counts.lost == 0
    assert told == []


def test_a_stream_of_a_stated_length_whose_server_dies_is_lost(clip):
    told: list[str] = []
    with (
        RtspServer(clip(1800), "tcp") as server,
        Capture(open_source(server.url), patience=1.5, notify=told.append) as capture,
    ):
        take(capture, lambda count: count > 5)
        server.kill()
        with pytest.raises(SourceLost, match="gives no frame"):
            take(capture, lambda _: False)
    assert capture.counts.lost == 1
    told = [line for line in told if "broken frame" not in line]
    assert len(told) == 1
    assert "trying again" in told[0]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_server_that_is_started_again(transport):
    told: list[str] = []
    with (
        RtspServer("live", transport) as server,
        Capture(open_source(server.url), patience=LONG, notify=told.append) as capture,
    ):
        take(capture, lambda count: count > 5)
        server.kill()
        take(capture, lambda _: "gives no frame; trying again" in "".join(told))
        server.start()
        take(capture, lambda _: "back after" in "".join(told))
        take(capture, lambda count: count > 5)
    assert capture.counts.lost == 1


def test_a_network_that_stalls_for_ten_seconds():
    told: list[str] = []
    with (
        RtspServer("live", "tcp") as server,
        Capture(open_source(server.url), patience=LONG, notify=told.append) as capture,
    ):
        take(capture, lambda count: count > 5)
        server.stall(True)
        timer = threading.Timer(10, server.stall, (False,))
        timer.start()
        take(capture, lambda _: "gives no frame; trying again" in "".join(told))
        assert timer.is_alive()  # noticed before the ten seconds are over
        take(capture, lambda _: "back after" in "".join(told))
        take(capture, lambda count: count > 5)
        timer.join()
    assert capture.counts.lost == 1


def test_a_server_that_does_not_answer_is_given_up():
    with RtspServer("live", "tcp") as server:
        server.stall(True)
        begun = time.perf_counter()
        with pytest.raises(BadInput, match="stream cannot be opened"):
            open_source(server.url).open()
        assert time.perf_counter() - begun < LONG
        server.stall(False)


@pytest.mark.parametrize(("login", "code"), [("viewer:wrong@", 4), ("", 4), ("viewer:right@", 0)])
def test_passwords(run, tmp_path, login, code):
    with RtspServer("live", "tcp", "viewer", "right") as server:
        address = server.url.replace("://", "://" + login)
        got, _out, err = run(
            "run", address, "--box", "10,10,100,100", "--max-frames", 3, "--no-window",
            "--json", tmp_path / "a.jsonl",
        )  # fmt: skip
    assert "wrong" not in err
    assert "right" not in err
    assert "Traceback" not in err
    if code:
        assert got == code
        assert len(err.strip().splitlines()) == 1
        assert "stream cannot be opened" in err
    else:
        assert got in (0, 4)  # 4: no face in the test picture
        assert (tmp_path / "a.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize("through", ["pyav"], indirect=True)  # in the process too
def test_four_cameras_in_one_process(tmp_path):
    """One of them dies; the others go on, and Ctrl-C finishes the files of all."""
    with RtspServer("live", "tcp") as server, RtspServer("live", "udp") as other:
        addresses = [server.url, other.url, other.url, other.url]
        process = start(
            *addresses, "--box", "10,10,100,100", "--json", "-", "--patience", 1,
            "--save", tmp_path / "a.mkv", "--summary", tmp_path / "s.json",
        )  # fmt: skip
        watchdog = threading.Timer(2 * LONG, process.kill)
        watchdog.start()
        try:
            seen = dict.fromkeys((1, 2, 3, 4), 0)

            def until(enough):
                while not enough():
                    line = json.loads(process.stdout.readline())
                    assert line["source"] == addresses[line["camera"] - 1]
                    seen[line["camera"]] += 1

            until(lambda: min(seen.values()) > 5)
            server.kill()
            told = ""
            dead = f"{server.url}: gives no frame; the other cameras continue"
            reader = threading.Thread(target=lambda: until(lambda: dead in told), daemon=True)
            reader.start()
            while dead not in told:
                line = process.stderr.readline()
                assert line, told
                told += line
            reader.join(LONG)
            before = dict(seen)
            until(lambda: min(seen[n] - before[n] for n in (2, 3, 4)) > 5)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=LONG)
        finally:
            watchdog.cancel()
    assert process.returncode == 4
    cameras = json.loads((tmp_path / "s.json").read_text())["cameras"]
    assert [camera["counts"]["lost"] for camera in cameras] == [1, 0, 0, 0]
    assert [bool(camera["failures"]) for camera in cameras] == [True, False, False, False]
    for number, camera in enumerate(cameras, 1):
        with open_source(str(tmp_path / f"a-{number}.mkv")) as video:
            assert len(list(video)) > 5
        assert camera["processed"] >= seen[number]
