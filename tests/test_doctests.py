"""Every public class and function has an example in its docstring, and all examples run."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import posgan_edge

ROOT = Path(posgan_edge.__file__).parent
PUBLIC = sorted(name for name in posgan_edge.__all__ if callable(getattr(posgan_edge, name)))
#: Modules with examples of other than exported names.
MODULES = sorted(
    ".".join(("posgan_edge", *path.relative_to(ROOT).with_suffix("").parts))
    for path in ROOT.rglob("*.py")
    if "    >>> " in path.read_text() and path.parts[-2] not in ("training", "build", "models")
)


def run(test):
    # Without a module's own names, so that a reader can run the example as it stands.
    test.globs = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    lines: list[str] = []
    runner.run(test, out=lines.append)
    assert runner.failures == 0, "".join(lines)
    return runner.tries


def test_the_stub_lists_what_is_exported():
    assert {"FaceTracker", "MediaPipeDetector", "read_image", "LANDMARK_NAMES"} <= set(
        posgan_edge.__all__
    )
    assert set(posgan_edge.__all__) <= set(dir(posgan_edge))
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = posgan_edge.absent  # type: ignore[attr-defined]
    for name in posgan_edge.__all__:
        assert getattr(posgan_edge, name) is not None


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example_that_runs(name):
    value = getattr(posgan_edge, name)
    if name == "MediaPipeDetector":
        pytest.importorskip("mediapipe")
    text = inspect.getdoc(value)
    assert text, name
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert test.examples, f"{name}: its docstring has no example"
    assert run(test) == len([e for e in test.examples if doctest.SKIP not in e.options])


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module_run(module):
    for test in doctest.DocTestFinder(exclude_empty=True).find(import_module(module)):
        if test.examples:
            run(test)
