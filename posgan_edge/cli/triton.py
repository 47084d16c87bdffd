"""``posgan-edge triton``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from posgan_edge.cli.groups import Group, argument, option, takes


@dataclass(frozen=True)
class TritonOptions(Group):
    """What is served, and how."""

    # fmt: off
    repository: Path = argument("repository", type=Path)
    model: str = option("--model", default="edge", show_default=True,
        help="Shipped name or model file.")
    backend: str = option("--backend", default="onnxruntime", show_default=True,
        type=click.Choice(["onnxruntime", "tensorrt", "python"]),
        help="Triton backend of the network; python needs no other backend.")
    name: str | None = option("--name",
        help="Name of the network on the server.  [default: its own]")
    batch: int = option("--batch", default=16, show_default=True, type=click.IntRange(1, 256),
        help="Largest batch, in faces.")
    delay: int = option("--delay", default=500, show_default=True, type=click.IntRange(0),
        help="Microseconds that a face may wait for others in its batch.")
    instances: int = option("--instances", default=2, show_default=True,
        type=click.IntRange(1, 256), help="Instances of the faces model; each uses one core.")
    # fmt: on


@click.command()
@takes(TritonOptions)
def command(asked: TritonOptions) -> None:
    """Write a model repository for a Triton Inference Server.

    REPOSITORY gets the network and the model 'faces': a picture in; boxes, landmarks, pose and
    blendshapes out.
    """
    from posgan_edge.jobs.triton import Serving, write_repository

    repository = asked.repository
    serving = Serving(asked.backend, asked.batch, asked.delay, asked.instances, asked.name)
    names = write_repository(repository, asked.model, serving)
    click.echo(f"{repository}: {', '.join(names)} ({asked.backend}); serve it with")
    click.echo(f"  tritonserver --model-repository {repository}")
    click.echo("posgan-edge must be installed for the Python of Triton's Python backend")
