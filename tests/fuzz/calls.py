"""Targets: lists, source names and command lines."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import numpy as np
from hypothesis import strategies as st

from posgan_edge.errors import BadInput
from tests.fuzz.files import REPOSITORY, world, written
from tests.fuzz.mutations import damaged
from tests.fuzz.targets import Target, command_line
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
    (folder / "photos").mkdir()
    picture = data.PORTRAIT.read_bytes()
    (folder / "photos" / "a.jpg").write_bytes(picture)
    for name in ("out.png", "a.json", "a.xyz", "a.mp4", "a.jpg"):
        (folder / name).write_bytes(b"somebody's")
    before = _files(folder)
    code, error = command_line(case)
    after = _files(folder)
    lost = [str(p) for p, content in before.items() if after.get(p) != content]
    assert not lost or "--overwrite" in case, f"lost {lost}"
    left = [p.name for p in after if ".part" in p.name]
    assert not left, f"left {left}"
    assert code in (0, 1, 2, 3, 4), f"exit {code}"
    assert "Traceback" not in error
    if code:
        said = [t for t in error.splitlines() if t.lower().startswith("error")]
        # Each picture that cannot be read has its line.
        assert 1 <= len(said) <= len(case), f"{len(said)} lines of errors"
        raise BadInput(said[0])


TARGETS = [
    Target("list of pictures", lambda: damaged(b"a.jpg\n# a\n*.jpg\n@list.txt\n%d.png\n"), _list),
    Target("source", _sources, _source, 60),
    Target("command line", _lines, _line, 40),
]
