"""The plan of the package: imports go down, files are small, running loads little."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.data import read_lines

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "posgan_edge"

#: Top to bottom, as docs/architecture.md draws them.
LAYERS = (
    ("cli",),
    ("training", "evaluation", "jobs"),
    ("build", "live"),
    ("render",),
    ("faces",),
    ("engines", "models"),
    ("geometry",),
    ("system", "documents", "images", "timing"),
    ("files", "progress", "assets", "archives"),
    ("errors", "arrays", "closing"),
)
LAYER = {folder: -number for number, folders in enumerate(LAYERS) for folder in folders}
#: Folders of one layer, of which the first may import the second.
BESIDE = {
    ("training", "evaluation"),
    ("jobs", "evaluation"),
    ("engines", "models"),
    ("documents", "images"),
    ("arrays", "errors"),
}
#: Lines that no file reaches.
LIMIT = 300

MODULES = {
    ".".join(("posgan_edge", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports_of(module, path):
    """The modules of the package that a file imports anywhere: at its top, in its functions, and
    for type checking alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in within]
            # The version is set before anything else of the package is loaded.
            if node.module == "posgan_edge" and [a.name for a in node.names] == ["__version__"]:
                continue
        else:
            continue
        yield from (name for name in names if name in MODULES and name != module)


IMPORTS = {module: set(imports_of(module, path)) for module, path in MODULES.items()}


def folder_of(module):
    return module.split(".")[1] if "." in module else None


def test_every_folder_has_a_layer():
    folders = {folder_of(module) for module in MODULES} - {None, "__main__"}
    assert folders <= set(LAYER), folders - set(LAYER)


def test_the_document_draws_these_layers():
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawing = text.partition("## The layers")[2].partition("```text")[2].partition("```")[0]
    drawn = [set(line.split()[1:]) for line in drawing.strip().splitlines()]
    assert drawn == [set(folders) & (set(map(folder_of, MODULES))) for folders in LAYERS]


def test_imports_go_down():
    upward = []
    for module, targets in IMPORTS.items():
        folder = folder_of(module)
        for target in targets if folder not in (None, "__main__") else ():
            below = folder_of(target)  # None: the package's own __init__, above all folders
            if below != folder and (folder, below) not in BESIDE:
                upward += [(module, target)] * (LAYER.get(below, 1) >= LAYER[folder])
    assert not upward


def test_no_imports_in_a_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_files_are_small():
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) >= LIMIT
    }
    assert not long


def modules_after(code, *arguments):
    """The names in ``sys.modules`` after some Python code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint('modules', *sys.modules)", *map(str, arguments)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.rpartition("modules ")[2].split())


def test_importing_the_package_loads_little():
    loaded = modules_after("import sys, posgan_edge")
    assert "posgan_edge" in loaded
    assert not loaded & {"cv2", "onnxruntime", "torch", "onnx", "mediapipe", "scipy", "rich"}


def test_a_camera_run_loads_what_it_needs_alone(tmp_path):
    code = (
        "import sys\n"
        "from posgan_edge.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
    )
    source = "synthetic:?width=640&height=360&sway=0&roll=0&zoom=0"
    loaded = modules_after(
        code, "run", source, "--box", "275,112,95,92", "--max-frames", 3, "--no-window",
        "--json", tmp_path / "faces.jsonl", "--save", tmp_path / "drawn.mp4",
    )  # fmt: skip
    assert [len(line["faces"]) for line in read_lines(tmp_path / "faces.jsonl")] == [1, 1, 1]
    assert {"cv2", "onnxruntime", "posgan_edge.live.loop"} <= loaded
    unwanted = ("torch", "onnx", "trimesh", "matplotlib", "http.server", "mediapipe", "scipy")
    assert not loaded.intersection(unwanted), loaded.intersection(unwanted)


#: Options of other programs, and what ``doctor`` says to people at the command line.
OTHER_OPTIONS = {"--head", "--port", "--interval", "--query-gpu", "--format", "--id"}
SAID_BY_DOCTOR = {"system.py"}


def test_messages_of_the_library_name_no_options_of_the_command_line():
    named = []
    for path in MODULES.values():
        place = path.relative_to(PACKAGE)
        if place.parts[0] == "cli" or str(place) in SAID_BY_DOCTOR:
            continue
        tree = ast.parse(path.read_text())
        docstrings = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", node.value))
                if id(node) not in docstrings and found - OTHER_OPTIONS:
                    named.append((str(place), node.lineno, found))
    assert not named


def test_the_source_distribution_has_what_the_tests_read():
    text = (ROOT / "pyproject.toml").read_text()
    included = (
        text.partition("build.targets.sdist]")[2].partition("include = [")[2].partition("]")[0]
    )
    shipped = {*ast.literal_eval(f"[{included}]"), "pyproject.toml"}
    read = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r'(?:ROOT|parents\[\d\]) / "([^"/]+)', path.read_text())
    }
    assert {"docs", "README.md", "benchmarks"} <= read
    assert read <= shipped, read - shipped
