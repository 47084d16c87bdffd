"""Labelling with a user's options on a cluster that ``ray start`` made, with tables as input.

Two nodes on one machine stand for several machines.
"""

import io
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest

from posgan_edge.images import read_image
from posgan_edge.jobs.parquet import read_rows
from tests.helpers.data import PORTRAIT
from tests.test_label import ACTOR, ROOT, committed, sources

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
pytest.importorskip("ray.data", reason="ray[data] is not installed")
pytest.importorskip("mediapipe", reason="mediapipe is not installed")

from tests.helpers.ray import Machines, kill, processes, until  # noqa: E402

pytestmark = pytest.mark.slow

#: Options that change what is written, and take part in ``run`` and ``label`` alike.
WISHES = ("--landmarks", "300w", "--blendshapes", "--max-faces", "1", "--passes", "1", "--mirror")


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    made = Machines(tmp_path_factory.mktemp("ray"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def twins():
    """A JPEG file of the portrait beside itself, mirrored: two faces."""
    image = read_image(PORTRAIT)
    return cv2.imencode(".jpg", np.hstack([image, image[:, ::-1]]))[1].tobytes()


def as_folder(folder, files):
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {f"{folder}/{name}": name for name in files}


def as_parquet(folder, files):
    folder.mkdir()
    names = list(files)
    for start in range(0, len(names), 40):
        some = names[start : start + 40]
        rows = {"url": some, "jpeg": [files[name] for name in some]}
        pq.write_table(pa.table(rows), folder / f"{start}.parquet")
    return {name: name for name in files}


def as_webdataset(folder, files):
    folder.mkdir()
    sources, names = {}, list(files)
    for start in range(0, len(names), 40):
        with tarfile.open(folder / f"{start}.tar", "w") as archive:
            for name in names[start : start + 40]:
                info = tarfile.TarInfo(name)
                info.size = len(files[name])
                archive.addfile(info, io.BytesIO(files[name]))
                sources[f"{folder}/{start}.tar/{name}"] = name
    return sources


def label(machines, folder, out, *options):
    """``posgan-edge label`` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "posgan_edge", "label", *map(str, (folder, "--output", out)),
         "--address", machines.address, "--name-column", "url", "--bytes-column", "jpeg",
         *map(str, options)],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, env=machines.environment,
    )  # fmt: skip


def faces_by_name(path, names):
    """Rows of one face for each picture, by the picture's short name."""
    return {names.get(row.source, row.source): row for row in read_rows(path)}


@pytest.mark.parametrize("form", [as_folder, as_parquet, as_webdataset])
def test_options_give_the_faces_of_run(machines, tmp_path, twins, run, form):
    files = {"one.jpg": PORTRAIT.read_bytes(), "two.jpg": twins}
    names = form(tmp_path / "in", files)
    process = label(machines, tmp_path / "in", tmp_path / "out", "--actors", 2, *WISHES)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert sources(tmp_path / "out") == dict.fromkeys(names, 1)
    plain = as_folder(tmp_path / "plain", files)
    code, _, err = run(
        "run", tmp_path / "plain", "--parquet", tmp_path / "run.parquet", "--no-window", *WISHES
    )
    assert code == 0, err
    found = faces_by_name(tmp_path / "out", names)
    expected = faces_by_name(tmp_path / "run.parquet", plain)
    assert set(found) == set(expected) == set(files)
    for name, row in expected.items():
        mine = found[name].face
        assert mine.box == row.face.box
        assert np.array_equal(mine.landmarks, row.face.landmarks)
        # Ray's processes add up in another order.
        assert mine.expression == pytest.approx(row.face.expression, abs=1e-6)
        assert mine.dense_map.xyz == pytest.approx(row.face.dense_map.xyz, abs=1e-6)
        # The file knows both landmark sets, and which one was read.
        assert mine.dense_map.layout.landmark_set == "300w"
        assert mine.crop.to_frame(mine.dense_map.landmarks("300w")) == pytest.approx(
            mine.landmarks, abs=1e-3
        )


def test_other_options_are_another_output(machines, tmp_path, twins):
    """Without --max-faces, both faces of a picture are found."""
    names = as_webdataset(tmp_path / "in", {"one.jpg": PORTRAIT.read_bytes(), "two.jpg": twins})
    process = label(machines, tmp_path / "in", tmp_path / "out", "--actors", 2)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    counts = {names[source]: count for source, count in sources(tmp_path / "out").items()}
    assert counts == {"one.jpg": 1, "two.jpg": 2}
    assert all(row.face.expression is None for row in read_rows(tmp_path / "out"))
    again = label(machines, tmp_path / "in", tmp_path / "out", "--resume", *WISHES)
    _, err = again.communicate(timeout=300)
    assert (again.returncode, "was begun with another model or options" in err) == (4, True), err


@pytest.mark.parametrize(
    ("environment", "hint"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "if it asks for a token, set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}, "if its token is another one"),
    ],
)
def test_a_cluster_that_refuses_the_token_is_one_line(machines, tmp_path, environment, hint):
    as_folder(tmp_path / "in", {"a.jpg": b""})
    done = subprocess.run(
        [sys.executable, "-m", "posgan_edge", "label", tmp_path / "in", "--output",
         tmp_path / "out", "--address", machines.address],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
        env=machines.environment | environment,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {machines.address}: no Ray cluster that can be used")
    assert hint in line
    assert not (tmp_path / "out").exists()


#: Pictures of a run in which something is killed.
COUNT = 160


@pytest.mark.parametrize(
    ("victim", "form"),
    [("an actor", as_webdataset), ("a node", as_parquet), ("the driver", as_webdataset)],
)
def test_what_is_killed_loses_and_doubles_nothing(machines, tmp_path, form, victim):
    jpeg = PORTRAIT.read_bytes()
    names = form(tmp_path / "in", {f"{index:04d}.jpg": jpeg for index in range(COUNT)})
    out = tmp_path / "out"
    options = ("--actors", 4, "--batch", 4, "--per-file", 8, *WISHES)
    process = label(machines, tmp_path / "in", out, *options)
    try:
        working = (machines.head.pid, machines.second.pid)
        until(
            lambda: (
                process.poll() is not None
                or (committed(out) and all(processes(pid, ACTOR) for pid in working))
            )
        )
        assert process.poll() is None, "it ended too early"
        if victim == "an actor":
            kill(processes(machines.head.pid, ACTOR)[0])
        elif victim == "a node":
            machines.kill_second()
        else:
            process.kill()
        done = 8 * len(committed(out))
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
        if victim == "a node":
            machines.second = machines.add()
    assert done < COUNT
    if victim == "the driver":
        process = label(machines, tmp_path / "in", out, *options, "--resume")
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert sources(out) == dict.fromkeys(names, 1)
    assert all(row.face.expression is not None for row in read_rows(out))
