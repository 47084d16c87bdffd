"""Videos: H.264 where PyAV is installed, and what is written without it."""

import struct
import sys
from typing import Any

import cv2
import numpy as np
import pytest

from posgan_edge import Frame
from posgan_edge.live.sinks import Result, VideoSink
from tests.helpers.browser import CHROMIUM, Browser

FACE, BOX = "synthetic:?width=320&height=320&roll=0&sway=0&zoom=0", "90,60,120,120"


def ramp(number, width=64, height=48):
    """A picture whose grey level says which one it is."""
    return np.full((height, width, 3), 40 + 5 * (number % 40), np.uint8)


def write(sink, count, width=64, height=48):
    for n in range(count):
        image = ramp(n, width, height)
        sink.write(Result(Frame(image, n, n / 30), [], image))


def read(path):
    """Codec, number of frames in the header, and the mean of each frame."""
    video, means = cv2.VideoCapture(str(path)), []
    while (got := video.read())[0]:
        means.append(float(got[1].mean()))
    codec = int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode()
    return codec, int(video.get(cv2.CAP_PROP_FRAME_COUNT)), means


def boxes(path):
    """The names of an MP4 file's outermost boxes."""
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        names.append(name.decode())
        assert size != 0
        at += struct.unpack_from(">Q", data, at + 8)[0] if size == 1 else size
    return names


@pytest.fixture
def without_av(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_h264_with_pyav(tmp_path, suffix):
    pytest.importorskip("av")
    with VideoSink(tmp_path / f"a{suffix}", 30.0) as sink:
        write(sink, 40)
    assert sink.note == ""
    codec, promised, means = read(tmp_path / f"a{suffix}")
    assert codec == "h264"
    assert len(means) == promised == sink.frames == 40
    assert means == pytest.approx([ramp(n).mean() for n in range(40)], abs=5)
    assert means == sorted(means)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


def test_a_finished_mp4_has_one_index(tmp_path):
    """Players seek by it; while it is written, the file is in fragments."""
    pytest.importorskip("av")
    sink = VideoSink(tmp_path / "a.mp4", 10.0)
    write(sink, 35)
    assert {"ftyp", "moov", "moof", "mdat"} <= set(boxes(sink.temporary))
    sink.close()
    assert sorted(boxes(tmp_path / "a.mp4")) == ["free", "ftyp", "mdat", "moov"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_was_written_plays_while_the_rest_is_written(tmp_path, suffix):
    pytest.importorskip("av")
    sink = VideoSink(tmp_path / f"a{suffix}", 10.0)
    write(sink, 35)
    copy = tmp_path / f"copy{suffix}"
    copy.write_bytes(sink.temporary.read_bytes())
    assert len(read(copy)[2]) >= 20  # all but the last second
    sink.close()


@pytest.mark.slow
def test_a_browser_plays_it(tmp_path):
    """A finished file, and what is left of one that was killed."""
    pytest.importorskip("av")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    sink = VideoSink(tmp_path / "a.mp4", 10.0)
    write(sink, 35, 320, 240)
    (tmp_path / "cut.mp4").write_bytes(sink.temporary.read_bytes())
    sink.close()
    browser = Browser(tmp_path / "profile")
    try:
        for name, seconds in (("a.mp4", 3.5), ("cut.mp4", 2.0)):
            browser.open((tmp_path / name).as_uri())
            browser.until(f"location.pathname.endsWith('/{name}')", 60)
            browser.until("document.querySelector('video')?.videoWidth === 320", 60)
            browser.until(
                "(async () => { const v = document.querySelector('video'); v.muted = true; "
                f"await v.play(); return v.currentTime > 0.5 && v.duration >= {seconds}; }})()", 60
            )  # fmt: skip
    finally:
        browser.close()


@pytest.mark.parametrize(("width", "height"), [(65, 49), (64, 49), (65, 48), (17, 17)])
def test_an_odd_size_loses_a_row_or_a_column(tmp_path, width, height):
    pytest.importorskip("av")
    with VideoSink(tmp_path / "a.mp4", 30.0) as sink:
        write(sink, 5, width, height)
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == width // 2 * 2
    assert video.get(cv2.CAP_PROP_FRAME_HEIGHT) == height // 2 * 2
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5


def test_a_disk_that_fills_up_leaves_what_was_written(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    sink = VideoSink(tmp_path / "a.mp4", 10.0)
    write(sink, 35)

    class Full:
        """Stands for the container of a file on a full disk."""

        def __init__(self, container):
            self.container = container

        def mux(self, _):
            raise av.error.FFmpegError(28, "No space left on device")

        def close(self):
            raise av.error.FFmpegError(28, "No space left on device")

    writer: Any = sink._writer
    writer._container = Full(writer._container)
    with pytest.raises(OSError, match="No space left") as raised:
        write(sink, 1)
    assert raised.value.errno == 28
    sink.close()
    assert len(read(tmp_path / "a.mp4")[2]) >= 20


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_without_pyav_a_line_says_what_browsers_play(run, tmp_path, without_av, suffix):
    code, _, err = run(
        "run", FACE, "--box", BOX, "--max-frames", 3, "--save", tmp_path / f"a{suffix}"
    )
    assert code == 0
    assert err.splitlines()[0] == (
        f"note: {tmp_path}/a{suffix}: is MPEG-4 part 2, which browsers do not play; for H.264: "
        "pip install 'posgan-edge[video]'"
    )
    codec, _, means = read(tmp_path / f"a{suffix}")
    assert (codec, len(means)) == ("FMP4", 3)


def test_motion_jpeg_needs_no_word(tmp_path, without_av):
    with VideoSink(tmp_path / "a.avi", 30.0) as sink:
        write(sink, 3)
    assert sink.note == ""
    assert read(tmp_path / "a.avi")[0] == "MJPG"
