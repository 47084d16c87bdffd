"""benchmarks/peers.py: its figures against hand-computed ones, and a run on a small set."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.data import write_aflw2000, write_human_npz

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peer_tables

    return peer_tables


def face(degrees=0.0, size=1.0):
    """Points (68, 2) in a box of 100 x 100, level eyes, turned clockwise and scaled."""
    points = np.column_stack([np.linspace(0, 100, 68), np.linspace(0, 100, 68)])
    points[36:42, 1] = points[42:48, 1] = 40
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[c, s], [-s, c]]) * size


def test_a_constant_offset_of_the_points_is_no_error(figures):
    offset = np.random.default_rng(0).normal(0, 3, (68, 2))
    pairs = []
    for size in (1.0, 0.2, 4.0):
        truth = face(size=size)
        pairs.append((truth + size * offset, truth))
    assert figures.without_bias(pairs) == pytest.approx(np.zeros((3, 68)), abs=1e-9)


def test_the_offset_turns_with_the_eyes(figures):
    """Four pixels along the line of the eyes, of a face that is level and of one on its side."""
    pairs = [
        (np.add(face(), (4, 0)), face()),
        (np.add(face(90), (0, 4)), face(90)),
    ]
    assert figures.without_bias(pairs) == pytest.approx(np.zeros((2, 68)), abs=1e-9)
    # The same way on the screen is another way in the face: the mean is (2, -2), (2, 2) away.
    pairs[1] = (np.add(face(90), (4, 0)), face(90))
    assert figures.without_bias(pairs) == pytest.approx(np.full((2, 68), np.sqrt(8)))


def test_what_varies_remains(figures):
    pairs = [(np.add(face(), (shift, 1)), face()) for shift in (0, 2, 4)]
    expected = np.repeat([[2.0], [0.0], [2.0]], 68, axis=1)
    assert figures.without_bias(pairs) == pytest.approx(expected, abs=1e-9)


def run_peers(*arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / "peers.py", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_run_on_human_points(tmp_path):
    pytest.importorskip("mediapipe")
    write_human_npz(tmp_path / "set.npz", 4)
    done = run_peers(tmp_path / "set.npz", "--sample", "3", "--seed", "1", "--json", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert "## human labels, 3 same faces" in done.stdout
    assert "| edge | 3 of 3 |" in done.stdout
    document = json.loads((tmp_path / "a").read_text())
    assert document["machine"]["cores"]
    assert document["settings"] == {"crop": "gt", "limit": None, "sample": 3, "seed": 1}
    table = document["tables"]["human labels, 3 same faces"]
    assert list(table) == ["edge", "FaceMesh", "FaceMesh, padded crop where nothing was found"]
    # The points are the generator's own on two passes, under noise; FaceMesh sees the same face.
    assert table["edge"]["inner"] < 3
    assert 1 < table["FaceMesh"]["inner"] < 8
    assert table["FaceMesh"]["inner, without bias"] < table["FaceMesh"]["inner"]
    assert document["rows"]["FaceMesh"]["found"] == 3
    assert document["rows"]["FaceMesh, padded crop where nothing was found"]["retried"] == 0
    assert document["methods"]["FaceMesh"]["refine_landmarks"]


def test_faces_that_are_not_found_are_counted(tmp_path):
    """Photos of noise: the box of the labels is all that an engine needs."""
    pytest.importorskip("mediapipe")
    done = run_peers(write_aflw2000(tmp_path / "set", 3), "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["rows"]["edge"]["found"] == 3
    assert document["rows"]["FaceMesh"]["missed"] == ["image00000", "image00001", "image00002"]
    assert document["rows"]["FaceMesh, padded crop where nothing was found"]["retried"] == 3
    assert set(document["tables"]["original labels, faces that each found"]) == {"edge"}
    assert document["tables"]["reannotated labels, 0 same faces"] == {}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{}/none.npz"], 4, "error: "),
        (["{}/set.npz", "--sample", "9"], 4, "cannot draw 9 faces: the set has 2"),
        (["{}/set.npz", "--sample", "1", "--limit", "1"], 2, "--limit takes the first faces"),
        (["{}/set.npz", "--engine", "{}/none.onnx"], 4, "no such model file"),
        (["{}/set.npz", "--json", "{}"], 4, "is a folder"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, code, message):
    pytest.importorskip("mediapipe")
    write_human_npz(tmp_path / "set.npz", 2)
    done = run_peers(*(a.format(tmp_path) for a in arguments))
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.stderr
