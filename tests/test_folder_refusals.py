"""What a run over many pictures refuses or survives: other options, dead processes, full disks."""

import csv
import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from posgan_edge import system
from posgan_edge.cli import pictures as picture_run
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.faces.expression_basis import ARKIT_NAMES
from posgan_edge.geometry.landmarks import LANDMARK_NAMES
from posgan_edge.jobs.folder import run_folder
from posgan_edge.jobs.parquet import read_rows
from posgan_edge.live.loop import Drawing, Limits
from posgan_edge.live.sinks import (
    CsvSink,
    Done,
    ImagesSink,
    Journal,
    JsonLinesSink,
    MeshesSink,
    NpzSink,
    Outputs,
    Sink,
)  # fmt: skip
from posgan_edge.live.sources.pictures import expanded
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, read_lines
from tests.helpers.dying import FullCsvSink, Opening
from tests.helpers.there import there

BOX = ",".join(map(str, PORTRAIT_BOX))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Six pictures with a face, p0.jpg to p5.jpg, in a folder below the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index in range(6):
        (tmp_path / "photos" / f"p{index}.jpg").symlink_to(PORTRAIT)
    return tmp_path / "photos"


def over(pictures, opening, sinks, processes=2, **options):
    told: list[str] = []
    made: list[tuple[int, str]] = []
    summary = run_folder(
        pictures, processes, opening, sinks, Drawing(), options.pop("limits", Limits()),
        notify=told.append, on_picture=lambda _, one: made.append((one.index, one.problem)),
        **options,
    )  # fmt: skip
    return summary, made, told


def test_a_process_that_dies_is_one_line(photos):
    pictures = expanded("photos")
    sinks = [JsonLinesSink("a.jsonl"), ImagesSink("out", Outputs(pictures=pictures))]
    summary, made, told = over(pictures, Opening(("p1.jpg", "p4.jpg")), sinks)
    died = "the process that worked on it died (SIGKILL)"
    assert made == [(i, f"photos/p{i}.jpg: {died}" if i in (1, 4) else "") for i in range(6)]
    assert (summary.processed, summary.with_face, summary.failures, told) == (4, 4, [], [])
    assert [line["frame"] for line in read_lines(photos.parent / "a.jsonl")] == [0, 2, 3, 5]
    assert sorted(os.listdir("out")) == [f"p{i}.jpg" for i in (0, 2, 3, 5)]


@pytest.mark.parametrize(
    ("opening", "message"),
    [
        (Opening(refused="no network"), "no network"),
        (Opening(refused="die"), "a process for pictures died when it was started (SIGKILL)"),
        (Opening((".jpg",)), "3 processes died one after the other (SIGKILL)"),
    ],
)
def test_processes_that_cannot_work_end_the_run(photos, monkeypatch, opening, message):
    monkeypatch.setattr("posgan_edge.jobs.pool._MOST_DEATHS", 2)
    summary, _, told = over(expanded("photos"), opening, [JsonLinesSink("a.jsonl")])
    assert (summary.failures, told) == ([message], [])
    assert not [name for name in os.listdir() if "jsonl" in name]


def test_a_full_disk_stops_one_output_and_the_run_can_go_on(photos):
    pictures = expanded("photos")

    def sinks(journal, kind):
        outputs = Outputs(pictures=pictures, journal=journal, overwrite=False)
        made = [kind("a.csv", outputs), NpzSink("a.npz", outputs)]
        journal.begin(outputs.folders)
        return made

    run = {"pictures": 6}
    with Journal(photos.parent / "j", run) as journal:
        summary, made, told = over(
            pictures, Opening(), sinks(journal, FullCsvSink), journal=journal
        )
    assert len(made) == 6
    assert summary.failures == ["a.csv: No space left on device"]
    assert told == ["a.csv: No space left on device; the run continues without it"]
    assert len(Path("a.csv").read_text().splitlines()) == 1 + 3
    with np.load("a.npz") as arrays:
        assert len(arrays["frame"]) == 6
    with Journal(photos.parent / "j", run, resume=True) as journal:
        assert journal.done == Done(3, 3, 3)
        summary, made, told = over(pictures, Opening(), sinks(journal, CsvSink), journal=journal)
        journal.finish()
    assert ([index for index, _ in made], summary.failures, told) == ([3, 4, 5], [], [])
    assert len(Path("a.csv").read_text().splitlines()) == 1 + 6
    with np.load("a.npz") as arrays:
        assert arrays["frame"].tolist() == list(range(6))
        assert arrays["source"].tolist() == list(range(6))
        assert arrays["source_names"].tolist() == [f"photos/p{i}.jpg" for i in range(6)]
    assert sorted(os.listdir()) == ["a.csv", "a.npz", "photos"]


