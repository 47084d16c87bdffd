"""A package for cameras reports to nobody: no look-up, no connection, no identity on disk."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.data import PORTRAIT, PORTRAIT_BOX

BOX = ",".join(map(str, PORTRAIT_BOX))


def command(*arguments):
    script = f"import sys; sys.argv = {['posgan-edge', *map(str, arguments)]!r}\n"
    return script + "from posgan_edge.cli import main; main()"


def traced(script, folder, **variables):
    """(standard error, internet sockets) of a script in a home of its own, seen by strace."""
    home = folder / "home"
    home.mkdir()
    unset = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME")
    env = {k: v for k, v in os.environ.items() if k not in unset}
    env |= {"HOME": str(home), **variables}
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", folder / "trace", "-e", "trace=%network",
         sys.executable, "-c", script],
        env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    calls = (folder / "trace").read_text().splitlines()
    return done.stderr, [line for line in calls if re.search("AF_INET|nscd|resolve", line)]


@pytest.fixture(autouse=True)
def _strace(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run(["strace", "-o", tmp_path / "probe", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("strace may not trace processes here")


def test_strace_sees_a_look_up(tmp_path):
    script = "import socket\ntry: socket.getaddrinfo('name.invalid', 80)\nexcept OSError: pass"
    assert traced(script, tmp_path)[1]


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_picture_is_read_without_a_look_up(tmp_path, provider):
    if provider == "openvino":
        pytest.importorskip("openvino")
    # ONNX Runtime's first report comes some seconds after a model is loaded.
    script = "import atexit, time; atexit.register(time.sleep, 12)\n" + command(
        "run", PORTRAIT, "--box", BOX, "--no-window", "--provider", provider,
        "--save", tmp_path / "face.png",
    )  # fmt: skip
    _, sockets = traced(script, tmp_path)
    assert sockets == []
    assert (tmp_path / "face.png").is_file()
    assert [p for p in (tmp_path / "home").rglob("*") if p.is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--video", "synthetic:", "--max-frames", "20", "--no-window"],
        ["build-engine", "--precision", "fp16", "--output", "edge.onnx"],
    ],
    ids=lambda a: a[0],
)
def test_a_video_and_a_build_make_no_look_up(tmp_path, monkeypatch, arguments):
    if arguments[0] == "run":
        pytest.importorskip("mediapipe")
    monkeypatch.chdir(tmp_path)
    _, sockets = traced(command(*arguments), tmp_path)
    assert sockets == []
    left = [p.name for p in (tmp_path / "home").rglob("*") if p.is_file()]
    assert not [name for name in left if "onnxruntime" in name or "device" in name]


def test_the_users_own_setting_is_kept():
    script = "import os, posgan_edge; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for given, found in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | given
        done = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True
        )
        assert done.stdout.strip() == found, done.stderr


def test_no_program_of_ours_imports_onnxruntime_before_the_package():
    """The setting is read when ``onnxruntime`` is imported."""
    root = Path(__file__).parents[1]
    files = [p for folder in ("posgan_edge", "benchmarks", "examples")
             for p in (root / folder).rglob("*.py")]  # fmt: skip
    assert len(files) > 100
    early = [
        str(path.relative_to(root))
        for path in files
        if re.search(r"^(import|from) (onnxruntime|openvino)", path.read_text(), re.MULTILINE)
    ]
    assert early == []
