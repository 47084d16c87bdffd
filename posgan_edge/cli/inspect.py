"""``posgan-edge inspect``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from posgan_edge.errors import BadInput


@click.command()
@click.argument("engine", type=Path)
def command(engine: Path) -> None:
    """Print the header and manifest of an ENGINE file, and whether they agree."""
    from posgan_edge.documents import plain
    from posgan_edge.engines.manifest import (
        checked_manifest,
        has_manifest,
        load_manifest,
        plan_header,
    )
    from posgan_edge.files import sha256

    if not os.path.isfile(engine):
        raise BadInput(f"{engine}: no such engine file")
    header = plan_header(engine)
    kind = " ".join(header) + " plan" if header else "not a plan"
    click.echo(f"{engine}: {engine.stat().st_size / 1e6:.2f} MB, {kind}")
    click.echo(f"sha256: {sha256(engine)}")
    if engine.suffix == ".onnx":
        from posgan_edge.build.graph import layers, load_model, props

        model = load_model(engine)
        for key, value in props(model).items():
            click.echo(f"{key}: {value}")
        click.echo(f"layers with weights: {len(layers(model))}")
    if engine.suffix == ".onnx" and not has_manifest(engine):
        return
    manifest = load_manifest(engine)
    for key, value in plain(manifest).items():
        if value not in ("", [], (), {}):
            click.echo(f"{key}: {value}")
    checked_manifest(engine)
    click.echo("the file agrees with its manifest")
