"""Starting and ending a real RTSP server (``rtsp_server.py``) in a test."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

_PYTHON = "/usr/bin/python3"
_NEEDED = ("openh264enc", "h264parse", "rtph264pay", "qtdemux", "mp4mux", "videotestsrc")


def need_gstreamer() -> None:
    """Skips the test where GStreamer's RTSP server, or an element for it, is not installed."""
    if not Path(_PYTHON).exists():
        pytest.skip(f"no {_PYTHON}")
    lines = "; ".join(
        [
            "import gi",
            "gi.require_version('GstRtspServer', '1.0')",
            "from gi.repository import Gst, GstRtspServer",
            "Gst.init(None)",
            f"print(*[n for n in {_NEEDED} if not Gst.ElementFactory.find(n)])",
        ]
    )
    tried = subprocess.run([_PYTHON, "-c", lines], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"GStreamer's RTSP server: {tried.stderr.strip().splitlines()[-1]}")
    if tried.stdout.strip():
        pytest.skip(f"GStreamer has no {tried.stdout.strip()}")


def write_mp4(path: Path, frames: int) -> None:
    """An H.264 video of 320 x 240, 30 frames a second."""
    lines = (
        f"videotestsrc num-buffers={frames} pattern=ball ! video/x-raw,width=320,height=240,"
        "framerate=30/1,format=I420 ! openh264enc gop-size=15 ! h264parse ! mp4mux ! "
        f"filesink location={path}"
    )
    code = "import gi, sys; gi.require_version('Gst', '1.0'); from gi.repository import Gst\n"
    code += "Gst.init(None); p = Gst.parse_launch(sys.argv[1]); p.set_state(Gst.State.PLAYING)\n"
    code += "p.get_bus().timed_pop_filtered(10 * Gst.SECOND, Gst.MessageType.EOS)\n"
    code += "p.set_state(Gst.State.NULL)"
    subprocess.run([_PYTHON, "-c", code, lines], check=True, capture_output=True, timeout=30)


class RtspServer:
    """A server process; ``url`` is its stream. See ``rtsp_server.py`` for ``what``."""

    def __init__(self, what: str | Path = "live", transport: str = "udp", *login: str) -> None:
        self._arguments = [str(what), "0", transport, *login]
        self.url = ""
        self.start()

    def start(self) -> None:
        """Starts the server, again at the same port if it ran before."""
        script = str(Path(__file__).with_name("rtsp_server.py"))
        self._process = subprocess.Popen(
            [_PYTHON, script, *self._arguments],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 15)
        self.url = self._process.stdout.readline().strip() if ready else ""
        if not self.url:
            self.kill()
            raise AssertionError("the RTSP server did not start")
        self._arguments[1] = self.url.split(":")[2].split("/")[0]

    def stall(self, stalled: bool) -> None:
        """Stops the process where it is, or lets it go on."""
        os.kill(self._process.pid, signal.SIGSTOP if stalled else signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
