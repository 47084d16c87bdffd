"""What is tried: the base of targets, and how a case's outcome is told."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from posgan_edge.errors import PosganError

ACCEPTED, REFUSED, TRACEBACK, SILENT = "accepted", "refused", "traceback", "silent"
CRASH, HANG = "crash", "hang"


@dataclass(frozen=True)
class Target:
    """One kind of input from outside.

    ``cases`` gives the strategy of its inputs. ``check(case, folder)`` uses one in an empty folder:
    it returns where the case is accepted, raises PosganError where it is refused, and raises
    AssertionError where something wrong was accepted or a file was lost.
    """

    name: str
    cases: Callable[[], st.SearchStrategy[Any]]
    check: Callable[[Any, Path], object]
    #: Cases of the normal test run.
    examples: int = 30
    #: A case that takes more seconds of the processor, or ten times as many on the clock, hangs.
    quiet: float = 30.0


@dataclass(frozen=True)
class Outcome:
    kind: str
    detail: str = ""


def outcome(target: Target, case: Any) -> Outcome:
    """What becomes of a case, in this process."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="posgan-fuzz-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            with (
                contextlib.redirect_stderr(_unseen()),
                contextlib.redirect_stdout(_unseen()),
            ):
                target.check(case, Path(folder))
        except PosganError as error:
            return Outcome(REFUSED if str(error).strip() else TRACEBACK, str(error)[:200])
        except AssertionError as error:
            return Outcome(SILENT, f"{error} {_place(error)}"[:300])
        except Exception as error:
            return Outcome(TRACEBACK, f"{type(error).__name__}: {error} {_place(error)}"[:400])
        finally:
            os.chdir(here)
    return Outcome(ACCEPTED)


def _unseen() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "posgan_edge/" in f.filename or "tests/fuzz" in f.filename]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(own[-3:]))


def digest(case: Any) -> str:
    """The same for equal cases."""
    return hashlib.sha256(repr(case).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def command_line(words: Sequence[str]) -> tuple[int, str]:
    """Runs the command line in this process. Returns its exit code and standard error."""
    from posgan_edge.cli import main

    error = io.StringIO()
    argv, sys.argv = sys.argv, ["posgan-edge", *words]
    # The command line sets handlers that end the process; a later test may raise a signal.
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    code = 0
    try:
        with contextlib.redirect_stderr(error):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = argv
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return code, error.getvalue()
