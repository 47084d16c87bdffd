"""One run for pictures and videos: sources of pictures, names of files, files that are kept."""

import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.live.sinks import Outputs
from posgan_edge.live.sources import is_picture, pictures_of
from posgan_edge.live.sources.pictures import PicturesSource, expanded, targets
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, read_lines

BOX = ",".join(map(str, PORTRAIT_BOX))


@pytest.fixture
def photos(tmp_path):
    """photos/a.png, photos/b.jpg, photos/deep/a.png and a text; a.png is grey."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    image = cv2.imread(str(PORTRAIT))
    (folder / "b.jpg").write_bytes(PORTRAIT.read_bytes())
    cv2.imwrite(str(folder / "a.png"), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(folder / "deep" / "a.png"), image)
    (folder / "note.txt").write_text("no picture")
    return folder


def two_portraits(path):
    image = cv2.imread(str(PORTRAIT))
    cv2.imwrite(str(path), np.hstack([image, image]))
    return path


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("photos", ["photos/a.png", "photos/b.jpg", "photos/deep/a.png"]),
        ("photos/deep", ["photos/deep/a.png"]),
        ("photos/b.jpg", ["photos/b.jpg"]),
        ("photos/*.png", ["photos/a.png"]),
        ("photos/*", ["photos/a.png", "photos/b.jpg"]),
        ("photos/**/*.png", ["photos/a.png", "photos/deep/a.png"]),
        ("photos/[ab].???", ["photos/a.png", "photos/b.jpg"]),
        ("@list.txt", ["photos/b.jpg", "photos/a.png", "photos/b.jpg", "photos/deep/a.png"]),
    ],
)
def test_what_pictures_are_named_by(photos, monkeypatch, uri, names):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "list.txt").write_text("photos/b.jpg  # the first\n\nphotos\n")
    assert is_picture(uri)
    assert pictures_of(uri) == names


@pytest.mark.parametrize(
    "uri", ["clips/*.mp4", "synthetic:?noise=4", "http://host/a.jpg?b=*", "f-%04d.png", "a.gif"]
)
def test_what_is_no_picture(uri):
    assert not is_picture(uri)


@pytest.mark.parametrize(
    ("sources", "suffix", "files"),
    [
        (["photos"], None, ["out/a.png", "out/b.jpg", "out/deep/a.png"]),
        (["photos"], ".obj", ["out/a.obj", "out/b.obj", "out/deep/a.obj"]),
        (["photos/**/*.png"], ".obj", ["out/a.obj", "out/deep/a.obj"]),
        (["photos/a.png", "photos/deep/a.png"], None, ["out/a.png", "out/deep/a.png"]),
        (["photos/a.png", "photos/b.jpg", "photos/deep"], ".ply",
         ["out/a.ply", "out/b.ply", "out/deep/a.ply"]),
        (["photos/a.png", "photos/a.jpg"], None, ["out/a.png", "out/a.jpg"]),
        (["photos/a.png", "photos/a.jpg"], ".obj", ["out/a-png.obj", "out/a-jpg.obj"]),
    ],
)  # fmt: skip
def test_pictures_of_one_name_are_kept_apart(photos, monkeypatch, sources, suffix, files):
    monkeypatch.chdir(photos.parent)
    pictures = [picture for source in sources for picture in expanded(source)]
    assert [str(p) for p in targets(pictures, photos.parent.relative_to(photos.parent) / "out",
                                    suffix)] == files  # fmt: skip


def test_a_source_of_pictures_leaves_out_what_cannot_be_read(photos):
    (photos / "aa.png").write_bytes(b"broken")
    os.mkfifo(photos / "ab.png")
    (photos / "c.gif").write_bytes(b"GIF89a")
    told: list[str] = []
    source = PicturesSource(expanded(str(photos)), told.append)
    with source:
        frames = list(source)
    assert [(f.index, f.name, f.timestamp) for f in frames] == [
        (0, f"{photos}/a.png", 0.0), (3, f"{photos}/b.jpg", 0.0),
        (5, f"{photos}/deep/a.png", 0.0),
    ]  # fmt: skip
    assert [line.replace(f"{photos}/", "") for line in told] == [
        "aa.png: is not a picture that can be decoded",
        "ab.png: cannot be read: not a regular file",
        "c.gif: is not a picture that can be decoded",
    ]


def test_every_face_of_a_picture_is_found_and_written(run, tmp_path):
    pytest.importorskip("mediapipe")
    pytest.importorskip("trimesh")
    two_portraits(tmp_path / "two.png")
    out = tmp_path / "out"
    code, printed, err = run(
        "run", tmp_path / "two.png", "--save", out / "a.png", "--json", out / "a.jsonl",
        "--npz", out / "a.npz", "--mesh", out / "face.obj", "--depth", out / "depth.npy",
        "--mask", out / "mask.png", "--texture", out / "texture.png",
        "--summary", out / "summary.json", "--overlay",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "two.png: 2 faces, pitch" in printed
    assert files_in(out) == [
        "a.jsonl", "a.npz", "a.png", "depth-0.npy", "depth-1.npy", "face-0.mtl", "face-0.obj",
        "face-0_uv.png", "face-1.mtl", "face-1.obj", "face-1_uv.png", "mask-0.png", "mask-1.png",
        "summary.json", "texture-0.png", "texture-1.png",
    ]  # fmt: skip
    (record,) = read_lines(out / "a.jsonl")
    assert "latency_ms" not in record
    assert [face["id"] for face in record["faces"]] == [0, 1]
    assert set(record["faces"][0]["timings_ms"]) >= {"detect", "crop", "network", "landmarks"}
    with np.load(out / "a.npz") as data:
        assert data["frame"].tolist() == data["source"].tolist() == [0, 0]
        assert data["source_names"].tolist() == [str(tmp_path / "two.png")]
    left, right = (np.isfinite(np.load(out / f"depth-{i}.npy")).any(0).nonzero()[0] for i in (0, 1))
    assert min(left.max(), right.max()) < 512 <= max(left.min(), right.min())
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["processed"], summary["with_face"], summary["detections"]) == (1, 1, 1)
    code, printed, _ = run("run", tmp_path / "two.png", "--max-faces", 1)
    assert code == 0
    assert "two.png: 1 face, pitch" in printed


def test_one_face_keeps_the_names_that_were_given(run, tmp_path):
    pytest.importorskip("trimesh")
    code, _, err = run(
        "run", PORTRAIT, "--box", BOX, "--mesh", tmp_path / "m.glb", "--texture", tmp_path / "t.png"
    )
    assert (code, err) == (0, "")
    assert files_in(tmp_path) == ["m.glb", "t.png"]
    assert b"image/png" in (tmp_path / "m.glb").read_bytes()


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_meshes_of_videos_are_textured(run, tmp_path, suffix):
    pytest.importorskip("trimesh")
    pytest.importorskip("pygltflib")
    code, _, err = run(
        "run", "synthetic:?width=640&height=360&sway=0&roll=0&zoom=0", "--box", "275,112,95,92",
        "--max-frames", 2, "--mesh", tmp_path / f"m.{suffix}",
    )  # fmt: skip
    assert code == 0, err
    if suffix == "obj":
        assert "mtllib m-000000-0.mtl" in (tmp_path / "m-000000-0.obj").read_text()
        assert cv2.imread(str(tmp_path / "m-000001-0_uv.png")).shape == (512, 512, 3)
    else:
        # One animation of all frames.
        assert files_in(tmp_path) == ["m.glb"]
        assert b"image/png" in (tmp_path / "m.glb").read_bytes()


def test_a_folder_keeps_its_names(run, photos, tmp_path):
    code, printed, err = run(
        "run", photos, "--box", BOX, "--save", tmp_path / "out", "--mask", tmp_path / "masks",
        "--max-frames", 10,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert printed.count("1 face") == 3
    assert files_in(tmp_path / "out") == ["a.png", "b.jpg", "deep/a.png"]
    assert files_in(tmp_path / "masks") == ["a.png", "b.png", "deep/a.png"]
    code, printed, _ = run("run", photos, "--box", BOX, "--max-frames", 1)
    assert (code, printed.count("1 face")) == (0, 1)


def test_a_folder_is_looked_through(tmp_path):
    """Hidden folders are left out, links are followed once, suffixes may be upper-case."""
    for name in ("b.jpg", "one/a.JPG", "one/two/c.png", ".hidden/d.jpg", "one/.git/e.jpg"):
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_bytes(b"")
    (tmp_path / "top" / "one" / "back").symlink_to(tmp_path / "top")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.jpg").write_bytes(b"")
    (tmp_path / "top" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top" / "folder.jpg").mkdir()
    names = ["b.jpg", "linked/f.jpg", "one/a.JPG", "one/two/c.png"]
    assert pictures_of(str(tmp_path / "top")) == [f"{tmp_path}/top/{name}" for name in names]


@pytest.fixture
def shut(photos, monkeypatch):
    """A folder below ``photos`` that cannot be read. Tests may run as root, who reads all."""
    (photos / "shut").mkdir()
    scandir = os.scandir

    def refuses(place):
        if str(place).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuses)
    return photos / "shut"


def test_a_folder_that_cannot_be_read_is_one_line(run, photos, shut):
    line = f"{shut}: cannot be read (Permission denied)"
    for folder in (photos, shut):
        with pytest.raises(BadInput, match=re.escape(line)):
            pictures_of(str(folder))
    told: list[str] = []
    assert len(expanded(str(photos), told.append)) == 3
    assert told == [line]
    # The others are worked on.
    code, printed, err = run("run", photos, "--box", BOX, "--csv", photos.parent / "a.csv")
    assert (code, printed.count("1 face")) == (4, 3)
    assert err == f"error: {line}\nerror: 1 of 4 pictures failed\n"
    code, printed, err = run("run", shut, "--box", BOX)
    assert (code, printed) == (4, "")
    assert err == f"error: {line}\nerror: 1 of 1 pictures failed\n"


@pytest.mark.parametrize("source", ["photos", "photos/**/*.*", "."])
def test_what_a_run_wrote_below_its_source_is_no_source(run, photos, monkeypatch, source):
    monkeypatch.chdir(photos.parent)
    words = ["run", source, "--box", BOX, "--save", "photos/out/drawn", "--csv", "a.csv"]
    code, printed, err = run(*words)
    assert (code, printed.count("1 face"), err) == (0, 3, "")
    drawn = files_in(photos / "out")
    assert len(drawn) == 3
    code, printed, err = run(*words, "--overwrite")
    assert (code, printed.count("1 face")) == (0, 3)
    assert err == "note: 3 pictures below the folders that this run writes to are left out\n"
    assert files_in(photos / "out") == drawn


def test_a_picture_on_which_the_network_fails_does_not_stop_the_others(run, photos, monkeypatch):
    from posgan_edge.faces.pipeline import FacePipeline

    process = FacePipeline.process

    def fails(self, frame, *arguments):
        if frame.name.endswith("a.png"):
            raise BadInput("numbers that are not finite")
        return process(self, frame, *arguments)

    monkeypatch.setattr(FacePipeline, "process", fails)
    code, printed, err = run("run", photos, "--box", BOX, "--json", photos.parent / "a.jsonl")
    assert code == 4
    assert f"error: {photos}/a.png: numbers that are not finite\n" in err
    assert err.endswith("error: 2 of 3 pictures failed\n")
    assert "b.jpg: 1 face" in printed
    assert [line["source"] for line in read_lines(photos.parent / "a.jsonl")] == [f"{photos}/b.jpg"]


def test_pictures_may_be_many_sizes_and_none_is_told(run, photos):
    cv2.imwrite(str(photos / "c.png"), np.zeros((40, 700, 3), np.uint8))
    code, _, err = run("run", photos, "--box", BOX, "--summary", photos.parent / "s.json")
    assert "size changed" not in err
    assert json.loads((photos.parent / "s.json").read_text())["counts"]["resized"] == 0
    assert code in (0, 4)


def test_a_window_waits_for_a_key_at_each_picture(run, photos, monkeypatch):
    shown, waits = [], []
    monkeypatch.setattr("posgan_edge.cli.run_outputs.has_display", lambda: True)
    monkeypatch.setattr(cv2, "imshow", lambda _, canvas: shown.append(canvas.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda wait: waits.append(wait) or ord(" "))  # type: ignore[func-returns-value]
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    assert run("run", photos, "--box", BOX)[0] == 0
    assert len(shown) == 3
    assert waits.count(0) == 3
    shown.clear()
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q"))
    assert run("run", photos, "--box", BOX)[0] == 0
    assert len(shown) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["photos", "--save", "photos"], "photos/a.png"),
        (["photos/b.jpg", "--save", "photos"], "photos/b.jpg"),
        (["photos", "--json", "photos/a.png"], "photos/a.png"),
        (["photos", "--summary", "photos/b.jpg"], "photos/b.jpg"),
        (["photos/b.jpg", "--mask", "link.png"], "link.png"),
        (["photos/b.jpg", "--depth", "hard.png"], "hard.png"),
        (["photos/b.jpg", "--mesh", "hard.obj"], "hard_uv.png"),
        (["@list.txt", "--json", "list.txt"], "list.txt"),
        (["--camera", "clip.avi", "--save", "clip.avi"], "clip.avi"),
        (["--video", "clip.avi", "--json", "clip.avi"], "clip.avi"),
        (["file://{here}/clip.avi", "--save", "clip.avi"], "clip.avi"),
        (["v4l2://{here}/clip.avi", "--npz", "clip.npz"], "clip.npz"),
        (["frame-%06d.jpg", "--save", "."], "frame-000000.jpg"),
    ],
)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_sources_are_never_written(run, photos, monkeypatch, arguments, named, overwrite):
    here = photos.parent
    monkeypatch.chdir(here)
    (here / "link.png").symlink_to(photos / "b.jpg")
    for name in ("hard.png", "hard_uv.png"):
        os.link(photos / "b.jpg", here / name)
    (here / "list.txt").write_text("photos\n")
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (512, 512))
    writer.write(cv2.imread(str(PORTRAIT)))
    writer.release()
    os.link("clip.avi", "clip.npz")
    cv2.imwrite("frame-000000.jpg", cv2.imread(str(PORTRAIT)))
    before = contents(here)
    arguments = [a.replace("{here}", str(here)) for a in arguments]
    code, printed, err = run("run", *arguments, "--box", BOX, *overwrite)
    assert (code, printed) == (2, "")
    assert err == f"error: {named}: is a source or another output: give another name\n"
    assert contents(here) == before


def test_standard_input_is_a_source(photos, monkeypatch):
    from posgan_edge.live.sources.raw import RawSource

    with open(photos / "b.jpg", "rb") as stream:
        monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": stream}))
        outputs = Outputs(RawSource((16, 16)).files())
        with pytest.raises(UsageError, match="is a source"):
            outputs.claim(photos / "b.jpg")


@pytest.mark.parametrize(
    ("option", "there"),
    [
        (["--save", "a.png"], "a.png"),
        (["--save", "out"], "out/portrait.jpg"),
        (["--json", "a.jsonl"], "a.jsonl"),
        (["--npz", "a.npz"], "a.npz"),
        (["--mesh", "face.obj"], "face.obj"),
        (["--mesh", "face.obj"], "face_uv.png"),
        (["--mesh", "face.obj"], "face.mtl"),
        (["--mesh", "face.obj"], "face-1.obj"),
        (["--mesh", "face.obj"], "face-1_uv.png"),
        (["--depth", "out"], "out/portrait.png"),
        (["--mask", "a.png"], "a-0.png"),
        (["--texture", "out"], "out/portrait-12.png"),
        (["--summary", "s.json"], "s.json"),
    ],
)
@pytest.mark.parametrize("dangling", [False, True])
def test_files_that_are_there_are_kept(run, tmp_path, monkeypatch, option, there, dangling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    if dangling:
        (tmp_path / there).symlink_to("nowhere")
    else:
        (tmp_path / there).write_text("mine")
    code, printed, err = run("run", PORTRAIT, "--box", BOX, *option)
    assert (code, printed) == (2, "")
    assert err == f"error: {there}: already exists (--overwrite replaces it)\n"
    assert os.listdir(tmp_path / "out") == [p[4:] for p in (there,) if p.startswith("out/")]
    assert dangling or (tmp_path / there).read_text() == "mine"
    code, printed, err = run("run", PORTRAIT, "--box", BOX, *option, "--overwrite")
    assert (code, err) == (0, "")
    assert "1 face" in printed


@pytest.mark.parametrize(
    ("option", "there"),
    [
        (["--save", "a.mp4"], "a.mp4"),
        (["--save", "out"], "out/frame-000000.jpg"),
        (["--save", "out/f.png"], "out/f-123456.png"),
        (["--mesh", "out"], "out/face-000007-3.mtl"),
        (["--depth", "out"], "out/depth-000000-0.png"),
    ],
)
def test_files_of_an_earlier_video_are_kept(run, tmp_path, monkeypatch, option, there):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / there).write_text("mine")
    source = ["synthetic:?width=320&height=320&roll=0", "--max-frames", 1]
    box = ["--box", "90,60,120,120"]
    code, _, err = run("run", *source, *box, *option)
    assert (code, err) == (2, f"error: {there}: already exists (--overwrite replaces it)\n")
    assert (tmp_path / there).read_text() == "mine"
    assert run("run", *source, *box, *option, "--overwrite")[0] in (0, 4)


@pytest.mark.parametrize(
    "options",
    [
        ["--save", "out", "--mask", "out"],
        ["--depth", "out", "--texture", "out"],
        ["--mesh", "face.obj", "--save", "face_uv.png"],
        ["--json", "a.txt", "--summary", "a.txt"],
        ["--json", "a.npz", "--npz", "./b/../a.npz"],
    ],
)
def test_outputs_do_not_share_a_file(run, photos, monkeypatch, options):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "b").mkdir()
    code, _, err = run("run", "photos/a.png", "--box", BOX, *options, "--overwrite")
    assert code == 2
    assert "is a source or another output: give another name" in err


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".png", "a\0b.png", "a/" * 1900 + "x.png"])
def test_impossible_names_are_one_line(run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for option in ("--json", "--npz", "--summary", "--mask", "--texture"):
        code, _, err = run("run", PORTRAIT, "--box", BOX, option, name)
        assert (code in (2, 4), err.count("\n")) == (True, 1), err
    for source in (
        [name],
        ["--image", name],
        [f"@{name}"],
        [f"file://{name}"],
        [f"{name}*"],
    ):
        code, _, err = run("run", *source, "--box", BOX)
        assert code in (2, 4)
        assert 1 <= err.count("error: ") <= 2
        assert "Traceback" not in err


def test_an_empty_name_is_no_folder(run):
    code, _, err = run("run", "", "--box", BOX)
    assert code == 4
    assert "no such video file" in err


def test_names_that_are_not_utf8(tmp_path):
    name = "b\udcff"
    picture = tmp_path / f"{name}.jpg"
    picture.write_bytes(PORTRAIT.read_bytes())

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "posgan_edge", "run", "--no-window", "--box", BOX, *arguments],
            capture_output=True, timeout=100,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout

    code, out = call(
        picture, "--save", tmp_path / name, "--json", tmp_path / f"{name}.jsonl",
        "--mesh", tmp_path / f"{name}.obj", "--texture", tmp_path / f"{name}.png",
    )  # fmt: skip
    assert (code, b"1 face" in out) == (0, True)
    assert len(files_in(tmp_path)) == 7
    assert read_lines(tmp_path / f"{name}.jsonl")[0]["source"] == str(picture)
    moving = ["synthetic:?width=320&height=320", "--max-frames", "1"]
    assert call(*moving, "--save", tmp_path / f"{name}.mp4")[0] == 2
    assert call("--video", picture)[0] == 4
    assert call(picture, "--mask", tmp_path / "mask.png", "--uv-mask", picture)[0] == 0
    assert cv2.imread(str(tmp_path / "mask.png")) is not None


def test_a_list_names_no_list(run, tmp_path):
    (tmp_path / "a.txt").write_text(f"@{tmp_path}/a.txt\n")
    code, _, err = run("run", f"@{tmp_path}/a.txt", "--box", BOX)
    assert code == 4
    assert f"error: {tmp_path}/a.txt: names another list\n" in err


def test_a_file_in_place_of_a_camera_ends(run, tmp_path):
    cv2.imwrite(str(tmp_path / "a0.png"), cv2.imread(str(PORTRAIT)))
    code, out, err = run("run", "--camera", tmp_path / "a%d.png", "--box", BOX)
    assert code == 0, err
    assert "1 frames, a face in 1" in out
    assert "trying again" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--camera", "{}"], "a pipe or a socket, not a video: give frames to standard input (-)"),
        (["--camera", "file://{}"], "no such video file"),
        (["--camera", "v4l2://{}"], "no such video file"),
        (["--video", "{}"], "no such video file"),
        (["{}"], "no such video file"),
    ],
)
def test_a_pipe_in_place_of_a_video_is_refused_at_once(run, tmp_path, words, message):
    os.mkfifo(tmp_path / "a.mp4")
    words = [word.format(tmp_path / "a.mp4") for word in words]
    code, _, err = run("run", *words, "--box", BOX, "--no-window")
    assert (code, err) == (4, f"error: {tmp_path}/a.mp4: {message}\n")


def test_devices_are_not_replaced(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, _, err = run("run", PORTRAIT, "--box", BOX, "--json", tmp_path / "pipe", "--overwrite")
    assert code == 2
    assert "is a device or a pipe, not a file" in err


@pytest.mark.parametrize(
    ("url", "same"),
    [("http://127.0.0.1:80/", True), ("http://host:8/?token=a", True),
     ("http://0.0.0.0:8080/?token=a", False), ("http://[::]:8080/?token=a", False)],
)  # fmt: skip
def test_the_address_of_the_live_page_can_be_opened(url, same):
    from posgan_edge.cli.run_outputs import reachable

    found = reachable(url)
    assert (found == url) == same
    assert "0.0.0.0" not in found
    assert "[::]" not in found
    assert found.partition("?")[2] == url.partition("?")[2]
