"""``posgan-edge label``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from posgan_edge.cli import report_error
from posgan_edge.cli.groups import (
    ALL_FACES,
    Group,
    ModelOptions,
    SearchOptions,
    argument,
    option,
    takes,
    with_flags,
)
from posgan_edge.errors import BadInput, UsageError

#: Failed pictures that are printed.
_SHOWN = 100


@dataclass(frozen=True)
class ClusterOptions(Group):
    """What is labelled, where the faces go, and how the work is shared out."""

    input: str = argument("input", metavar="INPUT")
    output: str = option(
        "--output", required=True, help="Folder for the faces (posgan_edge.read_faces)."
    )
    resume: bool = option(
        "--resume", is_flag=True, help="Continue with an output folder that is there."
    )
    address: str | None = option(
        "--address", metavar="auto|HOST:PORT",
        help="Ray cluster.  [default: start Ray on this machine]",
    )  # fmt: skip
    actors: int | None = option(
        "--actors", type=click.IntRange(1), help="Number of pipelines.  [default: as many as fit]"
    )
    cores: float = option(
        "--cores", default=1.0, show_default=True, type=click.FloatRange(0.1),
        help="CPUs of each pipeline.",
    )  # fmt: skip
    gpus: float = option(
        "--gpus", default=0.0, show_default=True, type=click.FloatRange(0),
        help="GPUs of each pipeline; 0.25 puts four on one GPU.",
    )  # fmt: skip
    batch: int = option(
        "--batch", default=16, show_default=True, type=click.IntRange(1),
        help="Pictures that a pipeline gets at a time.",
    )  # fmt: skip
    per_file: int = option(
        "--per-file", default=4096, show_default=True, type=click.IntRange(1),
        help="Pictures of an output file; what is lost if the run is killed.",
    )  # fmt: skip
    name_column: str = option(
        "--name-column", default="path", show_default=True,
        help="Parquet: column of the pictures' names, all different.",
    )  # fmt: skip
    bytes_column: str = option(
        "--bytes-column", default="bytes", show_default=True,
        help="Parquet: column of the pictures' files.",
    )  # fmt: skip
    blendshapes: bool = option("--blendshapes", is_flag=True, help="Write ARKit blendshapes too.")


@click.command()
@takes(ClusterOptions, SearchOptions, ModelOptions)
def command(given: ClusterOptions, wanted: SearchOptions, network: ModelOptions) -> None:
    """Find the faces of many pictures on many machines, with Ray Data.

    INPUT is a folder of pictures, a pattern ('photos/**/*.jpg'), a list (@list.txt), or Parquet or
    WebDataset (.tar) files. Every machine must see INPUT and the output under the same names.
    """
    from posgan_edge.jobs.cluster import Share
    from posgan_edge.jobs.label import label
    from posgan_edge.jobs.label_work import Work

    boxes = wanted.boxes()
    try:
        done = label(
            given.input,
            given.output,
            Work(
                _absolute(network.model),
                network.provider,
                None if boxes is None else tuple(boxes),
                wanted.max_faces or ALL_FACES,
                wanted.passes or 2,
                wanted.mirror,
                network.landmarks,
                given.blendshapes,
                _file(network.uv_mask),
                _file(network.verify),
            ),
            Share(given.actors, given.cores, given.gpus, given.batch, given.per_file),
            given.address,
            given.resume,
            (given.name_column, given.bytes_column),
            lambda line: click.echo(line, err=True),
            sys.stderr.isatty(),
        )
    except UsageError as error:
        raise with_flags(error) from error
    for line in done.failed[:_SHOWN]:
        report_error(BadInput(line))
    click.echo(
        f"{given.output}: {done.pictures} pictures in this run, {done.faces} faces", err=True
    )
    if done.failed:
        raise BadInput(f"{len(done.failed)} pictures failed; see {given.output}/parts/_failed")


def _absolute(name: str | Path) -> str:
    """A file's absolute path, because the actors have other working folders; else the name."""
    return str(Path(name).resolve()) if Path(name).is_file() else str(name)


def _file(path: Path | None) -> str | None:
    return None if path is None else _absolute(path)
