"""``posgan-edge doctor``."""

from __future__ import annotations

import os
import platform

import click


@click.command()
def command() -> None:
    """Print what this machine can run and what is missing."""
    from posgan_edge import __version__
    from posgan_edge.engines.machine import abilities, cpu_name

    click.echo(f"posgan-edge {__version__}, Python {platform.python_version()}")
    click.echo(f"{cpu_name()}, {os.cpu_count()} cores, {platform.platform(terse=True)}")
    for ability in abilities():
        mark = "yes" if ability.available else " no"
        click.echo(f"{mark}  {ability.name}: {ability.detail}")
