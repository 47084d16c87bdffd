"""Labelling on a real Ray cluster of two nodes, of which processes and nodes are killed."""

import io
import logging
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from posgan_edge import FaceBox, FacePipeline
from posgan_edge.errors import BadInput, MissingRuntime
from posgan_edge.images import read_image
from posgan_edge.jobs.parquet import read_rows
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
pytest.importorskip("ray.data", reason="ray[data] is not installed")

from posgan_edge.jobs.cluster import Share, load_ray, pool_size  # noqa: E402
from posgan_edge.jobs.label import label  # noqa: E402
from posgan_edge.jobs.label_input import Pictures, find_input  # noqa: E402
from posgan_edge.jobs.label_work import Work  # noqa: E402
from tests.helpers.ray import NODE, kill, processes, raylet, start_cluster, until  # noqa: E402

ROOT = Path(__file__).parents[1]
BOX = FaceBox(*PORTRAIT_BOX)
WORK = Work(boxes=(BOX,))
#: Options of the same work for the command line.
BOXED = ("--box", ",".join(map(str, PORTRAIT_BOX)))
#: Pictures of a run in which something is killed.
COUNT = 160
ACTOR = "MapBatches(Labeler)"


@pytest.fixture(scope="module")
def cluster():
    made = start_cluster()
    yield made
    import ray

    ray.shutdown()
    made.shutdown()


@pytest.fixture
def connected(cluster):
    """This process as a driver of the cluster."""
    import ray

    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    yield cluster
    ray.shutdown()


def portraits(folder, count):
    folder.mkdir()
    for index in range(count):
        shutil.copy(PORTRAIT, folder / f"{index:04d}.jpg")
    return sorted(map(str, folder.iterdir()))


def sources(folder):
    """How often each picture is in the output."""
    return Counter(row.source for row in read_rows(folder))


