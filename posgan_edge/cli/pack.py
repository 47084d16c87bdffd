"""``posgan-edge pack``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from posgan_edge.cli.groups import Group, argument, option, takes, with_flags
from posgan_edge.errors import UsageError


@dataclass(frozen=True)
class PackGroup(Group):
    """From what a pack is made, and how."""

    # fmt: off
    source: Path = argument("source", metavar="INPUT", type=Path)
    output: Path = option("--output", required=True, type=Path,
        help="Folder for basis.npz, train-*.npz, val.npz.")
    components: int = option("--components", default=160, show_default=True,
        type=click.IntRange(1, 1000), help="Largest number of basis vectors.")
    validation: int | None = option("--validation", type=click.IntRange(1),
        help="Faces kept for val.npz.  [default: one in 20, at most 600]")
    seed: int = option("--seed", default=0, show_default=True, type=click.IntRange(0),
        help="Random seed that chooses these faces.")
    picture_size: int = option("--picture-size", default=128, show_default=True,
        type=click.IntRange(16, 1024), help="Side of the stored pictures in pixels.")
    overwrite: bool = option("--overwrite", is_flag=True, help="Replace an existing pack.")
    # fmt: on


@click.command()
@takes(PackGroup)
def command(asked: PackGroup) -> None:
    """Make a training pack from pictures and PRNet-style position maps.

    INPUT has InputImage/NAME.jpg (square) and LabelImage_npy/NAME.npy. A .npy file is an array
    (256, 256, 3): x, y and z of each point in pixels of the 256-pixel picture, UV layout prnet.
    """
    from posgan_edge.cli.progress import reporting
    from posgan_edge.training.pack import PackOptions, make_pack

    output = asked.output
    options = PackOptions(
        asked.components, asked.validation, asked.seed, asked.picture_size, asked.overwrite
    )
    try:
        with reporting() as progress:
            made = make_pack(asked.source, output, options, progress)
    except UsageError as error:
        raise with_flags(error) from error
    for line in made.bad:
        click.echo(f"left out: {line}", err=True)
    left_out = f", {len(made.bad)} left out" if made.bad else ""
    click.echo(
        f"{output}: {made.training} faces to train on, {made.validation} for validation{left_out}; "
        f"{made.components} components hold the maps within {made.error:.3f} px of 256"
    )
    click.echo(
        f"train on it: posgan-edge train edge --data {output} --output RUN "
        f"--set generator.map_size={made.map_size}"
    )
