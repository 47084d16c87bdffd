"""Opening a set of labelled faces of any format, and choosing some of its faces."""

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
    """Yields the faces of a set. Their photos can be read while the block runs.

    A ``.npz`` file or a folder with ``.pts`` files has human points (see ``human68``). Anything
    else is read as AFLW2000-3D (see ``load_aflw2000``); only that may have a re-annotation.
    Raises BadInput naming what cannot be used.
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
    """Returns ``count`` faces chosen at random, in the order of the set.

    The same seed chooses the same faces on every machine. Raises BadInput if there are fewer.
    """
    if count > len(faces):
        raise BadInput(f"cannot draw {count} faces: the set has {len(faces)}")
    drawn = np.random.default_rng(seed).choice(len(faces), count, replace=False)
    return [faces[index] for index in sorted(drawn)]
