"""The ``posgan-edge`` command. Sub-commands are imported only when they are called."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from posgan_edge import __version__
from posgan_edge.errors import BadInput, PosganError

COMMANDS = {
    "run": "Find faces in pictures, a video or a camera; draw them or write them to files.",
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
            # Click would exit with 1, which says that a budget was missed. Python flushes standard
            # output once more at its end.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(cli(standalone_mode=False) or 0)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted: files that were open are finished", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PosganError as error:
        report_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        # Errors in opening a file are handled earlier; this catches errors in reading and writing.
        reason = error.strerror or type(error).__name__
        report_error(BadInput(f"{error.filename}: {reason}" if error.filename else reason))
        sys.exit(BadInput.exit_code)


def _terminated(*_: object) -> None:
    # An exception, so that open files are finished or removed on the way out.
    sys.exit(143)


def report_error(error: PosganError) -> None:
    """Prints an error as one line on standard error."""
    click.echo(f"error: {' '.join(str(error).split())}", err=True)
