"""RTSP streams of a real server (GStreamer's): both transports, and everything that breaks them."""

import time

import pytest

from posgan_edge.live.capture import Capture
from posgan_edge.live.sources import SourceLost, open_source
from tests.helpers.rtsp import RtspServer, need_gstreamer, write_mp4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _gstreamer():
    need_gstreamer()


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


def take(capture, seconds, enough=lambda: False):
    """The frames of so many seconds."""
    frames, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end and not capture.ended and not enough():
        if (frame := capture.take(0.2)) is not None:
            frames.append(frame)
    return frames


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_live_stream_comes_at_its_rate_and_has_no_old_frames(transport):
    """While a stream is opened, about a second of it is kept; that second is left out."""
    with RtspServer("live", transport) as server, open_source(server.url) as source:
        start = time.perf_counter()
        images = []
        while time.perf_counter() < start + 1.5:
            images.append(source.read())
    assert source.rate == pytest.approx(30)
    assert {image.shape for image in images} == {(240, 320, 3)}
    assert 25 <= len(images) <= 60  # with the second that was kept: about 75


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_stream_of_a_stated_length_ends(clip, transport):
    told: list[str] = []
    with (
        RtspServer(clip(75), transport) as server,
        Capture(open_source(server.url), drop=False, notify=told.append) as capture,
    ):
        frames = list(capture)
        assert capture.source.frames_promised == 75
    assert 40 <= len(frames) <= 75
    assert capture.counts.lost == 0
    assert told == []


def test_a_stream_of_a_stated_length_whose_server_dies_is_lost(clip):
    told: list[str] = []
    with (
        RtspServer(clip(600), "tcp") as server,
        Capture(open_source(server.url), patience=1.5, notify=told.append) as capture,
    ):
        assert take(capture, 1.0)
        server.kill()
        with pytest.raises(SourceLost, match="gives no frame"):
            take(capture, 15)
    assert capture.counts.lost == 1
    assert len(told) == 1
    assert "trying again" in told[0]


def test_a_server_that_is_started_again():
    told: list[str] = []
    with (
        RtspServer("live", "tcp") as server,
        Capture(open_source(server.url), notify=told.append) as capture,
    ):
        assert take(capture, 1.0)
        server.kill()
        take(capture, 8, lambda: bool(told))
        server.start()
        take(capture, 15, lambda: len(told) > 1)
        assert take(capture, 1.0)
    assert capture.counts.lost == 1
    assert "gives no frame; trying again" in told[0]
    assert "back after" in told[1]


def test_a_stream_that_stalls_is_opened_again():
    told: list[str] = []
    with (
        RtspServer("live", "tcp") as server,
        Capture(open_source(server.url), notify=told.append) as capture,
    ):
        assert take(capture, 1.0)
        server.stall(True)
        start = time.perf_counter()
        take(capture, 15, lambda: bool(told))
        noticed = time.perf_counter() - start
        server.stall(False)
        take(capture, 20, lambda: len(told) > 1)
        assert take(capture, 1.0)
    assert noticed < 6
    assert capture.counts.lost == 1
    assert "back after" in told[1]


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
