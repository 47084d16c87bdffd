"""Runs over many pictures: interrupted and resumed, and in several processes."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from posgan_edge.jobs.parquet import read_rows
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, read_lines
from tests.helpers.there import there

BOX = ",".join(map(str, PORTRAIT_BOX))
COUNT = 16
#: Every kind of output, in a folder.
OUTPUTS = (
    "--json", "a.jsonl", "--csv", "a.csv", "--npz", "a.npz", "--parquet", "a.parquet",
    "--save", "drawn", "--mesh", "meshes", "--depth", "depth", "--mask", "mask",
    "--texture", "texture", "--blendshapes",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of one face each, all different; one of them is none."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("source") / "photos"
    folder.mkdir()
    image = cv2.imread(str(PORTRAIT))
    for index in range(COUNT):
        shift = np.array([[1, 0, index / 4], [0, 1, 0]], np.float32)
        moved = cv2.warpAffine(image, shift, (512, 512))
        cv2.imwrite(str(folder / f"p{index:02d}.png"), moved)
    (folder / "p05.png").write_bytes(b"broken")
    return folder


def command(photos, *more):
    return [
        sys.executable, "-m", "posgan_edge", "run", photos, "--box", BOX, "--no-window",
        *OUTPUTS, *more,
    ]  # fmt: skip


def done_in(folder, *words):
    return subprocess.run(
        list(map(str, words)), cwd=folder, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """What one run without interruption writes."""
    folder = tmp_path_factory.mktemp("whole")
    done = done_in(folder, *command(photos, "--processes", 1))
    assert done.returncode == 4
    assert done.stderr.endswith(f"error: 1 of {COUNT} pictures failed\n")
    return folder


def records(folder):
    lines = read_lines(folder / "a.jsonl")
    for line in lines:
        for face in line["faces"]:
            del face["timings_ms"]
    return lines


def assert_same(found, expected):
    """Both folders hold the same files; records are equal but for the times that were taken."""
    names = [sorted(str(p.relative_to(f)) for f_ in [f] for p in f_.rglob("*") if p.is_file())
             for f in (found, expected)]  # fmt: skip
    assert names[0] == names[1]
    for name in names[0]:
        if name not in ("a.jsonl", "a.npz", "a.parquet"):
            assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    assert records(found) == records(expected)
    with np.load(found / "a.npz") as a, np.load(expected / "a.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    rows = [list(read_rows(folder / "a.parquet")) for folder in (found, expected)]
    assert len(rows[0]) == len(rows[1]) == COUNT - 1
    for a, b in zip(*rows, strict=True):
        assert (a.source, a.frame, a.face.box) == (b.source, b.frame, b.face.box)
        np.testing.assert_array_equal(a.face.landmarks, b.face.landmarks)
        np.testing.assert_array_equal(a.face.expression, b.face.expression)
        np.testing.assert_array_equal(a.face.dense_map.xyz, b.face.dense_map.xyz)


def done_pictures(journal):
    """How many pictures a journal says are done."""
    try:
        lines = journal.read_bytes().split(b"\n")[:-1]
    except OSError:
        return 0
    return max((json.loads(line)[0] for line in lines if line.startswith(b"[")), default=0)


def processes_of(folder):
    """The processes that a journal names."""
    lines = (folder / ".a.jsonl.progress").read_bytes().splitlines()
    return {json.loads(line)["process"] for line in lines if line.startswith(b'{"process"')}


def gone(number, seconds=60):
    """Whether a process ends in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def interrupted(folder, words, number, after=3):
    """Runs until some pictures are done, and sends a signal then."""
    process = subprocess.Popen(
        list(map(str, words)), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while done_pictures(folder / ".a.jsonl.progress") < after:
        assert process.poll() is None, there(process.stderr).read()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(number)
    err = process.communicate(timeout=120)[1]
    assert done_pictures(folder / ".a.jsonl.progress") < COUNT, "it was interrupted too late"
    return process.returncode, err


def test_processes_write_what_one_writes(photos, whole, tmp_path):
    done = done_in(tmp_path, *command(photos, "--processes", 2, "--summary", "s.json"))
    assert done.returncode == 4
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: {photos}/p05.png: is not a picture that can be decoded",
        f"error: 1 of {COUNT} pictures failed",
    ]
    names = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert names == [f"{photos}/p{i:02d}.png" for i in range(COUNT) if i != 5]
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["processed"], summary["with_face"]) == (COUNT - 1, COUNT - 1)
    assert {"track", "network", "draw", "to a.jsonl", "to meshes"} <= set(summary["stages"])
    (tmp_path / "s.json").unlink()
    assert_same(tmp_path, whole)