def test_files_of_faces_do_not_take_names_of_other_pictures(photos):
    """The faces of a picture are numbered; another picture may have just that name."""
    import pickle

    (photos / "p0-1.jpg").symlink_to(PORTRAIT)
    pictures = expanded("photos")
    sink = MeshesSink("out", Outputs(pictures=pictures))
    other = pickle.loads(pickle.dumps(sink))
    frame = type("F", (), {"index": 0})()
    for files in (sink.files, other.files):
        files.place(0, Path("out/p0.obj"))
        face = type("F", (), {"id": 1})()
        with pytest.raises(BadInput, match=r"p0-1\.obj: is a source or another output"):
            files.file(frame, face, alone=False)
        face.id = 2
        assert files.file(frame, face, alone=False).name == "p0-2.obj"


def files_here():
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--passes", "3"], "had --passes none, now 3: give the same (--overwrite replaces it)"),
        (["--csv", "a.csv"], "had --csv none, now a.csv"),
        (["photos/p0.jpg"], "had pictures 6, now 7"),
        (["--model", "edge-int8"], "had --model edge, now edge-int8"),
        (["--max-faces", "2"], "had --max-faces none, now 2"),
        (["--landmarks", "300w"], "had --landmarks aflw, now 300w"),
    ],
)
def test_another_run_is_not_resumed(photos, run, monkeypatch, given, message):
    words = ["run", "photos", "--box", BOX, "--json", "a.jsonl", "--processes", "1"]
    monkeypatch.setattr(Journal, "finish", lambda _: None)
    assert run(*words, "--max-frames", 2)[0] == 0
    before = files_here()
    code, out, err = run(*words, *given, "--resume")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: .a.jsonl.progress: the unfinished run {message}")
    assert err.count("\n") == 1
    assert files_here() == before
    monkeypatch.undo()
    monkeypatch.chdir(photos.parent)
    code, out, err = run(*words, *given, "--no-window", "--overwrite")
    assert (code, err) == (0, "")
    assert len(read_lines(photos.parent / "a.jsonl")) == 6 + (given == ["photos/p0.jpg"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: os.truncate("a.jsonl", 10), "a.jsonl: cannot be resumed: .a.jsonl.part has 10 "),
        (lambda: os.unlink("a.jsonl"), "a.jsonl: cannot be resumed: .a.jsonl.part has 0 of "),
        (lambda: Path(".a.jsonl.progress").write_text("{}\n[1, 1e999, 0]\n"),
         ".a.jsonl.progress: is no journal of a run: remove it"),
        (lambda: Path(".a.jsonl.progress").write_text("{}\n[-1, 0, 0]\n"),
         ".a.jsonl.progress: is no journal of a run: remove it"),
        (lambda: Path(".a.jsonl.progress").write_text("[" * 100_000 + "\n[1, 0, 0]\n"),
         ".a.jsonl.progress: is no journal of a run: remove it"),
        (lambda: Path(".a.jsonl.progress").write_text('hello\n[1,2,"x"]\n'),
         ".a.jsonl.progress: is no journal of a run: remove it"),
    ],
)  # fmt: skip
def test_a_run_that_was_spoilt_is_not_resumed(photos, run, monkeypatch, spoil, message):
    words = ["run", "photos", "--box", BOX, "--json", "a.jsonl", "--processes", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", lambda _: None)
        assert run(*words, "--max-frames", 2)[0] == 0
    spoil()
    code, out, err = run(*words, "--resume")
    assert (code, out) == (4, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_two_runs_do_not_write_the_same_files(photos, run):
    with open(".a.jsonl.progress", "a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for more in ([], ["--resume"], ["--overwrite"]):
            code, _, err = run("run", "photos", "--box", BOX, "--json", "a.jsonl", *more)
            assert (code, err) == (
                4, "error: .a.jsonl.progress: another run is writing there\n"
            )  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_an_output_that_is_there_is_kept(photos, run, more):
    (photos.parent / "a.csv").write_text("mine")
    code, out, err = run(
        "run", "photos", "--box", BOX, "--json", "a.jsonl", "--csv", "a.csv", *more
    )
    assert (code, out) == (2, "")
    assert err == "error: a.csv: already exists (--overwrite replaces it)\n"
    assert sorted(os.listdir()) == ["a.csv", "photos"]
    assert Path("a.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synthetic:", "--resume"], "--resume is for pictures"),
        (["synthetic:", "--processes", 2], "--processes is for pictures"),
        (["photos", "--resume", "--json", "-"], "--resume cannot continue standard output"),
        (
            ["photos", "--processes", 2, "--serve", 0],
            "--processes is for files alone, not",
        ),
        (["photos", "--processes", 0], "Invalid value for '--processes'"),
        (["photos", "--csv", "a.txt"], "a.txt: give a name that ends in .csv"),
    ],
)
def test_options_that_do_not_fit(photos, run, arguments, message):
    code, _, err = run("run", *arguments, "--box", BOX)
    assert code == 2
    assert message in err
    assert os.listdir() == ["photos"]


