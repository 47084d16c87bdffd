"""``posgan-edge demo``."""

from __future__ import annotations

import json
import shlex
from importlib import resources
from pathlib import Path

import click

from posgan_edge.cli.groups import Finite


@click.command()
@click.option(
    "--output", default="out", show_default=True, type=Path, help="Folder for the results."
)
@click.option("--seconds", default=8.0, show_default=True, type=Finite(1, 3600),
              help="Length of the video.")  # fmt: skip
@click.option("--faces", default=2, show_default=True, type=click.IntRange(1, 16),
              help="Faces in the video.")  # fmt: skip
@click.option(
    "--overwrite", is_flag=True, help="Also replace files that are not from an earlier demo."
)
@click.option("--serve", metavar="[HOST:]PORT", help="Also show it live in the browser.")
def command(output: Path, seconds: float, faces: int, overwrite: bool, serve: str | None) -> None:
    """Try everything without a camera: a picture with its mesh, then a moving portrait as video.

    Prints the commands that it runs and the time of each stage. Files of an earlier demo are
    replaced.
    """
    portrait = str(resources.files("posgan_edge.assets") / "portrait.jpg")
    replace = ["--overwrite"] if overwrite or _made_before(output, portrait) else []
    _run(
        portrait, "--scale", "2", "--save", output / "portrait.png",
        "--mesh", output / "portrait.obj", "--json", output / "portrait.jsonl",
        "--texture", output / "portrait-texture.png", "--depth", output / "portrait-depth.png",
        *replace,
    )  # fmt: skip
    live = ["--serve", serve] if serve is not None else []
    paced = ["--drop-frames"] if serve is not None else []
    _run(
        f"synthetic:?seconds={seconds:g}&faces={faces}&noise=4&blank=0.5&every=4",
        "--max-faces", faces, "--save", output / "moving.mp4", "--json", output / "moving.jsonl",
        "--npz", output / "moving.npz", "--summary", output / "moving-summary.json", "--overlay",
        *live, *paced, *replace,
    )  # fmt: skip
    click.echo(
        f"look at: {output}/portrait.png (picture), {output}/portrait.obj (mesh with texture), "
        f"{output}/moving.mp4 (video)"
    )


def _made_before(folder: Path, portrait: str) -> bool:
    """Whether a folder holds an earlier demo: the source in its JSON lines is the portrait."""
    try:
        with open(folder / "portrait.jsonl", encoding="utf-8") as lines:
            return bool(json.loads(lines.readline())["source"].endswith(Path(portrait).name))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _run(*arguments: object) -> None:
    from posgan_edge.cli.run import command as run

    words = ["--no-window", *map(str, arguments)]
    click.echo(f"$ posgan-edge run {shlex.join(words)}")
    run.main(words, standalone_mode=False)