@pytest.mark.parametrize(
    ("processes", "number", "code"),
    [
        (1, signal.SIGINT, 130),
        (2, signal.SIGINT, 130),
        (2, signal.SIGTERM, 143),
        (1, signal.SIGKILL, -signal.SIGKILL),
        (2, signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_an_interrupted_run_goes_on(photos, whole, tmp_path, processes, number, code):
    words = command(photos, "--processes", processes)
    found, err = interrupted(tmp_path, words, number)
    assert found == code, err
    for noted in processes_of(tmp_path):
        assert gone(noted), f"process {noted} goes on"
    before = done_pictures(tmp_path / ".a.jsonl.progress")
    if number != signal.SIGKILL:
        # What is done can be used.
        lines = read_lines(tmp_path / "a.jsonl")
        assert [line["frame"] for line in lines] == [i for i in range(before) if i != 5]
        with np.load(tmp_path / "a.npz") as arrays:
            assert len(arrays["frame"]) == len(lines)
        assert len(list(read_rows(tmp_path / "a.parquet"))) == len(lines)
        assert len((tmp_path / "a.csv").read_text().splitlines()) == len(lines) + 1
    # Without --resume or --overwrite nothing happens.
    refused = done_in(tmp_path, *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: .a.jsonl.progress: an unfinished run is there (--resume continues it, "
        "--overwrite replaces it)\n"
    )
    resumed = done_in(tmp_path, *words, "--resume")
    assert resumed.returncode == 4, resumed.stderr
    assert f"note: {before} of {COUNT} pictures are done" in resumed.stderr
    assert resumed.stderr.endswith(f"error: 1 of {COUNT} pictures failed\n")
    assert len(resumed.stdout.splitlines()) == len([i for i in range(before, COUNT) if i != 5])
    assert_same(tmp_path, whole)


def test_a_run_that_is_killed_again_and_again_comes_to_its_end(photos, whole, tmp_path):
    words = command(photos, "--processes", 2, "--resume")
    for after in (2, 7, 11):
        interrupted(tmp_path, words, signal.SIGKILL, after)
    assert done_in(tmp_path, *words).returncode == 4
    assert_same(tmp_path, whole)


def test_what_a_kill_leaves_half_written_is_cured(photos, whole, tmp_path):
    words = command(photos, "--processes", 1)
    interrupted(tmp_path, words, signal.SIGKILL, 7)
    journal = tmp_path / ".a.jsonl.progress"
    before = done_pictures(journal)
    (number,) = processes_of(tmp_path)
    with open(journal, "ab") as stream:
        stream.write(b"[15, 14")
    for name in (".a.jsonl.part", ".a.csv.part", ".a.npz.part.rows", ".a.parquet.part.rows"):
        with open(tmp_path / name, "ab") as stream:
            stream.write(b'{"half')
    (tmp_path / "drawn" / f"p{before:02d}.png").write_bytes(b"half")
    for name in (f"drawn/.p09.{number}.part.png", f"meshes/.p09_uv.{number}.part.png",
                 f".a.{number}.part.npz"):  # fmt: skip
        (tmp_path / name).write_bytes(b"half")
    foreign = tmp_path / "drawn" / f".p09.{number + 1}.part.png"
    foreign.write_bytes(b"of another program")
    assert done_in(tmp_path, *words, "--resume").returncode == 4
    assert foreign.read_bytes() == b"of another program"
    foreign.unlink()
    assert_same(tmp_path, whole)


def test_ctrl_c_while_processes_start(photos, tmp_path):
    """It goes to all processes of a terminal, which are not yet ready to ignore it."""
    process = subprocess.Popen(
        list(map(str, command(photos, "--processes", 2))), cwd=tmp_path, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    journal, end = tmp_path / ".a.jsonl.progress", time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b'{"process"') < 3:
        assert process.poll() is None, there(process.stderr).read()
        assert time.monotonic() < end
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 130, err
    assert err.strip() == "interrupted: files that were open are finished"
