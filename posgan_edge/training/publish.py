"""Moving the files of a new training pack into their folder."""

from __future__ import annotations

from pathlib import Path

from posgan_edge.files import uninterrupted


def publish(parts: Path, output: Path, old: list[Path]) -> None:
    """Moves a pack's files into their folder, in place of the old ones.

    A pack cannot be read without its basis, so the basis goes first and comes last: no reader finds
    a pack that is mixed or has only some of its parts.
    """
    made = sorted(parts.iterdir(), key=lambda path: path.name == "basis.npz")
    names = {path.name for path in made}
    with uninterrupted():
        (output / "basis.npz").unlink(missing_ok=True)
        for path in (path for path in old if path.name not in names):
            path.unlink(missing_ok=True)
        for path in made:
            path.replace(output / path.name)
