"""Parts of the site that are made when it is built: the Python API, the tables of recipe keys, and
pages of files outside this folder."""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: Files of the repository that are pages of the site too.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "studies.md",
    "benchmarks/results/training.md": "training-notes.md",
    "cpp_ext/README.md": "kernels.md",
    "examples/README.md": "examples.md",
    "examples/cpp/README.md": "cpp.md",
    "posgan_edge/assets/MODEL_CARD.md": "model-card.md",
    "README.md": "index.md",
}
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_startup(**_: Any) -> None:
    """Gives the commands the names by which they are called."""
    cli = import_module("posgan_edge.cli").cli
    for name in cli.list_commands(None):
        cli.get_command(None, name).name = name


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages of ``PAGES`` and the files that pages link to."""
    for source, page in PAGES.items():
        if page != "index.md":
            files.append(File.generated(config, page, content=page_text(ROOT / source)))
    linked = set()
    for source in [*DOCS.glob("*.md"), *(ROOT / source for source in PAGES)]:
        for target, _ in _LINK.findall(source.read_text()):
            path = (source.parent / target).resolve()
            if "://" not in target and path.is_file() and not _page_of(path):
                linked.add(path)
    for path in sorted(linked):
        if DOCS not in path.parents:
            uri = f"repository/{path.relative_to(ROOT)}"
            made = File.generated(config, uri, abs_src_path=str(path))
            made.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(made)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads links of a page into the site, and fills what is made from the code."""
    source = DOCS / page.file.src_uri
    if source.is_file():
        markdown = _with_links(markdown, source)
    for mark, make in GENERATED.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return markdown


def page_text(source: Path) -> str:
    """A file of the repository as a page of the site."""
    return _with_links(source.read_text(), source)


