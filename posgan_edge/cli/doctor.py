"""``posgan-edge doctor``."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Print what this machine can run and what is missing."""
    from posgan_edge.system import abilities, live_abilities, machine_block

    machine = machine_block()
    click.echo(f"posgan-edge {machine['posgan_edge']}, Python {machine['python']}")
    click.echo(f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}")
    for ability in [*abilities(), *live_abilities()]:
        mark = "yes" if ability.available else " no"
        click.echo(f"{mark}  {ability.name}: {ability.detail}")
