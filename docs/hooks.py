"""Parts of the site that are made when it is built: the Python API, the tables of recipe keys, and
pages of files outside this folder."""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import re
import tokenize
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from mkdocs.structure.files import File, InclusionLevel
from msgspec import NODEFAULT, Struct, structs

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
    for file in [*DOCS.glob("*.md"), *(ROOT / source for source in PAGES)]:
        for target, _ in _LINK.findall(file.read_text()):
            path = (file.parent / target).resolve()
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


#: Headings of the Python API by the folder that a name comes from.
FOLDERS = {
    "faces": "Faces",
    "engines": "Engines",
    "geometry": "Geometry",
    "render": "Drawing and files",
    "images": "Pictures",
    "jobs": "Many pictures",
    "errors": "Errors",
}


def python_api() -> str:
    """Every name of ``posgan_edge.__all__``, under the folder it comes from."""
    package = import_module("posgan_edge")
    folders: dict[str, list[str]] = {}
    for name in package.__all__:
        if name == "__version__":
            continue
        place = _home(package, name)
        entry = f"::: {place}.{name}\n"
        if not callable(getattr(package, name)):
            entry += f"    options: {{show_if_no_docstring: true}}\n\n{_comment(place, name)}\n"
        folders.setdefault(place.split(".")[1], []).append(entry)
    parts = []
    for folder in sorted(
        folders, key=lambda r: list(FOLDERS).index(r) if r in FOLDERS else len(FOLDERS)
    ):
        parts.append(f"## {FOLDERS.get(folder, folder.capitalize())}\n")
        parts += folders[folder]
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
    """A table of keys, values, defaults and meanings for each part of a training recipe."""
    recipe = import_module("posgan_edge.training.recipe").Recipe
    parts = {"": recipe}
    for field in structs.fields(recipe):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            parts[f"{field.name}."] = field.type
    tables = [_keys(prefix, section) for prefix, section in parts.items()]
    for name, (_, config) in import_module("posgan_edge.models.registry").GENERATORS.items():
        tables.insert(1 - len(parts), _keys("generator.", config, f"generator, name: {name}"))
    return "\n".join(tables)


def _keys(prefix: str, section: type[Struct], title: str = "") -> str:
    title = "### " + (f"`{title or prefix[:-1]}`" if prefix else "The run")
    rows = [title, "", (section.__doc__ or "").strip(), "", "| key | values | default | meaning |",
            "|---|---|---|---|"]  # fmt: skip
    comments = field_comments(section)
    for field in structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            continue
        if field.name not in comments:
            raise LookupError(f"{section.__name__}.{field.name} has no comment")
        default = "required" if field.default is NODEFAULT else f"`{_yaml(field.default)}`"
        name, values = f"`{prefix}{field.name}`", _values(field.type)
        rows.append(f"| {name} | {values} | {default} | {comments[field.name]} |")
    return "\n".join(rows) + "\n"


def _yaml(value: Any) -> str:
    """A default as a recipe has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value)


def _values(hint: Any) -> str:
    """The values that a key takes, in words."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"{len(get_args(hint))} numbers, each {_values(get_args(hint)[0])}"
    if get_origin(hint) is Annotated:
        kind, *limits = get_args(hint)
        low, most = limits[0].ge, limits[0].le
        if low is None:
            return "a list"
        words = "above 0" if 0 < low < 1e-6 else f"at least {low:g}"
        if most is None:
            words = f"{low:g} to below {limits[0].lt:g}"
        elif most < 1e6:  # larger limits only catch slips
            words = f"{words}, at most {most:g}" if 0 < low < 1e-6 else f"{low:g} to {most:g}"
        return words + (", whole" if kind is int else "")
    return {bool: "`true`, `false`", str: "text"}.get(hint, "a mapping")


def field_comments(section: type) -> dict[str, str]:
    """The comments at or above the fields of a class, from its source."""
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
    return found


#: Marks in pages, and what takes their place.
GENERATED = {"<!-- python-api -->": python_api, "<!-- recipe-keys -->": recipe_keys}
