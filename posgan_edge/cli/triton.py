"""``posgan-edge triton``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("repository", type=Path)
@click.option("--model", default="edge", show_default=True, help="Shipped name or model file.")
@click.option("--backend", default="onnxruntime", show_default=True,
              type=click.Choice(["onnxruntime", "tensorrt", "python"]),
              help="Triton backend of the network; python needs no other backend.")  # fmt: skip
@click.option("--name", default=None, help="Name of the network on the server.  [default: its own]")
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1, 256),
              help="Largest batch, in faces.")  # fmt: skip
@click.option("--delay", "delay_us", default=500, show_default=True, type=click.IntRange(0),
              help="Microseconds that a face may wait for others in its batch.")  # fmt: skip
@click.option("--instances", default=2, show_default=True, type=click.IntRange(1, 256),
              help="Instances of the faces model; each uses one core.")  # fmt: skip
def command(
    repository: Path,
    model: str,
    backend: str,
    name: str | None,
    batch: int,
    delay_us: int,
    instances: int,
) -> None:
    """Write a model repository for a Triton Inference Server.

    REPOSITORY gets the network and the model 'faces': a picture in; boxes, landmarks, pose and
    blendshapes out.
    """
    from posgan_edge.jobs.triton import Serving, write_repository

    serving = Serving(backend, batch, delay_us, instances, name)
    names = write_repository(repository, model, serving)
    click.echo(f"{repository}: {', '.join(names)} ({backend}); serve it with")
    click.echo(f"  tritonserver --model-repository {repository}")
    click.echo("posgan-edge must be installed for the Python of Triton's Python backend")
