"""How ``benchmarks/gpu_day.sh`` carries the training pack, and what it says if parts are absent."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_day.sh"
TOOLS = ("bash", "setsid", "sha256sum", "split", "tar", "timeout")
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"not all of {TOOLS} are here"
)


@pytest.fixture
def day(tmp_path):
    """Runs the script with a Python that does nothing: (exit code, output)."""
    folders = {name: str(tmp_path / name.lower()) for name in ("CARRIED", "WORK", "OUT")}
    environment = {**os.environ, **folders, "PYTHON": "true", "WAIT": "5"}

    def call(*arguments):
        run = subprocess.run(
            ["bash", SCRIPT, *arguments],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return run.returncode, run.stdout

    return call


@pytest.fixture
def pack(tmp_path):
    folder, rng = tmp_path / "pack", np.random.default_rng(0)
    folder.mkdir()
    for name, size in (("basis", 1 << 10), ("train-0", 40 << 20), ("train-1", 99), ("val", 1)):
        (folder / f"{name}.npz").write_bytes(rng.bytes(size))
    return folder


def test_a_pack_carried_in_parts_arrives_whole(day, pack, tmp_path):
    carried, hold = tmp_path / "carried", tmp_path / "hold"
    assert day("pack", str(pack))[0] == 0
    parts = sorted(carried.glob("part.*"))
    assert len(parts) == 2
    assert max(part.stat().st_size for part in parts) <= 30 << 20
    hold.mkdir()
    parts[1].rename(hold / parts[1].name)
    assert "here: 1 of 2" in day("receive")[1]
    code, said = day("C")
    assert code == 1
    assert "the training pack is not complete: carry the parts that are missing" in said
    parts[0].unlink()
    (hold / parts[1].name).rename(parts[1])
    code, said = day("C", "--optimizer.lr=1e-3")
    assert "here: 2 of 2" in said
    assert "training of edge started: --set optimizer.lr=1e-3" in said
    assert code == 1
    assert "no weights of edge yet" in said  # this Python trains nothing
    for file in pack.iterdir():
        assert (tmp_path / "work" / "data" / file.name).read_bytes() == file.read_bytes()


def test_without_a_command_it_says_how_it_is_used(day):
    code, said = day()
    assert code == 2
    assert "benchmarks/gpu_day.sh receive|A|B|C|D" in said
