"""``posgan-edge pack``."""

from __future__ import annotations

from pathlib import Path

import click

from posgan_edge.errors import UsageError


@click.command()
@click.argument("source", metavar="INPUT", type=Path)
@click.option("--output", required=True, type=Path, help="Folder for basis.npz, train-*.npz, "
              "val.npz.")  # fmt: skip
@click.option("--components", default=160, show_default=True, type=click.IntRange(1, 1000),
              help="Largest number of basis vectors.")  # fmt: skip
@click.option("--validation", default=None, type=click.IntRange(1),
              help="Faces kept for val.npz.  [default: one in 20, at most 600]")  # fmt: skip
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Random seed that chooses these faces.",
)
@click.option("--picture-size", default=128, show_default=True, type=click.IntRange(16, 1024),
              help="Side of the stored pictures in pixels.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an existing pack.")
def command(
    source: Path,
    output: Path,
    components: int,
    validation: int | None,
    seed: int,
    picture_size: int,
    overwrite: bool,
) -> None:
    """Make a training pack from pictures and PRNet-style position maps.

    INPUT has InputImage/NAME.jpg (square) and LabelImage_npy/NAME.npy. A .npy file is an array
    (256, 256, 3): x, y and z of each point in pixels of the 256-pixel picture, UV layout prnet.
    """
    from posgan_edge.cli.groups import with_flags
    from posgan_edge.cli.progress import reporting
    from posgan_edge.training.pack import PackOptions, make_pack

    options = PackOptions(components, validation, seed, picture_size, overwrite)
    try:
        with reporting() as progress:
            made = make_pack(source, output, options, progress)
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
