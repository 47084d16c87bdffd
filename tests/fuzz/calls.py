"""Targets: lists, source names, command lines and arguments of the Python API."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from posgan_edge.errors import BadInput
from tests.fuzz.files import REPOSITORY, world, written
from tests.fuzz.mutations import ODD, damaged
from tests.fuzz.targets import Target
from tests.helpers import data

TEXTS = ["", "x", "-", "0", "-1", "1", "1.5", "nan", "inf", "1e300", "1e-300", "99999999999",
         "%s%n", "a.xyz", "out.png", "a.mp4", "a.json", "..", "/", "/dev/null", "é", "\udc80",
         "0,0,1,1", "1,2,3,4", "nan,0,1,1", "5,5,-3,9", "90,90,32,24", "x" * 300, "a.jpg", "8.9",
         "gt", "fp32", "edge", "cpu", "@l", "(", "[a", "\x1b[31m", "\n", "a\nb", "0x10", "64",
         "photos", "photos/a.jpg", "1e", "b/a.npz", "127.0.0.1:0", ":", "%d"]  # fmt: skip


# Lists of names.
def _list(case: bytes, folder: Path) -> None:
    from posgan_edge.live.sources.pictures import PicturesSource, expanded

    (folder / "a.jpg").write_bytes(data.PORTRAIT.read_bytes())
    written(folder, "list.txt", case)
    source = PicturesSource(expanded("@list.txt"))
    while source.read() is not None:
        pass


# Names of sources.
_KEYS = ["width", "height", "fps", "seconds", "faces", "sway", "roll", "zoom", "period", "noise",
         "jpeg", "blank", "every", "blink", "blink_takes", "colour", ""]  # fmt: skip


def _sources() -> st.SearchStrategy[str]:
    numbers = [str(v) for v in (0, 1, -1, 2, 64, 100, 1e6, 10**9, 10**30, -50, 1e-300, 1e300,
                                "nan", "inf", "", "x", 0.5, "1_0", "0x1", 17, "-0")]  # fmt: skip
    pair = st.tuples(st.sampled_from(_KEYS), st.sampled_from(numbers)).map("=".join)
    query = st.lists(pair, min_size=1, max_size=3).map(lambda p: "synthetic:?" + "&".join(p))
    forms = [
        "csi://x", "ftp://a", "://", "a.mp4", "file://", "file://a.mp4", "v4l2://x", "frame-%d.png",
        "%d", "%s%n.png", "frame-%999999999d.png", "%", "/dev/null", "/dev/none", "/", "..", "@",
        "@none", "*", "**/*", "[", "synthetic:?", "synthetic?x", "99", "99999999999", "", "-", " ",
    ]  # fmt: skip
    return st.one_of(query, query, st.sampled_from(forms), st.text(max_size=20))


def _source(case: str, folder: Path) -> None:
    from posgan_edge.live.sources import is_picture, open_source, pictures_of

    if re.match(r"(rtsps?|rtmp|https?|udp|tcp|srt|file|v4l2)://\S", case):
        return
    (folder / "a.mp4").write_bytes(b"no video")
    if is_picture(case):
        pictures_of(case)
        return
    with open_source(case) as source:
        frame = source.read()
        assert source.rate > 0
        assert frame is None or frame.dtype == np.uint8


# Command lines.
@cache
def _options(command: str) -> list[str]:
    found = import_module(f"posgan_edge.cli.{command.replace('-', '_')}").command
    names = [p.opts[0] for p in found.params if isinstance(p, click.Option)]
    # These look names up, wait for a browser or a stream, or open a window.
    return [n for n in names if n not in ("--osc", "--serve", "--camera", "--help")]


def _starts() -> dict[str, list[str]]:
    pack, faces = str(world() / "pack"), str(world() / "aflw")
    network = str(world() / "n.onnx")
    before = str(REPOSITORY / "benchmarks" / "results" / "aflw2000-edge-gt.json")
    return {
        "run": ["photos/a.jpg", "--box", "179,88,97,90", "--no-window", "--threads", "1"],
        "benchmark": ["--dataset", faces, "--rounds", "0"],
        "build-engine": ["--output", "e.onnx", "--model", network],
        "calibrate": ["--images", faces, "--output", "r.json", "--method", "minmax"],
        "inspect": ["photos/a.jpg"],
        "compare": [before, before],
        "export": ["--model", "edge", "--output", "photos/a.jpg/x.onnx"],
        "pack": ["photos", "--output", "p"],
        "train": ["edge", "--data", pack + "/none", "--output", "t"],
    }


def _lines() -> st.SearchStrategy[tuple[str, ...]]:
    @st.composite
    def line(draw: st.DrawFn) -> tuple[str, ...]:
        command = draw(st.sampled_from(["run", "run", "run", *_starts()]))
        words = [command, *_starts()[command]]
        for _ in range(draw(st.integers(1, 3))):
            text = draw(st.sampled_from(TEXTS))
            if draw(st.integers(0, 2)) and _options(command):
                words += [draw(st.sampled_from(_options(command))), text]
            elif draw(st.booleans()):
                words[draw(st.integers(1, len(words) - 1))] = text
            else:
                words.insert(draw(st.integers(1, len(words))), text)
        return tuple(w for w in words if "\0" not in w)

    return line()


def _files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _line(case: tuple[str, ...], folder: Path) -> None:
    from posgan_edge.cli import main

    (folder / "photos").mkdir()
    picture = data.PORTRAIT.read_bytes()
    (folder / "photos" / "a.jpg").write_bytes(picture)
    for name in ("out.png", "a.json", "a.xyz", "a.mp4", "a.jpg"):
        (folder / name).write_bytes(b"somebody's")
    before = _files(folder)
    argv, sys.argv = sys.argv, ["posgan-edge", *case]
    error = io.StringIO()
    try:
        with contextlib.redirect_stderr(error):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = argv
    after = _files(folder)
    lost = [str(p) for p, content in before.items() if after.get(p) != content]
    assert not lost or "--overwrite" in case, f"lost {lost}"
    left = [p.name for p in after if ".part" in p.name]
    assert not left, f"left {left}"
    assert code in (0, 1, 2, 3, 4), f"exit {code}"
    assert "Traceback" not in error.getvalue()
    if code:
        said = [t for t in error.getvalue().splitlines() if t.lower().startswith("error")]
        # Each picture that cannot be read has its line.
        assert 1 <= len(said) <= len(case), f"{len(said)} lines of errors"
        raise BadInput(said[0])


# The Python API.
@cache
def _face() -> Any:
    from tests.test_bad_input import one_face

    return one_face()


def _values() -> st.SearchStrategy[Any]:
    shapes = st.lists(st.integers(0, 70), max_size=4).map(tuple)
    types = st.sampled_from(["u1", "u2", "i4", "f2", "f4", "f8", "c8", "O", "U2", "?"])

    def filled(shape: tuple[int, ...], kind: str, value: float) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            while np.prod(shape, dtype=float) > 20_000:
                shape = shape[:-1]
            return np.full(shape, value).astype(kind)

    arrays = st.builds(
        filled, shapes, types, st.sampled_from([0, 1, 0.5, np.nan, np.inf, 1e30, -1])
    )
    numbers = st.one_of(st.floats(), st.integers(-(10**20), 10**20))
    named = st.sampled_from([(48, 64, 3), (68, 3), (68, 2), (3, 32, 32), (3, 3), (1, 3, 128, 128)])
    fitting = st.builds(filled, named, types, st.sampled_from([0, 1, np.nan, np.inf, 1e30, -1]))
    return st.one_of(st.sampled_from(ODD), arrays, fitting, numbers, st.text(max_size=5))


@cache
def _calls() -> dict[str, Any]:
    import posgan_edge as pe
    from posgan_edge.faces.cropping import extract_crop
    from posgan_edge.faces.one_euro import OneEuro
    from posgan_edge.geometry.pose import fit_similarity
    from posgan_edge.geometry.sampling import resample_map, sample_map
    from tests.test_bad_input import BOX, GOOD, LAYOUT, TinyEngine

    pipeline = pe.FacePipeline(TinyEngine(), pe.GivenBoxes([BOX]))
    camera = pe.camera_matrix(90, 90, 32, 24)
    return {
        "process": pipeline.process,
        "process boxes": lambda v: pipeline.process(GOOD, v),
        "process most": lambda v: pipeline.process(GOOD, max_faces=v),
        "at_crops": lambda v: pipeline.at_crops(GOOD, v),
        "frame": lambda v: pipeline.process(pe.Frame(GOOD, timestamp=v)),
        "crop": lambda v: pe.Crop(v, 3, 5),
        "crop from": lambda v: pe.Crop.from_landmarks(v),
        "extract": lambda v: extract_crop(v, pe.Crop(20, 20, 30), 8),
        "box": lambda v: pe.FaceBox(0, v, 3, 5),
        "around": pe.FaceBox.around,
        "map": lambda v: pe.PositionMap(v, LAYOUT),
        "resample": lambda v: resample_map(v, 16),
        "sample": lambda v: sample_map(v, LAYOUT.mean_uv),
        "pose": lambda v: pe.fit_pose(v, LAYOUT),
        "similarity": lambda v: fit_similarity(v, v),
        "openness": pe.openness,
        "mesh": pe.face_mesh,
        "colors": lambda v: pe.face_mesh(_face()).colors(v),
        "mesh value": lambda v: pe.Mesh(v, v, v),
        "depth": lambda v: pe.depth_map(_face(), v),
        "depth size": lambda v: pe.depth_map(_face(), v, 5),
        "mask": lambda v: pe.face_mask(_face(), v),
        "texture": lambda v: pe.uv_texture(_face(), v),
        "draw": lambda v: pe.draw_faces(v, [_face()]),
        "draw scale": lambda v: pe.draw_faces(GOOD, [_face()], scale=v),
        "metric": lambda v: pe.metric_pose(_face(), v),
        "metric pupils": lambda v: pe.metric_pose(_face(), camera, pupils_mm=v),
        "camera": lambda v: pe.camera_matrix(v, 1, 2, 3),
        "weak": pe.weak_perspective,
        "blendshapes": pe.blendshapes,
        "smoother": lambda v: pe.FaceSmoother()(_face(), v),
        "smoothing": lambda v: pe.Smoothing(position=v),
        "euro": lambda v: OneEuro(1.0, 1.0)(v, 0.1),
        "save": lambda v: pe.save_mesh(_face(), "a.obj", v),
        "save path": lambda v: pe.save_mesh(_face(), v),
        "layout": pe.load_layout,
        "engine": pe.load_engine,
        "threads": lambda v: pe.load_engine(world() / "n.onnx", threads=v),
        "infer": TinyEngine().infer,
        "read": pe.read_image,
        "boxes": pe.GivenBoxes,
        "track": lambda v: _tracked(v),
    }


def _tracked(value: Any) -> None:
    import posgan_edge as pe
    from tests.test_bad_input import BOX, GOOD, TinyEngine

    with pe.FaceTracker(TinyEngine(), pe.GivenBoxes([BOX]), background=False) as tracker:
        try:
            tracker.update(value, 0.0)
        finally:
            assert len(tracker.update(GOOD, 1.0)) == 1, "the tracker stays broken"


def _arguments() -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.sampled_from(sorted(_calls())), _values())


def _argument(case: tuple[str, Any], folder: Path) -> None:
    name, value = case
    if (
        name in ("save path", "read", "engine")
        and isinstance(value, (int, str))
        and os.sep in str(value)
    ):
        return
    with np.errstate(all="ignore"):
        _calls()[name](value)


TARGETS = [
    Target("list of pictures", lambda: damaged(b"a.jpg\n# a\n*.jpg\n@list.txt\n%d.png\n"), _list),
    Target("source", _sources, _source, 60),
    Target("command line", _lines, _line, 40),
    Target("Python API", _arguments, _argument, 150),
]
