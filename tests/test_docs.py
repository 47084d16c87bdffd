"""The documents are true: their Python runs, their commands and files exist."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from posgan_edge.cli import cli
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md", ROOT / "docs" / "live.md", ROOT / "benchmarks" / "README.md",
    ROOT / "cpp_ext" / "README.md", ROOT / "posgan_edge" / "assets" / "MODEL_CARD.md",
    ROOT / "benchmarks" / "results" / "training.md",
]  # fmt: skip


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "docs" / "live.md"], ids=lambda p: p.name
)
def test_python_in_documents_runs(path, tmp_path, monkeypatch):
    pytest.importorskip("mediapipe")
    pytest.importorskip("trimesh")
    monkeypatch.chdir(tmp_path)
    shutil.copy(PORTRAIT, tmp_path / "photo.jpg")
    assert blocks(path, "python")
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), {"image": read_image(PORTRAIT), "timestamp": 0.0})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+?)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def commands():
    for path in DOCUMENTS:
        text = (
            "\n".join(blocks(path, "sh"))
            + "\n"
            + "\n".join(re.findall(r"`(posgan-edge [^`]+)`", path.read_text()))
        )
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("posgan-edge "):
                yield path.name, line.partition("#")[0].strip()


@pytest.mark.parametrize(("document", "line"), sorted(set(commands())))
def test_commands_and_options_exist(document, line):
    words = shlex.split(line)[1:]
    command = cli.get_command(None, words[0])
    assert command is not None, words[0]
    known = {name for p in command.params for name in [*p.opts, *p.secondary_opts]}
    for word in words[1:]:
        if word.startswith("--"):
            assert word in known, f"{words[0]} {word}"
