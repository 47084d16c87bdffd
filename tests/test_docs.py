"""The documents are true: their Python runs, their commands and files exist; the site is built."""

import html
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import posgan_edge
from posgan_edge.cli import COMMANDS, cli
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT
from tests.helpers.there import there

ROOT = Path(__file__).parents[1]
CONTEXT = click.Context(cli)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [
    *PAGES, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md",
    ROOT / "cpp_ext" / "README.md", ROOT / "posgan_edge" / "assets" / "MODEL_CARD.md",
    ROOT / "benchmarks" / "results" / "training.md", ROOT / "examples" / "README.md",
    ROOT / "examples" / "cpp" / "README.md", ROOT / "export" / "README.md",
    ROOT / "calibration" / "README.md",
]  # fmt: skip


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "path", [path for path in PAGES if blocks(path, "python")], ids=lambda p: p.name
)
def test_python_in_documents_runs(path, tmp_path, monkeypatch):
    pytest.importorskip("mediapipe")
    pytest.importorskip("trimesh")
    monkeypatch.chdir(tmp_path)
    shutil.copy(PORTRAIT, tmp_path / "photo.jpg")
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), {"image": read_image(PORTRAIT), "timestamp": 0.0})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+?)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_are_named_exist(path):
    """Source files in backticks, as seen from the checkout, the package or the document."""
    for name in re.findall(
        r"`((?:[\w-]+/)+[\w-]+\.(?:py|h|cpp|cu|yaml|toml|md))`", path.read_text()
    ):
        folders = (ROOT, ROOT / "posgan_edge", path.parent)
        assert any((folder / name).exists() for folder in folders), name


def shell_lines():
    """(document, line) of every command in a block of shell, and of those within text."""
    for path in DOCUMENTS:
        inline = re.findall(r"`((?:posgan-edge [a-z]|python \w+/|make )[^`]+)`", path.read_text())
        text = "\n".join([*blocks(path, "sh"), *inline])
        for line in text.replace("\\\n", " ").splitlines():
            if line := line.partition(" #")[0].strip():
                yield str(path.relative_to(ROOT)), line


def lines_of(program):
    return sorted({pair for pair in shell_lines() if pair[1].split()[0] == program})


def test_all_kinds_of_command_are_found():
    assert len(lines_of("posgan-edge")) > 60
    assert len(lines_of("pip")) > 8
    assert {document for document, _ in shell_lines()} >= {"README.md", "docs/training.md"}


@pytest.mark.parametrize(("document", "line"), lines_of("posgan-edge"))
def test_commands_and_options_exist(document, line):
    words = shlex.split(line)[1:]
    command = cli.get_command(CONTEXT, words[0])
    assert command is not None, words[0]
    known = {name for p in command.params for name in [*p.opts, *p.secondary_opts]}
    for word in words[1:]:
        if word.startswith("--"):
            assert word in known, f"{words[0]} {word}"
        elif word.startswith(("export/", "calibration/", "posgan_edge/")):
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name):
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert not silent


@pytest.mark.parametrize(("document", "line"), [*lines_of("pip"), *lines_of("make")])
def test_extras_and_targets_exist(document, line):
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dep")[2]
    for names in re.findall(r"\.\[([\w,-]+)\]", line):
        for name in names.split(","):
            assert re.search(rf"^{name} = \[", extras, re.MULTILINE), name
    if line.startswith("make "):
        target = line.split()[1]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_the_first_page_names_every_extra():
    text = (ROOT / "pyproject.toml").read_text()
    extras = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    table = (ROOT / "docs" / "index.md").read_text().partition("| extra |")[2].partition("\n\n")[0]
    named = re.findall(r"`([\w-]+)`", table)
    assert sorted(named) == sorted(re.findall(r"^([\w-]+) = \[", extras, re.MULTILINE))


@pytest.mark.parametrize(("document", "line"), lines_of("python"))
def test_scripts_exist(document, line):
    _, script, *rest = line.split()
    if script == "-m":
        assert (ROOT / rest[0]).is_dir() or (ROOT / "cpp_ext" / rest[0]).is_dir(), rest[0]
    else:
        assert (ROOT / script).is_file(), script


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation site, built as ``make docs`` builds it."""
    pytest.importorskip("mkdocs_click")
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    return folder


def shown(page):
    """The text of a page's article."""
    article = page.read_text().partition("<article")[2].partition("</article>")[0]
    return html.unescape(re.sub(r"<[^>]+>", "", article))


def test_the_site_names_all_that_is_public(site):
    names = set(posgan_edge.__all__) - {"__version__"}
    ids = re.findall(r'id="posgan_edge\.([\w.]+)"', (site / "python.html").read_text())
    assert names <= {path.rpartition(".")[2] for path in ids}
    assert ">>> from posgan_edge import FaceBox" in shown(site / "python.html")
    commands = shown(site / "cli.html")
    for name in cli.list_commands(CONTEXT):
        assert f"posgan-edge {name} [OPTIONS]" in commands
        for parameter in there(cli.get_command(CONTEXT, name)).params:
            assert parameter.opts[0] in commands or not parameter.opts[0].startswith("-")


def test_the_site_has_every_recipe_key_with_its_values_default_and_meaning(site):
    rows = re.findall(
        r"<td><code>([\w.]+)</code></td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>",
        (site / "training.html").read_text().partition('id="keys-of-a-recipe"')[2],
    )
    table = {key: [html.unescape(re.sub("<.*?>", "", c)) for c in cells] for key, *cells in rows}
    expected = {
        "generator": ["a mapping", "required"],
        "generator.map_size": ["4 to 4096, whole", "128"],
        "epochs": ["at least 1, whole", "40"],
        "optimizer.lr": ["above 0", "0.002"],
        "init": ["text", '""'],
        "optimizer.name": ["adamw, adam, muon", '"adamw"'],
        "optimizer.betas": ["2 numbers, each 0 to below 1", "[0.9, 0.99]"],
        "augmentation.flip": ["0 to 1", "0.5"],
        "adversarial.enabled": ["true, false", "false"],
    }
    assert {key: table[key][:2] for key in expected} == expected
    assert table["ema"][2] == "factor of the averaged weights; 0: the weights themselves"
    assert all(all(cells) for cells in table.values())
    assert set(recipe_keys()) == set(table)


def recipe_keys():
    """The keys of a recipe, by the document that a run saves of it."""
    from posgan_edge.documents import plain
    from posgan_edge.models.config import EdgeConfig, UNetConfig
    from posgan_edge.training.recipe import Recipe

    for config in (EdgeConfig(), UNetConfig()):
        yield from (f"generator.{key}" for key in plain(config))
    for key, value in plain(Recipe("r", {})).items():
        if isinstance(value, dict) and key != "generator":
            yield from (f"{key}.{inner}" for inner in value)
        else:
            yield key


def test_the_site_fetches_nothing_from_elsewhere(site):
    for page in site.glob("*.html"):
        fetched = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?([^\"' >]+)", page.read_text()
        )
        assert not [url for url in fetched if "//" in url], page.name
