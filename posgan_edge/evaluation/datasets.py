"""Opening whatever set of labelled faces a path holds, and drawing some of its faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from posgan_edge.errors import BadInput
from posgan_edge.evaluation.aflw2000 import LabelledFace, load_aflw2000, open_dataset
from posgan_edge.evaluation.human68 import load_human_npz, load_pts_folder


@contextmanager
def open_faces(
    path: str | Path, reannotation: str | Path | None = None
) -> Iterator[Sequence[LabelledFace]]:
    """The faces of a set, whose photos can be read for as long as the block runs.

    A ``.npz`` and a folder with ``.pts`` files have human points (see ``human68``); anything else
    is AFLW2000-3D (see ``load_aflw2000``), which alone takes a re-annotation. Raises BadInput
    naming what is not as it should be.
    """
    path = Path(path)
    single = path.is_file() and path.suffix == ".npz"
    if not single and not (path.is_dir() and any(path.rglob("*.pts"))):
        with open_dataset(path) as folder:
            yield load_aflw2000(folder, None, reannotation)
        return
    if reannotation is not None:
        raise BadInput(f"{path}: has human points: a re-annotation belongs to AFLW2000-3D")
    yield load_human_npz(path) if single else load_pts_folder(path)


def sampled(faces: Sequence[LabelledFace], count: int, seed: int) -> list[LabelledFace]:
    """``count`` faces drawn at random, in the set's order. Raises BadInput where there are fewer.

    One seed draws the same faces everywhere.
    """
    if count > len(faces):
        raise BadInput(f"cannot draw {count} faces: the set has {len(faces)}")
    drawn = np.random.default_rng(seed).choice(len(faces), count, replace=False)
    return [faces[index] for index in sorted(drawn)]
