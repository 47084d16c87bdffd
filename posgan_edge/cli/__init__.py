"""The ``posgan-edge`` command. Sub-commands are imported only when they are called."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click

from posgan_edge import __version__
from posgan_edge.errors import BadInput, PosganError
from posgan_edge.files import uninterrupted

#: Seconds from a signal to the end of the process, whatever keeps it.
_LAST = 15.0

COMMANDS = {
    "run": "Find faces in pictures, a video or a camera; draw them or write them to files.",
    "label": "Find the faces of many pictures on many machines, with Ray Data.",
    "demo": "Try everything without a camera: video, mesh and stage times of a moving portrait.",
    "benchmark": "Score and time engines on AFLW2000-3D, with a report.",
    "compare": "Print what changed between two benchmarks; fail if a figure became worse.",
    "calibrate": "Measure INT8 ranges on real faces and write them to a record.",
    "build-engine": "Build an engine: FP32, FP16 or INT8, for ONNX Runtime, OpenVINO or TensorRT.",
    "inspect": "Print what an engine file contains.",
    "export": "Turn a generator into an ONNX file.",
    "pack": "Make a training pack from pictures and PRNet-style position maps.",
    "train": "Train a generator as a recipe says.",
    "triton": "Write a model repository for a Triton Inference Server.",
    "doctor": "Print what this machine can run and what is missing.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(f"posgan_edge.cli.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Click would exit with 1, which says that a budget was missed.
            _drop_output()
            sys.exit(141)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="posgan-edge")
def cli() -> None:
    """Dense 3D faces on small machines: UV position maps from a face crop."""


def main() -> None:
    """The console entry point. Prints an error as one line and exits with its code."""
    _hold_closed_streams()
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, partial(_stopped, os.getpid(), received))
    sys.exit(_code(received))


def _run(received: list[int]) -> None:
    """Runs the command. ``received``: signals that came."""
    try:
        with suppress(OSError), uninterrupted():
            # It tries the folder with a file, which a signal must not leave behind.
            tempfile.gettempdir()
        cli(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except Exception:
        # A library that is being imported turns the exception of a signal into one of its own.
        if not received:
            raise
        if received[0] == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + received[0])


def _code(received: list[int]) -> int:
    """Runs the command. Returns its exit code."""
    try:
        _run(received)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _print_error("interrupted: files that were open are finished")
        return 130
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except PosganError as error:
        report_error(error)
        return error.exit_code
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        # Errors in opening a file are handled earlier; this catches errors in reading and writing.
        _drop_output()
        reason = error.strerror or type(error).__name__
        report_error(BadInput(f"{error.filename or 'standard output'}: {reason}"))
        return BadInput.exit_code
    return 0


def _hold_closed_streams() -> None:
    """Opens standard streams that are closed, such that reading and writing them fails.

    Otherwise the next files opened would be taken for them, and messages of native libraries would
    be written into these files.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free


def _drop_output() -> None:
    """Sends what standard output still holds to nowhere, so that it does not fail at exit again."""
    with suppress(OSError, ValueError):
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stopped(process: int, received: list[int], number: int, _: FrameType | None) -> None:
    if os.getpid() != process:  # a fork, which has nothing to finish
        os._exit(128 + number)
    received.append(number)
    # Exceptions, so that open files are finished or removed on the way out. That takes no second
    # signal, and not long: a library that swallows the exception does not keep the process.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    last = threading.Timer(_LAST, os._exit, (128 + number,))
    last.daemon = True
    last.start()
    sys.unraisablehook = partial(_dropped, number, sys.unraisablehook)
    _end(number)


def _end(number: int, *_: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _dropped(number: int, otherwise: Callable[[Any], object], found: Any) -> None:
    """Called for an exception that Python drops, as it does in finalisers and weak references'
    callbacks. If it is that of a signal, it is raised again a moment later, outside of them."""
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or not isinstance(found.exc_value, (KeyboardInterrupt, SystemExit)):
        otherwise(found)
        return
    signal.signal(number, _end)
    again = threading.Timer(0.02, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def report_error(error: PosganError) -> None:
    """Prints an error as one line on standard error."""
    _print_error(f"error: {' '.join(str(error).split())}")


def _print_error(line: str) -> None:
    with suppress(OSError):  # standard error may be closed or full
        click.echo(line, err=True)
