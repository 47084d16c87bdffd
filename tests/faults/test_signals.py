"""Every command that writes, stopped or killed at random moments.

Moments are drawn from a seed: one trial for each command and signal here, POSGAN_FAULTS=40 for
forty. A trial sends its signal when the command touches a file for the Nth time, or after a time.
"""

import json
import random
import signal
from pathlib import Path

import pytest
import torch

from posgan_edge.engines.manifest import read_checked
from posgan_edge.engines.signing import signed_manifest
from tests.faults.commands import (
    LEFT,
    SOON,
    Place,
    contents,
    files_of,
    is_left,
    temporary,
)
from tests.faults.conftest import SEED, TRIALS
from tests.faults.readers import check_whole

MINE = {"mine.txt": b"mine", "depth.png": b"mine too"}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
#: What PyTorch makes in the folder for temporary files.
CACHES = ("torchinductor_root", "torchinductor_user")

#: What a killed command leaves in the folder for temporary files.
OURS = ("posgan-edge-", "pymp-", "torch", "ort.quant.")


def disturbed(world, command, number, trial, folder):
    """(place, how it ended, what was done) of a run that gets a signal at a random moment."""
    _, whole, events = world.whole(command)
    rng = random.Random(f"{SEED} {command.name} {number} {trial}")
    place = world.place(folder)
    for name, content in MINE.items():
        (place.out / name).write_bytes(content)
    if rng.random() < 0.6:
        event = rng.randint(1, events)
        return place, place.run(command, number=number, event=event), f"event {event} of {events}"
    after = rng.uniform(0.0, whole.seconds)
    return place, place.run(command, number=number, after=after), f"after {after:.2f} s"


def check_files(place: Place, killed: bool = False) -> None:
    """Every file that is there is whole, and what was there before is as it was."""
    for name, path in files_of(place.out).items():
        if name in MINE:
            assert path.read_bytes() == MINE[name]
        elif not (killed and is_left(path)):
            check_whole(path)
    left = [n.name for n in place.tmp.iterdir() if not n.name.startswith(CACHES)]
    if killed:
        assert all(name.startswith(OURS) for name in left), left
        assert all(LEFT.search(name) for name in temporary(place.out)), temporary(place.out)
    else:
        if (place.out / "e.onnx.json").exists():
            manifest = signed_manifest(place.out / "e.onnx", place.world / "key.pub")
            read_checked(place.out / "e.onnx", manifest)
        assert not left
        assert not temporary(place.out)


def state_of(place):
    """What a training run has learned, without its clock; None before anything was saved."""
    path = place.out / "run" / "last.pth"
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    history = [{**entry, "minutes": 0} for entry in state["history"]]
    weights = {k: v.tolist() for k, v in state["generator_ema"]["weights"].items()}
    return weights, history, state["step"]


def check_next(world, command, place):
    """The same command does its whole work in the folder that a stopped one left."""
    whole, _, _ = world.whole(command)
    if command.name == "triton" and set(files_of(place.out)) >= set(files_of(whole.out)):
        return  # it was killed after its work, and replaces nothing
    resumed = command.name != "train" or state_of(place) is not None
    ended = place.run(command, again=resumed)
    assert ended.code == 0, ended
    names = {n for n in files_of(place.out) if not is_left(Path(n)) and n not in MINE}
    assert names == set(files_of(whole.out))
    check_files(place, killed=True)
    if command.name == "train":
        assert state_of(place) == state_of(whole)
        entries = json.loads((place.out / "run" / "history.json").read_text())
        assert [entry["epoch"] for entry in entries] == [1, 2, 3]
        assert all("nme_original" in entry for entry in entries)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_leaves_whole_files(world, command, number, trial, tmp_path):
    world.whole(command)
    before = contents(world.path)
    place, ended, moment = disturbed(world, command, number, trial, tmp_path)
    print(command.name, moment, ended)
    assert ended.late < SOON
    if ended.code == -number:
        # Python itself ends: before the program's first line, or after its last.
        done = set(files_of(world.whole(command)[0].out)) | set(MINE)
        assert set(files_of(place.out)) in (set(MINE), done)
    else:
        assert ended.code in (CODES[number], 0)
        assert "Traceback" not in ended.err
        assert "Exception ignored" not in ended.err
    check_files(place)
    assert contents(world.path) == before
    if command.name == "train":
        check_next(world, command, place)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_command_that_is_killed_leaves_whole_files(world, command, trial, tmp_path):
    world.whole(command)
    before = contents(world.path)
    place, ended, moment = disturbed(world, command, signal.SIGKILL, trial, tmp_path)
    print(command.name, moment, ended)
    assert ended.code in (-signal.SIGKILL, 0)
    check_files(place, killed=True)
    assert contents(world.path) == before
    check_next(world, command, place)