@pytest.mark.parametrize("processes", [1, 2])
def test_limits_are_exact(photos, run, processes):
    code, _, err = run(
        "run", "photos", "--box", BOX, "--save", "out", "--max-frames", 3, "--processes", processes
    )
    assert (code, err) == (0, "")
    assert sorted(os.listdir("out")) == ["p0.jpg", "p1.jpg", "p2.jpg"]


@pytest.mark.parametrize(
    ("cores", "pictures", "given", "portable", "on_gpu", "expected"),
    [
        (4, 63, None, True, False, 1),
        (4, 64, None, True, False, 2),
        (4, 10_000, None, True, False, 4),
        (4, 10_000, None, False, False, 1),
        (4, 10_000, None, True, True, 1),
        (4, 10_000, 3, True, True, 3),
        (4, 2, 3, True, False, 2),
    ],
)
def test_how_many_processes(monkeypatch, cores, pictures, given, portable, on_gpu, expected):
    monkeypatch.setattr(picture_run, "usable_cores", lambda: cores)
    network = type("N", (), {"processes": given})()
    engine = type("E", (), {"on_gpu": on_gpu})()
    sink = Sink()
    sink.portable = portable
    assert picture_run._processes(network, engine, [sink], pictures) == expected


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        (None, 4), ("max 100000", 4), ("250000 100000", 3), ("50000 100000", 1),
        ("800000 100000", 4), ("", 4),
    ],
)  # fmt: skip
def test_cores_are_those_that_may_be_used(monkeypatch, tmp_path, quota, cores):
    monkeypatch.setattr(system, "_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5, 7}, raising=False)
    assert system.usable_cores() == cores
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert system.usable_cores() == cores


def test_csv_has_what_json_has(photos, run):
    pytest.importorskip("pyarrow")
    name = os.fsdecode(b'b\xff,"x".jpg')
    (photos / name).symlink_to(PORTRAIT)
    code, _, err = run(
        "run", "photos", "--box", BOX, "--json", "a.jsonl", "--csv", "a.csv", "--blendshapes",
        "--parquet", "a.parquet",
    )  # fmt: skip
    assert (code, err) == (0, "")
    with open("a.csv", newline="", errors="surrogateescape") as stream:
        rows = list(csv.DictReader(stream))
    lines, stored = read_lines(photos.parent / "a.jsonl"), list(read_rows("a.parquet"))
    assert len(rows) == len(lines) == len(stored) == 7
    for row, line, found in zip(rows, lines, stored, strict=True):
        (face,) = line["faces"]
        assert row["source"] == line["source"]
        assert (int(row["frame"]), float(row["presence"])) == (line["frame"], face["presence"])
        assert [float(row[k]) for k in ("x", "y", "width", "height")] == face["box"]
        assert {k: float(row[k]) for k in ("pitch", "yaw", "roll")} == face["pose"]
        assert {k: float(row[f"{k}_openness"]) for k in face["openness"]} == face["openness"]
        for mark, point in zip(LANDMARK_NAMES, face["landmarks"], strict=True):
            assert [float(row[f"{mark}_{axis}"]) for axis in "xyz"] == point
        assert {k: float(row[k]) for k in ARKIT_NAMES} == face["blendshapes"]
        rounded = {k: round(v, 3) for k, v in there(found.face.blendshapes).items()}
        assert rounded == face["blendshapes"]
        assert found.face.expression is not None
    assert rows[0]["source"] == f"photos/{name}"


def test_a_bar_shows_pictures_per_second_and_the_time_left(photos):
    """On a terminal, with lines above it."""
    for index in range(6, 60):
        (photos / f"p{index:02d}.jpg").symlink_to(PORTRAIT)
    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "posgan_edge", "run", "photos", "--box", BOX, "--no-window"],
        stdout=subprocess.DEVNULL, stderr=other,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(other)
    shown, end = b"", time.monotonic() + 120
    while time.monotonic() < end and select.select([main], [], [], 60)[0]:
        try:
            shown += os.read(main, 4096)
        except OSError:  # the end of a terminal
            break
    os.close(main)
    assert process.wait(10) == 0
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert re.search(r"pictures .*\d+/60 \d+\.\d pictures a second 0:\d\d:\d\d left", plain), plain


def test_journal_of_a_network_that_changed(tmp_path):
    path = tmp_path / "j"
    with Journal(path, {"model file": "a"}) as journal:
        journal.begin([])
        journal.commit(Done(1, 1, 1))
    with pytest.raises(UsageError, match="had model file a, now b"):
        Journal(path, {"model file": "b"}, resume=True)
