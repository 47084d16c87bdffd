"""``posgan-edge label``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from posgan_edge.cli import report_error
from posgan_edge.cli.groups import numbers, with_flags
from posgan_edge.cli.options import ALL_FACES
from posgan_edge.errors import BadInput, UsageError

#: Failed pictures that are printed.
_SHOWN = 100


@click.command()
@click.argument("input", metavar="INPUT")
@click.option("--output", required=True, help="Folder for the faces (posgan_edge.read_faces).")
@click.option("--resume", is_flag=True, help="Go on with an output folder that is there.")
@click.option("--address", metavar="auto|HOST:PORT",
              help="Ray cluster.  [default: start Ray on this machine]")  # fmt: skip
@click.option("--actors", type=click.IntRange(1),
              help="Number of pipelines.  [default: as many as fit]")  # fmt: skip
@click.option("--cores", default=1.0, show_default=True, type=click.FloatRange(0.1),
              help="CPUs of each pipeline.")  # fmt: skip
@click.option("--gpus", default=0.0, show_default=True, type=click.FloatRange(0),
              help="GPUs of each pipeline; 0.25 puts four on one GPU.")  # fmt: skip
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1),
              help="Pictures that a pipeline gets at a time.")  # fmt: skip
@click.option("--per-file", default=4096, show_default=True, type=click.IntRange(1),
              help="Pictures of an output file; what is lost if the run is killed.")  # fmt: skip
@click.option("--name-column", default="path", show_default=True,
              help="Parquet: column of the pictures' names, all different.")  # fmt: skip
@click.option("--bytes-column", default="bytes", show_default=True,
              help="Parquet: column of the pictures' files.")  # fmt: skip
@click.option("--model", default="edge", show_default=True, help="Shipped name or model file.")
@click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt", "openvino"]),
              help="Runtime for an ONNX model.")  # fmt: skip
@click.option("--max-faces", default=ALL_FACES, show_default=True,
              type=click.IntRange(1, ALL_FACES), help="Most faces of a picture.")  # fmt: skip
@click.option("--box", metavar="X,Y,W,H", help="Face box, used instead of the detector.")
@click.option("--passes", default=2, show_default=True, type=click.IntRange(1, 3),
              help="Network runs, each on a crop around the last result.")  # fmt: skip
@click.option("--mirror", is_flag=True, help="Average with the mirrored crop.")
def command(
    input: str,
    output: str,
    resume: bool,
    address: str | None,
    actors: int | None,
    cores: float,
    gpus: float,
    batch: int,
    per_file: int,
    name_column: str,
    bytes_column: str,
    model: str,
    provider: str | None,
    max_faces: int,
    box: str | None,
    passes: int,
    mirror: bool,
) -> None:
    """Find the faces of many pictures on many machines, with Ray Data.

    INPUT is a folder of pictures, a pattern ('photos/**/*.jpg'), a list (@list.txt), or Parquet or
    WebDataset (.tar) files. Every machine must see INPUT and the output under the same names.
    """
    from posgan_edge.geometry.values import FaceBox
    from posgan_edge.jobs.cluster import Share
    from posgan_edge.jobs.label import label
    from posgan_edge.jobs.label_work import Work

    boxes = None
    if box is not None:
        x, y, width, height = numbers("--box", box, "X,Y,W,H in pixels")
        if not (width > 0 and height > 0):
            raise UsageError(f"--box {box}: width and height must be above zero")
        boxes = (FaceBox(x, y, width, height),)
    model = str(Path(model).resolve()) if Path(model).is_file() else model
    try:
        done = label(
            input,
            output,
            Work(model, provider, boxes, max_faces, passes, mirror),
            Share(actors, cores, gpus, batch, per_file),
            address,
            resume,
            (name_column, bytes_column),
            lambda line: click.echo(line, err=True),
            sys.stderr.isatty(),
        )
    except UsageError as error:
        raise with_flags(error) from error
    for line in done.failed[:_SHOWN]:
        report_error(BadInput(line))
    click.echo(f"{output}: {done.pictures} pictures in this run, {done.faces} faces", err=True)
    if done.failed:
        raise BadInput(f"{len(done.failed)} pictures failed; see {output}/parts/_failed")
