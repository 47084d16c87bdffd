import os
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, Command, Ended, Place, write_key, write_weights
from tests.faults.commands import write_world as made

#: Trials of each command and signal, and where their random numbers begin.
TRIALS = int(os.environ.get("POSGAN_FAULTS", "1"))
SEED = os.environ.get("POSGAN_FAULTS_SEED", "0")


def trial_of(item):
    return item.callspec.params.get("trial", 0) if hasattr(item, "callspec") else 0


def pytest_collection_modifyitems(items):
    """Sorts by trial: a long run that is cut short has then tried every command alike."""
    items.sort(key=trial_of)


class World:
    """The files that all commands read, and what each command does when nothing disturbs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: dict[str, tuple[Place, Ended, int]] = {}
        self.path = made(folder / "world")
        write_key(self.path / "key.pem")

    def place(self, folder: Path) -> Place:
        return Place(self.path, folder)

    def whole(self, command: Command) -> tuple[Place, Ended, int]:
        """An undisturbed run: its place, how it ended, and its number of file events."""
        for package in command.needs:
            pytest.importorskip(package)
        if command.name == "export" and not (self.path / "weights.safetensors").exists():
            write_weights(self.path / "weights.safetensors")
        if command.name not in self._whole:
            place = self.place(self.folder / command.name)
            ended = place.run(command)
            assert ended.code == 0, ended
            self._whole[command.name] = place, ended, int(ended.err.split()[-1])
        return self._whole[command.name]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("faults"))


@pytest.fixture(params=COMMANDS, ids=lambda command: command.name)
def command(request):
    return request.param
