"""The studies of many pictures and of a server, on few pictures, and their tables."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posgan_edge.documents import load, save
from posgan_edge.evaluation.folder import Folder, Memory, PictureCosts, Rate
from posgan_edge.evaluation.latency import Latency
from posgan_edge.evaluation.serving import WAYS, Served
from tests.helpers.data import PORTRAIT
from tests.helpers.there import there
from tests.helpers.triton import server_files

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "folder.py"


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="no /proc/PID/smaps_rollup"
)
def test_the_study_counts_the_same_faces_in_each_run(tmp_path):
    pytest.importorskip("mediapipe")
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).symlink_to(PORTRAIT)
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "photos", "--pictures", "3", "--processes", "1", "2",
         "--rounds", "1", "--memory", "4", "--json", tmp_path / "folder.json"],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    record = load(tmp_path / "folder.json", Folder)
    assert [(r.method, r.processes, r.pictures, r.faces) for r in record.rates] == [
        (method, n, 3, 3)
        for n in (1, 2)
        for method in ("posgan-edge", "FaceMesh", "posgan-edge, one face", "FaceMesh, one face")
    ]
    assert all(r.faces_per_second == pytest.approx(3 / r.seconds[0]) for r in record.rates)
    memory = there(record.memory)
    assert (record.photos, record.rounds, memory.pictures) == (2, 1, 4)
    assert 50 < memory.peak_mb < 4000
    assert max(memory.peak_mb_by_tenth) == memory.peak_mb


def study(script, *arguments):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, arguments)],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def tables(monkeypatch):
    """The sections of the documents that are made of these records."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scale_figures

    return scale_figures


def test_the_stages_of_a_picture_are_timed(tmp_path, monkeypatch, tables):
    pytest.importorskip("mediapipe")
    pytest.importorskip("pyarrow")
    (tmp_path / "photos").mkdir()
    for index in range(9):
        shutil.copy(PORTRAIT, tmp_path / "photos" / f"{index}.jpg")
    study("pictures.py", tmp_path / "photos", "--rounds", 1, "--json", tmp_path / "pictures.json")
    record = load(tmp_path / "pictures.json", PictureCosts)
    assert [(k.name, k.pictures, k.faces) for k in record.kinds] == [
        ("as it is", 9, 1), ("enlarged", 9, 1), ("nine in one", 1, 9),
    ]  # fmt: skip
    assert [k.megapixels for k in record.kinds] == pytest.approx([0.262144, 0.81, 0.81])
    one, _, nine = record.kinds
    for kind in record.kinds:
        assert min(kind.decode_ms, kind.detect_ms, kind.read_ms, kind.rows_ms) > 0
    # Tiles are searched too, and nine faces are read.
    assert nine.detect_ms > one.detect_ms
    assert nine.read_ms > 2 * one.read_ms
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    text = tables.pictures()
    assert f"| {nine.detect_ms:.1f} |" in text
    sums = tables.billion()
    parts = record.kinds[1]
    whole = parts.decode_ms + parts.detect_ms + parts.read_ms + parts.rows_ms
    assert f"| {whole:.1f} ms |" in sums
    assert f"| {1e9 * whole / 3.6e6:,.0f} core-hours |" in sums


def test_a_server_is_timed_both_ways(tmp_path, monkeypatch, tables):
    pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    server_files()
    few = ("--batches", 1, 3, "--clients", 1, 2, "--rounds", 2, "--requests", 4)
    study("serving.py", *few, "--json", tmp_path / "serving.json")
    record = load(tmp_path / "serving.json", Served)
    assert record.server.startswith("Triton 2.")
    assert {size: list(ms) for size, ms in record.latency_ms.items()} == {
        "1": list(WAYS), "3": list(WAYS),
    }  # fmt: skip
    assert all(ms.n == 2 and ms.median > 0 for r in record.latency_ms.values() for ms in r.values())
    assert list(record.requests_per_second) == ["1", "2"]
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    text = tables.served()
    rate = record.requests_per_second["2"]
    assert (
        f"| requests of one picture a second, 2 clients | {rate[WAYS[0]]:.0f} | {rate[WAYS[1]]:.0f}"
    ) in text


def test_tables_of_records(tmp_path, monkeypatch, tables):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.folder() == tables.served() == "Not measured on an idle machine yet.\n"
    machine = {"cpu": "AMD EPYC", "cores": 2}
    rates = [
        Rate(name, n, 400, faces, [10.0 / n], n * faces / 10, n * 40.0)
        for n in (1, 2)
        for name, faces in (("posgan-edge", 410), ("FaceMesh", 380))
    ]
    peaks = [100.0, 300.4, *8 * [310.0]]
    save(
        tmp_path / "folder.json",
        Folder(machine, 1000, 3, rates, Memory(10_000, 2, 150.2, 310.0, peaks)),
    )
    text = tables.folder()
    head = "|  | faces found | faces a second, 1 process | faces a second, 2 processes |"
    assert head in text
    assert "| posgan-edge, up to 16 faces | 410 | 41 | 82 |" in text
    assert "| MediaPipe FaceMesh, up to 16 faces | 380 | 38 | 76 |" in text
    assert "400 photos of AFLW2000-3D on 2 cores of an AMD EPYC,\n3 runs of each in turns." in text
    assert "Memory over 10,000 pictures" in text
    assert "150 s: 100, 300, 310, 310" in text
    ms = Latency.of(np.arange(1.0, 12.0))
    both = dict.fromkeys(WAYS, ms)
    save(
        tmp_path / "serving.json",
        Served(machine, "Triton 2.51.0", {"1": both}, {"8": dict.fromkeys(WAYS, 123.4)}),
    )
    text = tables.served()
    assert "| latency, 1 picture in a request, ms (p90) | 6.0 (10.0) | 6.0 (10.0) |" in text
    assert "| requests of one picture a second, 8 clients | 123 | 123 |" in text
