"""Standard streams that are closed, full, or hang."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.commands import BOX
from tests.faults.readers import check_whole
from tests.helpers.data import PORTRAIT

PICTURE = f"run {PORTRAIT} --box {BOX} --no-window"
LIVE = "run synthetic:?width=320&height=320 --box 90,60,120,120 --no-window"


def shell(line, folder):
    """Runs a line of bash in a folder; ``edge`` stands for the program."""
    line = line.replace("edge ", f"'{sys.executable}' -m posgan_edge ", 1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("edge doctor >&-", 0, ""),
        ("edge doctor > /dev/full", 4, "standard output: No space left on device"),
        ("edge doctor 2>&- > out.txt", 0, ""),
        ("edge doctor | head -1 > out.txt; exit ${PIPESTATUS[0]}", 141, ""),
        (f"edge {PICTURE} --json - >&-", 4, "-: standard output is closed"),
        (f"edge {PICTURE} --json - > /dev/full", 4, "-: No space left on device"),
        ("edge run - --size 64x64 --no-window <&-", 4, "-: standard input is closed"),
        ("edge inspect none.onnx 2> /dev/full", 4, None),
        ("edge inspect none.onnx 2>&-", 4, None),
    ],
)
def test_closed_and_full(line, code, message, tmp_path):
    ended = shell(line, tmp_path)
    assert ended.returncode == code, ended
    assert "Exception ignored" not in ended.stderr
    assert "Traceback" not in ended.stderr
    errors = [text for text in ended.stderr.splitlines() if text.startswith("error: ")]
    assert errors == ([f"error: {message}"] if message else [])


@pytest.mark.slow
def test_messages_of_libraries_do_not_run_into_files(tmp_path):
    """With the standard streams closed, the next files opened would take their numbers."""
    pytest.importorskip("mediapipe")
    ended = shell(
        f"edge run {PORTRAIT} --no-window --json a.jsonl --npz a.npz --save a.png <&- >&- 2>&-",
        tmp_path,
    )
    assert ended.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "a.npz", "a.png"]
    for path in tmp_path.iterdir():
        check_whole(path)


def start(line, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "posgan_edge", *line.split()], stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_reader_that_hangs_does_not_keep_a_stopped_run(number, tmp_path):
    process = start(f"{LIVE} --json - --npz {tmp_path}/a.npz", stdout=subprocess.PIPE)
    for _ in range(3):
        json.loads(process.stdout.readline())
    time.sleep(2)  # the pipe is full now
    sent = time.monotonic()
    process.send_signal(number)
    code, err = process.wait(60), process.stderr.read()
    assert time.monotonic() - sent < 40
    assert code == 4, err
    assert "error: -: takes nothing for 5 s: given up" in err
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    check_whole(tmp_path / "a.npz")
    process.stdout.close()
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_input_that_hangs_does_not_keep_a_stopped_run(number, code):
    process = start("run - --size 64x64 --no-window --json -", stdin=subprocess.PIPE)
    for line in process.stderr:
        if "no frame for 2 s" in line:
            break
    process.send_signal(number)
    assert process.wait(60) == code, process.stderr.read()
    assert "Fatal" not in process.stderr.read()
    process.stdin.close()
    process.stderr.close()
