"""The study of runs over a folder, on few pictures."""

import subprocess
import sys
from pathlib import Path

import pytest

from posgan_edge.documents import load
from posgan_edge.evaluation.folder import Folder
from tests.helpers.data import PORTRAIT
from tests.helpers.there import there

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "folder.py"


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
        (method, n, 3, 3) for n in (1, 2) for method in ("posgan-edge", "FaceMesh")
    ]
    assert all(r.faces_per_second == pytest.approx(3 / r.seconds[0]) for r in record.rates)
    memory = there(record.memory)
    assert (record.photos, record.rounds, memory.pictures) == (2, 1, 4)
    assert 50 < memory.peak_mb < 4000
    assert max(memory.peak_mb_by_tenth) == memory.peak_mb