def _with_links(text: str, source: Path) -> str:
    def lead(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        path = (source.parent / target).resolve()
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        if page := _page_of(path):
            return f"]({page}{anchor})"
        if DOCS in path.parents:
            return f"]({os.path.relpath(path, DOCS)}{anchor})"
        if path.is_dir():  # the site holds files alone
            readme = path / "README.md"
            return f"]({_page_of(readme)})" if _page_of(readme) else "](index.md)"
        return f"](repository/{path.relative_to(ROOT)})"

    return _LINK.sub(lead, text)


def _page_of(path: Path) -> str | None:
    if path.suffix == ".md" and path.parent == DOCS:
        return path.name
    return PAGES.get(str(path.relative_to(ROOT))) if ROOT in path.parents else None


#: Headings of the Python API by the room that a name comes from.
ROOMS = {
    "faces": "Faces",
    "engines": "Engines",
    "geometry": "Geometry",
    "render": "Drawing and files",
    "images": "Pictures",
    "errors": "Errors",
}


def python_api() -> str:
    """Every name of ``posgan_edge.__all__``, under the room it comes from."""
    package = import_module("posgan_edge")
    rooms: dict[str, list[str]] = {}
    for name in package.__all__:
        if name == "__version__":
            continue
        place = _home(package, name)
        entry = f"::: {place}.{name}\n"
        if not callable(getattr(package, name)):
            entry += f"    options: {{show_if_no_docstring: true}}\n\n{_comment(place, name)}\n"
        rooms.setdefault(place.split(".")[1], []).append(entry)
    parts = []
    for room in sorted(rooms, key=lambda r: list(ROOMS).index(r) if r in ROOMS else len(ROOMS)):
        parts.append(f"## {ROOMS.get(room, room.capitalize())}\n")
        parts += rooms[room]
    return "\n".join(parts)


def _comment(module: str, name: str) -> str:
    """The ``#:`` comment above a constant."""
    source = Path(str(import_module(module).__file__)).read_text()
    found = re.search(rf"((?:^#:.*\n)+){name}\b", source, re.MULTILINE)
    return " ".join(found[1].replace("#:", "").split()) if found else ""


def _home(package: Any, name: str) -> str:
    """The module that defines a public name."""
    value = getattr(package, name)
    if home := getattr(value, "__module__", ""):
        return home
    stub = Path(package.__file__).with_suffix(".pyi")
    tree = ast.parse((stub if stub.is_file() else Path(package.__file__)).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return f"posgan_edge.{node.module}" if node.level else str(node.module)
    raise LookupError(f"{name}: where it is defined is not known")


def recipe_keys() -> str:
    """A table of keys, defaults and meanings for each part of a training recipe."""
    recipe = import_module("posgan_edge.training.recipe")
    parts = {"": recipe.Recipe}
    hints = vars(recipe.Recipe)["__annotations__"]
    for key, hint in hints.items():
        section = getattr(recipe, str(hint), None)
        if isinstance(section, type):
            parts[f"{key}."] = section
    return "\n".join(_keys(prefix, section) for prefix, section in parts.items())


def _keys(prefix: str, section: type) -> str:
    title = f"### `{prefix[:-1]}`" if prefix else "### The run"
    rows = [title, "", (section.__doc__ or "").strip(), "", "| key | default | meaning |",
            "|---|---|---|"]  # fmt: skip
    meanings = field_comments(section)
    for name, default in _defaults(section).items():
        if default is not None:
            rows.append(f"| `{prefix}{name}` | {default} | {meanings[name]} |")
    return "\n".join(rows) + "\n"


def _defaults(section: type) -> dict[str, str | None]:
    """What is shown as each field's default; None for a section of its own."""
    shown: dict[str, str | None] = {}
    if issubclass(section, msgspec.Struct):
        for field in msgspec.structs.fields(section):
            if field.default_factory is not msgspec.NODEFAULT:
                value = field.default_factory()
                shown[field.name] = None if isinstance(value, msgspec.Struct) else f"`{value!r}`"
            else:
                value = field.default
                shown[field.name] = "required" if value is msgspec.NODEFAULT else f"`{value!r}`"
        return shown
    from dataclasses import MISSING, fields

    for entry in fields(section):
        if entry.default_factory is not MISSING:
            shown[entry.name] = None
        else:
            shown[entry.name] = "required" if entry.default is MISSING else f"`{entry.default!r}`"
    return shown


def field_comments(section: type) -> dict[str, str]:
    """The comment at each field of a class, from its source. Raises LookupError without one."""
    import inspect

    source = inspect.getsource(section)
    found: dict[str, str] = {}
    pending: list[str] = []
    field = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.line.strip()
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("#: ").strip()
            if line.startswith("#"):
                pending.append(text)
            else:
                found[field] = " ".join([*pending, text])
        elif token.type == tokenize.NAME and re.match(rf"{token.string}\s*:", line):
            field = token.string
            if pending:
                found[field] = " ".join(pending)
        elif token.type == tokenize.NEWLINE:
            pending = []
    for name in _defaults(section):
        found.setdefault(name, MEANINGS.get(f"{section.__name__}.{name}", ""))
        if not found[name] and _defaults(section)[name] is not None:
            raise LookupError(f"{section.__name__}.{name} has no comment that says what it means")
    return found


#: Meanings of keys that have no comment in the source.
MEANINGS = {
    "Augmentation.flip": "probability of mirroring",
    "Augmentation.rotation_std": "spread of the turn, degrees",
    "Augmentation.scale_std": "spread of the logarithm of the scale",
    "Augmentation.shift_std": "spread of the shift in x and y, parts of the crop's side",
    "Augmentation.color": "probability of other gains and offsets of the colours",
    "Augmentation.grey": "probability of a grey picture",
    "Augmentation.blur": "probability of a Gaussian blur over 3 or 5 pixels",
    "Augmentation.low_resolution": "probability of a picture made smaller and larger again",
    "Augmentation.noise": "probability of noise of 2 to 10 grey levels",
    "Augmentation.erase": "probability of rectangles of one colour",
    "Augmentation.erase_most": "most rectangles in one picture",
    "Losses.map": "weight of the L1 distance of the whole map",
    "Losses.landmarks": "weight of the distance of the 68 landmarks in x and y",
    "Losses.depth": "weight of the L1 distance of the landmarks in z",
    "Optimizer.name": "`adamw`, `adam`, or `muon` (Muon for matrices, AdamW for the rest)",
    "Optimizer.lr": "highest learning rate",
    "Optimizer.betas": "Adam's two averaging factors",
    "Optimizer.weight_decay": "decoupled weight decay (not with `adam`)",
    "Optimizer.decay": "factor of the learning rate for each epoch of `exponential`",
    "Optimizer.warmup_steps": "steps in which the learning rate rises from zero",
    "Optimizer.clip_norm": "largest norm of the gradient",
    "Adversarial.enabled": "train with a discriminator",
    "Adversarial.weight": "weight of the adversarial term",
    "Adversarial.ngf": "width of the discriminator",
    "Adversarial.lr": "the discriminator's learning rate",
    "Adversarial.gamma": "BEGAN's ratio of the generated and the real loss",
    "Adversarial.lambda_k": "step of BEGAN's balance k",
    "Adversarial.pretrain_epochs": "epochs of the discriminator alone before the first",
    "Recipe.name": "name of the run",
    "Recipe.generator": "`name` (`edge` or `unet`) and that network's own options",
    "Recipe.epochs": "how often the whole training set is drawn",
    "Recipe.batch_size": "faces in a step, for each process",
    "Recipe.seed": "seed of the weights, the order and the random changes",
    "Recipe.workers": "processes that load pictures",
    "Recipe.ema": "factor of the averaged weights; 0: the weights themselves",
    "Recipe.checkpoint_every": "epochs between two checkpoints",
    "Recipe.expression_weight": "weight of those shapes beside the pack's maps",
    "Recipe.mixed_precision": "bfloat16 on a GPU",
}
#: Marks in pages, and what takes their place.
GENERATED = {"<!-- python-api -->": python_api, "<!-- recipe-keys -->": recipe_keys}
