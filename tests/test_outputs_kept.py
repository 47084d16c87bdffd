"""Outputs of commands never replace a file that is not from an earlier call."""

import io
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from posgan_edge.errors import BadInput
from posgan_edge.files import check_writable, scratch_folder
from tests.helpers import data, networks


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what the commands read; paths are relative to it."""
    monkeypatch.chdir(tmp_path)
    networks.write_convolution(tmp_path / "n.onnx")
    data.write_aflw2000(tmp_path / "faces", 1)
    return tmp_path


CALIBRATE = ["calibrate", "--model", "n.onnx", "--images", "faces", "--method", "minmax"]
BENCHMARK = ["benchmark", "--dataset", "faces", "--rounds", "0"]
BUILD = ["build-engine", "--model", "n.onnx"]
#: Command lines, and the file that each is about to write.
OUTPUTS = {
    "benchmark --json": ([*BENCHMARK, "--json", "o.json"], "o.json"),
    "benchmark --report": ([*BENCHMARK, "--report", "r"], "r/report.html"),
    "benchmark --report, Markdown": ([*BENCHMARK, "--report", "r"], "r/report.md"),
    "benchmark --report, JSON": ([*BENCHMARK, "--report", "r"], "r/report.json"),
    "calibrate --output": ([*CALIBRATE, "--output", "o.json"], "o.json"),
    "calibrate --sensitivity": (
        [*CALIBRATE, "--output", "o.json", "--sensitivity", "s"], "s/sensitivity.md",
    ),
    "calibrate --sensitivity, plot": (
        [*CALIBRATE, "--output", "o.json", "--sensitivity", "s"], "s/sensitivity.png",
    ),
    "build-engine --output": ([*BUILD, "--output", "o.onnx"], "o.onnx"),
    "build-engine, manifest": ([*BUILD, "--output", "o.onnx"], "o.onnx.json"),
    "export --output": (["export", "--model", "edge", "--output", "o.onnx"], "o.onnx"),
    "export --safetensors": (
        ["export", "--model", "edge", "--output", "o.onnx", "--safetensors", "o.safetensors"],
        "o.safetensors",
    ),
    "export --landmarks": (
        ["export", "--model", "edge", "--output", "o.onnx", "--landmarks", "o.json"], "o.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_what_somebody_else_wrote_is_kept(run, here, name, kind):
    words, output = OUTPUTS[name]
    path = here / output
    path.parent.mkdir(exist_ok=True)
    if kind == "file":
        path.write_bytes(b"somebody's")
    else:
        path.symlink_to("nowhere")
    before = sorted(p.name for p in here.rglob("*"))
    code, _, err = run(*words)
    assert code == 2, err
    assert f"{words[-1]}" in err
    assert "already exists" in err
    assert path.is_symlink() if kind != "file" else path.read_bytes() == b"somebody's"
    assert sorted(p.name for p in here.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ([*CALIBRATE, "--output", "o.json"], "o.json"),
        ([*BENCHMARK, "--engine", "edge", "--json", "o.json"], "o.json"),
        ([*BUILD, "--output", "o.onnx"], "o.onnx.json"),
    ],
    ids=["calibrate", "benchmark", "build-engine"],
)
def test_what_an_earlier_call_wrote_is_replaced(run, here, words, output):
    data.write_aflw2000(here / "many", 32)
    words = ["many" if words[0] == "calibrate" and word == "faces" else word for word in words]
    for _ in range(2):
        code, _, err = run(*words)
        assert code == 0, err
    assert json.loads((here / output).read_text())["schema"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*BUILD, "--output", "n.onnx"], "n.onnx: is the model itself"),
        ([*BUILD, "--output", "./n.onnx"], "is the model itself"),
        (["export", "--model", "edge", "--output", "e.onnx"], "is an engine with a manifest"),
        (
            ["export", "--model", "edge", "--output", "o.onnx", "--landmarks", "o.onnx"],
            "o.onnx: the landmark table must end in .json",
        ),
        ([*BENCHMARK, "--history", "h.json"], "--history and --sensitivity need --report"),
        ([*BENCHMARK, "--sensitivity", "s.png"], "--history and --sensitivity need --report"),
    ],
)
def test_what_would_be_lost_is_named(run, here, words, message):
    assert run(*BUILD, "--output", "e.onnx")[0] == 0
    before = {p: p.read_bytes() for p in here.iterdir() if p.is_file()}
    code, _, err = run(*words)
    assert code in (2, 4), err
    assert message in err
    assert {p: p.read_bytes() for p in here.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("kind", ["pipe", "device", "in /dev"])
def test_a_file_never_replaces_a_device_or_a_pipe(tmp_path, kind):
    path = Path("/dev/stdout") if kind == "in /dev" else tmp_path / "a.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/null")
    with pytest.raises(BadInput, match="is a device or a pipe, not a file"):
        check_writable(path)


NUMBERS = [
    ["run", "a.jpg", "--patience", "VALUE"],
    ["run", "a.jpg", "--redetect", "VALUE"],
    ["run", "a.jpg", "--fps", "VALUE"],
    ["run", "a.jpg", "--duration", "VALUE"],
    ["demo", "--seconds", "VALUE"],
    ["compare", "a", "b", "--fail-above", "VALUE"],
    ["compare", "a", "b", "--fail-slower", "VALUE"],
    [*BENCHMARK, "--turn", "VALUE"],
    [*BENCHMARK, "--fail-above", "VALUE"],
    [*CALIBRATE, "--output", "o.json", "--percentile", "VALUE"],
    [*BUILD, "--output", "o.onnx", "--max-nme", "VALUE"],
    [*BUILD, "--output", "o.onnx", "--max-pixels", "VALUE"],
]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "x", ""])
@pytest.mark.parametrize("words", NUMBERS, ids=lambda words: f"{words[0]} {words[-2]}")
def test_a_number_that_is_not_finite_is_wrong_usage(run, tmp_path, monkeypatch, words, value):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*[value if word == "VALUE" else word for word in words])
    assert code == 2
    assert words[-2] in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["pack", "benchmark"])
def test_a_seed_is_not_negative(run, command):
    words = ["maps", "--output", "p"] if command == "pack" else ["--dataset", "faces"]
    code, _, err = run(command, *words, "--seed", "-1")
    assert code == 2
    assert "--seed" in err


@pytest.mark.parametrize("step", ["made", "used", "removed"])
def test_a_signal_leaves_no_temporary_folder(tmp_path, monkeypatch, step):
    def then_stopped(function):
        def called(*args, **options):
            found = function(*args, **options)
            signal.raise_signal(signal.SIGINT)
            return found

        return called

    if step == "made":
        monkeypatch.setattr(tempfile, "mkdtemp", then_stopped(tempfile.mkdtemp))
    elif step == "removed":
        monkeypatch.setattr(shutil, "rmtree", then_stopped(shutil.rmtree))

    def use():
        with scratch_folder(inside=tmp_path) as folder:
            (Path(folder) / "a").touch()
            if step == "used":
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        use()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "stream", "message"),
    [
        ((data.PORTRAIT, "--box", "179,88,97,90", "--json", "-"), "stdout", "output takes no"),
        (("-", "--size", "64x64"), "stdin", "input gives no"),
    ],
)
def test_standard_streams_of_a_notebook(run, monkeypatch, words, stream, message):
    """They are text, without bytes below."""
    monkeypatch.setattr(f"sys.{stream}", io.StringIO())
    code, _, err = run("run", *words, "--no-window")
    assert (code, "\n".join(err.splitlines())) == (4, f"error: -: standard {message} bytes here")
