import os
import signal
import sys

import pytest

from posgan_edge.cli import main
from tests.helpers.browser import CHROMIUM, Browser

# FFmpeg in OpenCV reads this once in a process. Tests that use OpenCV themselves may come before
# the package sets it.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@pytest.fixture(autouse=True)
def _handlers_of_signals():
    """Each test begins with Python's own handlers, and leaves those that it found."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(monkeypatch, capfd):
    """Runs the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["posgan-edge", *map(str, arguments)])
        # The command line sets handlers that end the process; a later test may raise a signal.
        before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as exit_:
                main()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    made = Browser(tmp_path / "profile")
    yield made
    made.close()
