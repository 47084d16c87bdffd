"""Targets: every command with bad files, numbers, texts and outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from hypothesis import strategies as st

from posgan_edge.cli import COMMANDS
from posgan_edge.errors import BadInput
from tests.fuzz import binaries, files
from tests.fuzz.files import REPOSITORY
from tests.fuzz.materials import CLASSES, fingerprint, good, put, restore
from tests.fuzz.targets import Target, command_line


@dataclass(frozen=True)
class Invocation:
    """A command line, and files to write before it runs (with surrogates for bytes)."""

    words: tuple[str, ...]
    #: Whether it must be refused, as far as it is known.
    refuse: bool = False
    made: tuple[tuple[str, bytes], ...] = ()
    #: For a process of its own: what standard input and output are.
    streams: str = ""


#: What can be read, its suffixes, and a strategy of damaged content.
_DAMAGED = {t.name: t.cases for t in [*files.TARGETS, *binaries.TARGETS]}
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "picture": ((".jpg", ".png"), "picture"),
    "video": ((".mp4", ".avi"), ""),
    "model": ((".onnx", ".pth", ".safetensors", ".plan"), "ONNX network"),
    "weights": ((".pth", ".safetensors"), "checkpoint .pth"),
    "recipe": ((".yaml",), "training recipe"),
    "build recipe": ((".yaml",), "build recipe"),
    "record": ((".json",), "calibration record"),
    "bench": ((".json",), "benchmark document"),
    "history": ((".json",), ""),
    "faces": (("", ".npz", ".zip"), "human points .npz"),
    "labels": ((".npz", ".npy", ""), ""),
    "pack": (("",), ""),
    "maps": (("",), ""),
    "names": ((".txt",), ""),
    "key": ((".pem",), "signing key"),
    "mask": ((".png",), "picture"),
}
#: What options of each command take; numbers, choices and flags are told by click.
_TAKES: dict[str, dict[str, str]] = {
    "run": {
        "--image": "picture", "--video": "video", "--camera": "video", "--model": "model",
        "--verify": "key",
        "--uv-mask": "mask", "--box": "box", "--size": "size", "--intrinsics": "box",
        "--osc": "port", "--serve": "port", "--token": "text",
        **dict.fromkeys(("--save", "--json", "--csv", "--npz", "--parquet", "--mesh", "--depth",
                         "--mask", "--texture", "--summary"), "output"),
    },
    "demo": {"--output": "folder", "--serve": "port"},
    "benchmark": {
        "--engine": "model", "--reference": "model", "--dataset": "faces",
        "--reannotated": "labels", "--labels": "text", "--exclude": "names", "--report": "folder",
        "--history": "history", "--sensitivity": "mask", "--json": "output", "--baseline": "bench",
        "--peers": "history",
    },
    "calibrate": {"--model": "model", "--images": "faces", "--names": "names", "--output": "output",
                  "--sensitivity": "folder"},
    "build-engine": {
        "--model": "model", "--output": "output", "--recipe": "build recipe",
        "--calibration": "record", "--calibration-images": "faces", "--calibration-names": "names",
        "--keep-fp16": "text", "--compute-capability": "text", "--timing-cache": "output",
        "--sign": "key",
    },
    "export": {"--model": "weights", "--output": "output", "--landmarks": "output",
               "--safetensors": "output"},
    "pack": {"--output": "folder"},
    "train": {"--data": "pack", "--output": "folder", "--aflw2000": "faces", "--set": "set"},
    "triton": {"--model": "model", "--name": "text"},
    "label": {"--output": "folder", "--address": "port", "--model": "model", "--box": "box"},
}  # fmt: skip

#: Good command lines, with the places (word, kind) that are made bad.
_Word = str | tuple[str, str]
_RUN = ["--box", "179,88,97,90", "--no-window", "--threads", "1"]
STARTS: dict[str, list[list[_Word]]] = {
    "run": [
        [("good/a.jpg", "picture"), *_RUN],
        ["--video", ("good/v.mp4", "video"), *_RUN, "--max-frames", "2"],
        ["--camera", ("good/v.mp4", "video"), *_RUN, "--max-frames", "2", "--patience", "0"],
        ["good/a.jpg", *_RUN, "--model", ("good/engine.onnx", "model")],
        ["good/a.jpg", *_RUN, "--passes", "1", ("--save", ""), ("o.png", "output")],
        ["good/v.mp4", *_RUN, ("--save", ""), ("o.mp4", "output")],
        ["synthetic:?seconds=0.1&width=128&height=128", "--no-window", "--json", "o.json"],
    ],
    "demo": [["--seconds", "1", "--faces", "1", "--output", ("o", "folder")]],
    "benchmark": [
        ["--dataset", ("good/aflw", "faces"), "--rounds", "0", "--engine", "edge"],
        ["--dataset", "good/h.npz", "--rounds", "0", "--json", ("o.json", "output")],
        ["--dataset", "good/aflw", "--rounds", "0", "--engine", ("good/n.onnx", "model")],
    ],
    "compare": [[("good/bench.json", "bench"), ("good/bench.json", "bench")]],
    "calibrate": [
        ["--model", "good/n.onnx", "--images", ("good/many", "faces"), "--output",
         ("o.json", "output"), "--method", "minmax"],
        ["--model", ("good/n.onnx", "model"), "--images", "good/many", "--output", "o.json"],
    ],
    "build-engine": [
        ["--model", ("good/n.onnx", "model"), "--output", ("e.onnx", "output")],
        ["--model", "edge", "--output", "e.onnx", "--precision", "int8", "--calibration",
         ("good/record.json", "record")],
        ["--model", ("good/w.pth", "weights"), "--output", "e.onnx", "--precision", "fp16"],
    ],
    "inspect": [[("good/engine.onnx", "model")]],
    "export": [["--model", ("good/w.pth", "weights"), "--output", ("o.onnx", "output")]],
    "pack": [[("good/maps", "maps"), "--output", ("p", "folder"), "--components", "3"]],
    "train": [[("good/train.yaml", "recipe"), "--data", ("good/pack", "pack"), "--output",
               ("t", "folder")]],
    "triton": [[("r", "folder"), "--model", ("good/engine.onnx", "model")]],
    "label": [[("good/a.jpg", "picture"), "--output", ("l", "folder"), "--address", "127.0.0.1:1"]],
    "doctor": [[]],
}  # fmt: skip

TEXTS: dict[str, list[str]] = {
    "number": ["-1", "0", "nan", "inf", "-inf", "1e300", "-1e300", "1e-300", "", "x", "1e",
               "99999999999999999999", "-99999999999", "1.5", "0x10", "1,5", "-0.0", "--", "٣x"],
    "box": ["", "x", "1,2,3", "1,2,3,4,5", "nan,0,1,1", "inf,0,1,1", "0,0,0,0", "5,5,-3,9",
            "1e300,0,1,1", "0,0,1e300,1e300", "-900,-900,10,10", "0,0,1e-300,1", "a,b,c,d", ",,,"],
    "size": ["", "x", "64", "0x0", "-1x5", "1x1", "99999x99999", "axb", "8x8x8", "nanxnan"],
    "port": ["", "x", ":", "-1", "99999999", "127.0.0.1:99999", "127.0.0.1:x", "[::1", "1.5"],
    "text": ["", "(", "[a", "..", "a/b", "x" * 300, "\udcff", "a\nb", "\x1b[31m", "%d", "8.9",
             "*" * 50, "/dev", "nan", " ", "-", "original,", ",", "a\tb", "é"],
    "set": ["", "x", "=", "a.b=1", "epochs=-1", "epochs=nan", "batch_size=1.5", "seed=-1",
            "batch_size=0", "workers=1000", "threads=100000", "workers=-1", "ema=2", "ema=nan",
            "losses.map=nan", "losses.map=inf", "optimizer.lr=1e300", "optimizer.lr=nan",
            "optimizer.max_norm=nan", "optimizer.name=x", "generator.modes=0", "name=[1]",
            "generator.modes=1e9", "generator.modes=99999999", "generator.map_size=0",
            "generator.map_size=99999", "generator.name=unknown", "generator=1", "generator={}",
            "init=bad/random.pth", "init=none.pth", "expressions=bad/random.npz", "a={b: [c",
            "expressions=good/h.npz", "data_format=x", "profiles=nan", "profiles=-1", "profiles=0",
            "closed_eyes=1e300", "augmentation.erase=5", "augmentation.rotation_std=nan",
            "mixed_precision=2", "checkpoint_every=0", "budget_minutes=-1", "seed=1e30", "refit=1",
            "optimizer.warmup_steps=-1", "optimizer.schedule=x", "data_format=folder",
            "adversarial.weight=nan", "expression_weight=nan", "batch_size=65537"],
}  # fmt: skip
#: Texts of these kinds that are refused, whatever the command.
_NEVER_NUMBERS = {"nan", "", "x", "1e", "0x10", "1,5", "--", "٣x"}
#: Options whose number may be of either sign, or anything: with what they take.
#: Files that these commands replace, as an earlier call wrote such ones.
_AGAIN = {
    "export": ("n.onnx", "w.safetensors"), "build-engine": ("engine.onnx", "engine.onnx.json"),
    "benchmark": ("bench.json",), "calibrate": ("record.json",),
}  # fmt: skip
#: Commands, those of many options often and those that take long seldom. `label` loads Ray for
#: seconds each time; its bad input is in tests/test_label.py.
_TRIED = set(COMMANDS) - {"label"}
_OFTEN = sorted([*_TRIED, *["run"] * 5, *["benchmark", "build-engine", "calibrate"] * 2,
                 *_TRIED - {"demo", "export", "doctor"}])  # fmt: skip
#: Most kilobytes of address space for a process of its own.
_MEMORY = 16 << 20
_STREAMS = [*[""] * 4, "no stdin", "no stdout", "no stderr", "none", "full stdout", "closed pipe"]


@cache
def parameters(command: str) -> tuple[click.Option, ...]:
    found = import_module(f"posgan_edge.cli.{command.replace('-', '_')}").command
    options = [p for p in found.params if isinstance(p, click.Option)]
    return tuple(p for p in options if p.opts[0] != "--help")


def kind_of(command: str, option: click.Option) -> str:
    if option.is_flag:
        return "flag"
    if isinstance(option.type, click.Choice):
        return "choice"
    if option.opts[0] in _TAKES.get(command, {}):
        return _TAKES[command][option.opts[0]]
    numbers = ("integer range", "float range", "integer", "float")
    return "number" if option.type.name in numbers else "text"


def _suffix_of(word: str, kind: str) -> str:
    suffix = Path(word).suffix
    return suffix if kind == "output" and suffix else ""


@st.composite
def _bad(
    draw: st.DrawFn, command: str, kind: str, word: str = ""
) -> tuple[str, bool, tuple[tuple[str, bytes], ...]]:
    """A bad word of a kind, whether it must be refused, and the files of it."""
    if kind in TEXTS:
        text = draw(st.sampled_from(TEXTS[kind]))
        return text, kind == "number" and text in _NEVER_NUMBERS, ()
    if kind == "choice":
        return draw(st.sampled_from(["x", "", "EDGE", "fp32,", "nan", "\udcff"])), True, ()
    if kind in ("output", "folder"):
        return draw(_outputs(kind, word)), False, ()
    suffixes, damaged = KINDS[kind]
    if damaged and draw(st.integers(0, 2)) == 0:
        content = draw(_DAMAGED[damaged]())
        if isinstance(content, bytes):
            name = f"made{next((s for s in suffixes if s), '')}"
            return name, False, ((name, content),)
    if kind == "pack" and draw(st.booleans()):
        name, content = draw(_DAMAGED["pack"]())
        return "made", False, ((f"made/{name}", content),)
    bad = draw(st.sampled_from(CLASSES))
    suffix = draw(st.sampled_from(suffixes))
    # A text is a list of names, and a picture a video of one frame.
    harmless = {"names": ("foreign", "truncated", "huge", "nan", "zeros"), "video": ("foreign",)}
    return f"bad/{bad}{suffix}", bad not in harmless.get(kind, ()), ()


def _outputs(kind: str, word: str) -> st.SearchStrategy[str]:
    suffix = Path(word).suffix
    if kind == "output" and not suffix:
        suffixes = [".png", ".json", ".npz", ".mp4", ".obj", ".npy", ".parquet", ".onnx", ""]
    else:
        suffixes = [suffix]
    names = ["theirs/a", "bad/fifo", "bad/folder", "bad/null", "bad/dangling", "bad/circle", "",
             "bad/denied", "good/a.jpg/x", "/dev/null", "/proc/x", "x" * 300, "\udcff", "%d",
             "a\nb", "deep/er/o", "closed/o", "..", "/", ".", "bad/notutf8\udcff", "-", "~/o",
             "good/a", "good/v", "good/bench", "good/engine", "good/n", "theirs",
             "o" * 240]  # fmt: skip
    pair = st.tuples(st.sampled_from(names), st.sampled_from(suffixes))
    return pair.map(
        lambda p: p[0] if p[0] in ("", "..", "/", ".", "-", "/dev/null") else "".join(p)
    )


def _pair(word: _Word) -> tuple[str, str]:
    return (word, "") if isinstance(word, str) else word


@st.composite
def _invocations(draw: st.DrawFn) -> Invocation:
    command = draw(st.sampled_from(_OFTEN))
    start = draw(st.sampled_from(STARTS[command]))
    words: list[str] = [command, *(w if isinstance(w, str) else w[0] for w in start)]
    places = [i for i, w in enumerate(start, 1) if not isinstance(w, str) and w[1]]
    # By place: a second bad word may take the place of the first.
    refused: dict[int, bool] = {}
    no_files: tuple[tuple[str, bytes], ...] = ()
    made = no_files
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        options = parameters(command)
        at = len(words)
        if places and (not options or draw(st.booleans())):
            at = draw(st.sampled_from(places))
            word, kind = _pair(start[at - 1])
            words[at], wrong, files_ = draw(_bad(command, kind, word))
        elif options:
            unused = [o for o in options if o.multiple or not {*o.opts} & {*words}]
            option = draw(st.sampled_from(unused))
            kind = kind_of(command, option)
            flags = [*option.opts, *option.secondary_opts]
            words.append(draw(st.sampled_from(flags)))
            wrong, files_ = False, no_files
            if kind != "flag":
                word, wrong, files_ = draw(_bad(command, kind))
                words.append(word)
        else:
            words.insert(1, draw(st.sampled_from(["x", "", "--x", "-1", "\udcff"])))
            wrong, files_ = True, no_files
        refused[at] = wrong
        made = (*made, *files_)
    return Invocation(tuple(w for w in words if "\0" not in w), any(refused.values()), made)


def _prepared(case: Invocation, folder: Path) -> dict[str, Any]:
    """Writes what a case needs; returns the files that must stay, with their marks."""
    (folder / "good").symlink_to(good())
    (folder / "theirs").mkdir()
    for suffix in ("png", "json", "npz", "mp4", "obj", "npy", "parquet", "onnx", "html"):
        (folder / "theirs" / f"a.{suffix}").write_bytes(b"somebody's")
    (folder / "closed").mkdir(0o555)
    for word in case.words:
        if word.startswith("bad/"):
            put(folder, word)
    for name, content in case.made:
        path = folder / name
        if path.parent != folder and not path.parent.exists():
            path.parent.mkdir()
            for other in (good() / "pack").iterdir():
                (path.parent / other.name).symlink_to(other)
            path.unlink()
        path.write_bytes(content)
    return {**fingerprint(folder), **fingerprint(good())}


def _judged(case: Invocation, folder: Path, before: dict[str, Any], code: int, said: str) -> None:
    """Raises BadInput where the case was refused well, AssertionError where something is wrong."""
    after = {**fingerprint(folder), **fingerprint(good())}
    for name in after.keys() - before.keys():
        if name.startswith(f"{good()}/"):
            Path(name).unlink()
    lost = [name for name, mark in before.items() if after.get(name) != mark]
    restore(lost)
    again = _AGAIN.get(case.words[0], ())
    ours = [
        name for name in lost
        if not ("--overwrite" in case.words and "/theirs/" in name) and Path(name).name not in again
    ]  # fmt: skip
    assert not ours, f"lost {Path(ours[0]).name}"
    left = [Path(name).name for name in after if ".part" in name]
    assert not left, f"left {left[0]}"
    assert "Traceback" not in said, "Traceback: " + said.strip().splitlines()[-1]
    assert code in (0, 1, 2, 3, 4, 141), f"exit {code}"
    if code == 141:
        raise BadInput("the pipe was closed")
    if not code:
        assert not case.refuse, "accepted"
        return
    lines = [t for t in said.splitlines() if t.lower().startswith("error")]
    # Each picture or engine that cannot be read has its line.
    assert 1 <= len(lines) <= len(case.words), f"{len(lines)} lines of errors"
    raise BadInput(lines[-1])


def _inside(case: Invocation, folder: Path) -> None:
    """Runs a case in this process."""
    before = _prepared(case, folder)
    _judged(case, folder, before, *command_line(case.words))


def _process(case: Invocation, folder: Path) -> None:
    """Runs a case as a process of its own, sometimes with odd standard streams."""
    before = _prepared(case, folder)
    closed = {"no stdin": "<&-", "no stdout": ">&-", "none": "<&- >&-", "no stderr": "2>&-", "": "",
              "full stdout": ">/dev/full", "closed pipe": "| true"}[case.streams]  # fmt: skip
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'ulimit -v {_MEMORY}; "$@" {closed}', "bash",
         sys.executable, "-m", "posgan_edge", *case.words],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "DISPLAY": "", "WAYLAND_DISPLAY": ""},
    )  # fmt: skip
    code, said = done.returncode, done.stderr.decode(errors="surrogateescape")
    assert code < 128 or code == 141, f"signal {code - 128}"
    if case.streams == "no stderr" and code:
        said = "error: not seen"
    _judged(case, folder, before, code, said)


def _processes() -> st.SearchStrategy[Invocation]:
    def with_streams(case: Invocation, streams: str) -> Invocation:
        return Invocation(case.words, case.refuse, case.made, streams)

    return st.builds(with_streams, _invocations(), st.sampled_from(_STREAMS))


TARGETS = [
    Target("every command", _invocations, _inside, 40, quiet=60),
    Target("every command, a process", _processes, _process, 2, quiet=60),
]