def driver(cluster, *arguments):
    """``posgan-edge label`` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "posgan_edge", "label", *map(str, arguments),
         "--address", cluster.address, *BOXED],
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def committed(folder):
    """The files of the checkpoint of finished pictures."""
    found = (Path(folder) / "_checkpoint").glob("*.parquet")
    return [path for path in found if ".pending" not in path.name]


def lost_at(cluster, tmp_path, victim):
    """Runs the command, calls ``victim`` when the first pictures are written, and returns how many
    were then, and the process."""
    names = portraits(tmp_path / "in", COUNT)
    out = tmp_path / "out"
    options = ("--cores", "1", "--actors", "4", "--batch", "4", "--per-file", "8", "--mirror")
    process = driver(cluster, tmp_path / "in", "--output", out, *options)
    try:
        until(lambda: committed(out) or process.poll() is not None)
        victim(process)
        done = 8 * len(committed(out))
    except BaseException:
        process.kill()
        raise
    return names, out, options, process, done


@pytest.mark.slow
def test_an_actor_that_is_killed_loses_and_doubles_nothing(cluster, tmp_path):
    killed = []

    def victim(_):
        for node in cluster.list_all_nodes():
            killed.extend(processes(raylet(node), ACTOR)[:1])
        for pid in killed:
            kill(pid)

    names, out, _, process, done = lost_at(cluster, tmp_path, victim)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert len(killed) >= 1
    assert done < len(names)
    assert sources(out) == dict.fromkeys(names, 1)
    assert f"{COUNT} pictures in this run, {COUNT} faces" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_node_that_is_killed_loses_and_doubles_nothing(cluster, tmp_path):
    def victim(_):
        (second,) = [node for node in cluster.list_all_nodes() if not node.head]
        assert processes(raylet(second), ACTOR), "the node had no work"
        cluster.remove_node(second, allow_graceful=False)

    names, out, _, process, done = lost_at(cluster, tmp_path, victim)
    try:
        _, err = process.communicate(timeout=300)
    finally:
        cluster.add_node(**NODE)
    assert process.returncode == 0, err
    assert done < len(names)
    assert sources(out) == dict.fromkeys(names, 1)
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_driver_that_is_killed_is_gone_on_with(cluster, tmp_path):
    names, out, options, process, done = lost_at(cluster, tmp_path, lambda p: p.kill())
    process.communicate(timeout=60)
    assert done < len(names)
    again = driver(cluster, tmp_path / "in", "--output", out, *options, "--resume")
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert sources(out) == dict.fromkeys(names, 1)
    in_second = int(err.partition(f"{out}: ")[2].split()[0])
    assert 0 < in_second < len(names)
    assert not list(out.rglob("*.pending.parquet"))


JPEG = PORTRAIT.read_bytes()
#: Two pictures with a face, and three that fail.
FILES = {
    "a.jpg": JPEG, "b.jpg": JPEG, "cut.jpg": JPEG[:2000], "empty.png": b"", "text.png": b"none",
}  # fmt: skip
FAILED = {
    "cut.jpg": "is a truncated JPEG",
    "empty.png": "is empty",
    "text.png": "is not a picture that can be decoded",
}


def as_folder(folder):
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder, f"{folder}/"


def as_zip(folder):
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return folder.with_suffix(".zip"), f"{folder}.zip/"


def as_parquet(folder):
    folder.mkdir()
    rows = list(FILES.items())
    for index, part in enumerate((rows[:3], rows[3:])):
        names, data = zip(*part, strict=True)
        pq.write_table(pa.table({"path": names, "bytes": data}), folder / f"{index}.parquet")
    return folder, ""


def as_webdataset(folder):
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as archive:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return folder, f"{folder}/0.tar/"


@pytest.mark.slow
@pytest.mark.parametrize("form", [as_folder, as_zip, as_parquet, as_webdataset])
def test_every_input_is_labelled_once_and_bad_pictures_are_named(connected, tmp_path, form):
    source, before = form(tmp_path / "in")
    out = tmp_path / "out"
    share = Share(actors=2, cores=0.5, batch=2, per_file=2)
    done = label(str(source), str(out), WORK, share)
    assert (done.pictures, done.faces) == (5, 2)
    assert sorted(done.failed) == sorted(f"{before}{n}: {why}" for n, why in FAILED.items())
    assert sources(out) == {f"{before}a.jpg": 1, f"{before}b.jpg": 1}
    with FacePipeline("edge") as pipeline:
        (face,) = pipeline.process(read_image(PORTRAIT), [BOX])
    for row in read_rows(out):
        assert np.array_equal(row.face.landmarks, face.landmarks)
        off = np.abs(row.face.dense_map.xyz - face.dense_map.xyz).max() * face.crop.side
        assert off <= 1e-4
        assert (row.width, row.height, row.frame) == (512, 512, 0)
    # Other programs read it as a folder of Parquet files.
    assert pq.read_table(out).num_rows == 2
    # All is done: nothing is done again, and what failed is still named.
    again = label(str(source), str(out), WORK, share, resume=True)
    assert (again.pictures, again.faces, again.failed) == (0, 0, done.failed)
    assert sources(out) == {f"{before}a.jpg": 1, f"{before}b.jpg": 1}


@pytest.mark.slow
def test_a_folder_that_grew_is_gone_on_with_on_this_machine(tmp_path, run):
    """Without a cluster. ``--resume`` also takes an output that is not there yet."""
    names = portraits(tmp_path / "in", 3)
    bad = tmp_path / "in" / "bad.jpg"
    options = (tmp_path / "in", "--output", tmp_path / "out", *BOXED, "--resume", "--actors", 1)
    code, _, err = run("label", *options)
    assert (code, err.splitlines()[-1].endswith("3 pictures in this run, 3 faces")) == (0, True)
    assert len(err.strip().splitlines()) == 2, err
    bad.write_text("no picture")
    code, _, err = run("label", *options)
    assert code == 4
    assert f"error: {bad}: is not a picture that can be decoded" in err
    assert "1 pictures in this run, 0 faces" in err
    assert "error: 1 pictures failed" in err
    assert sources(tmp_path / "out") == dict.fromkeys(names, 1)
    # Other options would mix two kinds of faces in one folder.
    code, _, err = run("label", *options, "--mirror")
    assert (code, "was begun with another model or options" in err) == (4, True), err


class QuietHandler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["in", "--output", "taken"], 2, "taken: already exists (--resume continues it)"),
        (["in", "--output", "in/a.jpg"], 2, "in/a.jpg: already exists and is not a folder"),
        (["in", "--output", "taken", "--resume"], 4, "taken: holds something else than labels"),
        (["none", "--output", "o"], 4, "none: give pictures, a folder, a pattern"),
        (["none.jpg", "--output", "o"], 4, "none.jpg: no such file"),
        (["none.parquet", "--output", "o"], 4, "none.parquet: no such file"),
        (["taken", "--output", "o"], 4, "taken: no pictures in this folder"),
        (["*.jpg", "--output", "o"], 4, "*.jpg: matches no pictures"),
        (["other.parquet", "--output", "o"], 4, "no column 'path' with names (columns: city str"),
        (["text.parquet", "--output", "o"], 4, "text.parquet: not a Parquet file that can be read"),
        (["text.tar", "--output", "o"], 4, "text.tar: not a tar archive, or a damaged one"),
        (["nothing://x", "--output", "o"], 4, "nothing://x: no address that can be used"),
        (["in", "--output", "o", "--address", "x"], 2, "x: no address of a Ray cluster: give auto"),
        (["in", "--output", "o", "--address", "ray://h:1"], 2, "ray://h:1: no address of a Ray"),
        (["in", "--output", "o", "--address", "127.0.0.1:{closed}"], 4,
         ": no Ray cluster is there (Connection refused)"),
        (["in", "--output", "o", "--address", "127.0.0.1:{silent}"], 4,
         ": no Ray cluster is there (timed out)"),
        (["in", "--output", "o", "--address", "127.0.0.1:{page}"], 4,
         ": what is there is no Ray cluster"),
        (["in", "--output", "o", "--model", "none.onnx"], 4, "none.onnx: no such model file"),
        (["in", "--output", "o", "--box", "1,2,3,0"], 2, "width and height must be above zero"),
    ],
)  # fmt: skip
def test_what_cannot_be_labelled_is_one_line(tmp_path, monkeypatch, run, options, code, message):
    monkeypatch.chdir(tmp_path)
    portraits(tmp_path / "in", 1)
    (tmp_path / "in" / "0000.jpg").rename(tmp_path / "in" / "a.jpg")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    for name in ("text.parquet", "text.tar"):
        (tmp_path / name).write_text("text")
    pq.write_table(pa.table({"city": ["x"]}), tmp_path / "other.parquet")
    page = HTTPServer(("127.0.0.1", 0), QuietHandler)
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as silent, page:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        ports = {"closed": closed.getsockname()[1], "silent": silent.getsockname()[1]}
        ports["page"] = page.server_address[1]
        Thread(target=page.handle_request, daemon=True).start()
        found, _, err = run("label", *(str(o).format(**ports) for o in options))
    assert (found, message in err) == (code, True), err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["mine.txt"]


def test_an_input_names_each_picture_once(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(JPEG)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("in/a.jpg\nin/../in/a.jpg\nin/a.jpg\nhttp://h/b.jpg\n")
    found = find_input("@list.txt")
    assert isinstance(found, Pictures)
    names = [picture.name for picture in found.pictures]
    assert names == [f"{tmp_path}/in/a.jpg", "http://h/b.jpg"]


def nodes(*resources):
    return SimpleNamespace(
        nodes=lambda: [{"Alive": alive, "Resources": has} for alive, has in resources]
    )


@pytest.mark.parametrize(
    ("ray", "share", "actors"),
    [
        (nodes((True, {"CPU": 4.0})), Share(), 3),
        (nodes((True, {"CPU": 4.0}), (True, {"CPU": 4.0})), Share(), 7),
        (nodes((True, {"CPU": 4.0}), (False, {"CPU": 4.0})), Share(), 3),
        (nodes((True, {}), (True, {"CPU": 4.0})), Share(cores=0.5), 6),
        (nodes((True, {"CPU": 8.0, "GPU": 1.0})), Share(gpus=0.25), 4),
        (nodes((True, {"CPU": 3.0, "GPU": 1.0})), Share(gpus=0.25), 2),
        (nodes((True, {"CPU": 8.0}), (True, {"CPU": 8.0, "GPU": 2.0})), Share(gpus=1), 2),
        (nodes((True, {"CPU": 4.0})), Share(actors=2), 2),
    ],
)
def test_one_cpu_is_left_for_the_filter(ray, share, actors):
    assert pool_size(ray, share) == actors


@pytest.mark.parametrize(
    ("ray", "share"),
    [
        (nodes((True, {"CPU": 1.0})), Share()),
        (nodes((True, {"CPU": 4.0}), (True, {"CPU": 3.0})), Share(cores=4)),
        (nodes((True, {"CPU": 8.0})), Share(gpus=0.5)),
    ],
)
def test_a_cluster_without_room_is_refused(ray, share):
    with pytest.raises(BadInput, match="1 CPU has to stay free"):
        pool_size(ray, share)


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingRuntime, match=r"pip install 'posgan-edge\[ray\]'"):
        load_ray()


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    (tmp_path / "parts").mkdir()
    with pytest.raises(BadInput, match="no folder of posgan-edge label"):
        read_rows(tmp_path)
    part = tmp_path / "parts" / "a.parquet"
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({b"posgan_edge.faces": b"1"}), part)
    with pytest.raises(BadInput, match="is a part of a folder of faces: give the folder"):
        read_rows(part)
    shutil.copy(part, tmp_path / "_common_metadata")
    with pytest.raises(BadInput, match="holds no modes and layout"):
        read_rows(tmp_path)
