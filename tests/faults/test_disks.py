"""Every command that writes, on a disk that becomes full and in a folder that cannot be written."""

import os
import shutil
import subprocess

import pytest

from tests.faults.commands import Place, files_of
from tests.faults.test_signals import MINE, check_files

PAGE = os.sysconf("SC_PAGE_SIZE")


def mounted(folder, size):
    """A disk of its own of so many bytes; skips where this user may not mount one."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "posgan-faults", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user cannot mount a small disk")


@pytest.fixture
def place(world, tmp_path):
    made = world.place(tmp_path)
    yield made
    if os.path.ismount(made.out):
        subprocess.run(["umount", "-l", str(made.out)], check=True)


def with_mine(place: Place) -> None:
    for name, content in MINE.items():
        (place.out / name).write_bytes(content)


def refused(ended):
    assert ended.code == 4, ended
    assert "Traceback" not in ended.err
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended


@pytest.mark.slow
def test_a_full_disk(world, command, place):
    """There is room for half of what the command writes."""
    whole, _, _ = world.whole(command)
    pages = sum(-(-p.stat().st_size // PAGE) for p in files_of(whole.out).values())
    mounted(place.out, (len(MINE) + pages // 2) * PAGE)
    with_mine(place)
    ended = place.run(command)
    refused(ended)
    assert "No space left on device" in ended.err or "is the disk full?" in ended.err
    check_files(place)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(world, command, place):
    world.whole(command)
    mounted(place.out, 1 << 20)
    with_mine(place)
    subprocess.run(["mount", "-o", "remount,ro", str(place.out)], check=True)
    ended = place.run(command)
    refused(ended)
    assert "Read-only file system" in ended.err
    assert {n: p.read_bytes() for n, p in files_of(place.out).items()} == MINE
