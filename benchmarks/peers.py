"""Landmarks of this package compared with those of others, on the same faces in one run.

    python benchmarks/peers.py DATASET ... [--engine E ...] [--peer P ...] [--crop gt|detector]
                               [--3ddfa-v2 FILE --3ddfa-bfm FILE] [--prnet FILE]
                               [--limit N | --sample N --seed S] [--untimed] [--json OUT]

DATASET: what `posgan-edge benchmark --dataset` takes. A set with human points is scored on NME by
part, openness and closed eyes, AFLW2000-3D on NME by yaw on both label sets. The tables are
Markdown: per set one on the faces that each method found and one on those that all found, and at
last one table over all sets, with time, memory and start.

Every method gets the original photo. Engines of this package, 3DDFA_V2 and PRNet use the box of the
labels, or with --crop detector the box that the detector finds; each cuts its own crop round it.
FaceMesh finds faces itself. In a second row it gets a padded crop around the label box if it finds
nothing in the photo.
On people's points an engine is read at the landmark set `300w`, elsewhere at `aflw`.
"without bias": the mean offset of each point is subtracted first (along axes that follow the line
of the eyes, in sizes of the face), so that different conventions for points do not matter.
Milliseconds are wall-clock medians per face without decoding, each method on one core where it lets
us choose. Start is the time from the start of a process to the first face, memory the peak of that
process: medians of three. Run it on an idle machine, or give --untimed.

3DDFA_V2 and PRNet are not part of this package. --3ddfa-v2 takes its ONNX file (mb1_120x120.onnx),
--3ddfa-bfm its configs/bfm_noneck_v3.pkl with param_mean_std_62d_120x120.pkl beside it; --prnet an
ONNX conversion of PRNet (256 x 256 x 3 in and out), or a network in the layout prnet.

To add a method, write a class with a name and `find` (see Peer), and make it in `make`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from peer_methods import Peer
from peer_probe import Spec, Start, make, starts
from peer_tables import Row, label_sets_of, markdown, scores

from posgan_edge.cli import report_error
from posgan_edge.cli.progress import reporting
from posgan_edge.documents import save
from posgan_edge.errors import BadInput, PosganError, UsageError
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.datasets import open_faces, sampled
from posgan_edge.evaluation.peers import (
    Method,
    Milliseconds,
    PeerRow,
    Peers,
    PeerSet,
    PeerSettings,
)
from posgan_edge.evaluation.report.peers import peers_table
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.files import check_writable
from posgan_edge.system import machine_block


def run_peers(peers: Sequence[Peer], faces: Sequence[LabelledFace], report: Any) -> dict[str, Row]:
    """Runs every method on every face, face by face, so that the load of the machine is the
    same."""
    rows = {row_name(p, a): Row({}, []) for p in peers for a in range(len(p.attempts))}
    for number, face in enumerate(faces):
        image = face.image()
        for peer in peers:
            if not number:
                peer.find(image, face, peer.attempts[0])  # the first call sets up
            points, taken = None, 0.0
            for place, attempt in enumerate(peer.attempts):
                row = rows[row_name(peer, place)]
                if points is None:
                    row.retried += place > 0
                    start = time.perf_counter()
                    points = peer.find(image, face, attempt)
                    taken += (time.perf_counter() - start) * 1e3
                row.ms.append(taken)
                if points is not None:
                    row.points[face.name] = points
        report("faces", number + 1, len(faces))
    return rows


def row_name(peer: Peer, place: int) -> str:
    return ", ".join(filter(None, (peer.name, peer.attempts[place])))


def chosen(options: argparse.Namespace, every: Sequence[LabelledFace]) -> list[LabelledFace]:
    if options.sample is not None:
        return sampled(every, options.sample, options.seed)
    return list(every)[: options.limit]


def specs_of(options: argparse.Namespace) -> list[Spec]:
    """Descriptions of the methods that were asked for, in the order of the tables."""
    detected = options.crop == "detector"
    found = [Spec("ours", (engine,), detected) for engine in options.engine or ["edge"]]
    found += [Spec(name, (), detected) for name in options.peer or PEERS]
    if (options.tddfa is None) != (options.bfm is None):
        raise UsageError("3DDFA_V2 needs both its network and its model: --3ddfa-v2, --3ddfa-bfm")
    if options.tddfa is not None:
        found.append(Spec("3ddfa-v2", (options.tddfa, options.bfm), detected))
    if options.prnet is not None:
        found.append(Spec("prnet", (options.prnet,), detected))
    return found


def study(options: argparse.Namespace) -> Peers:
    """Runs all methods on all sets. Returns the document, and prints the tables of each set."""
    specs = specs_of(options)
    with ExitStack() as stack:
        sets: dict[str, list[LabelledFace]] = {}
        for path in options.dataset:
            faces = chosen(options, stack.enter_context(open_faces(path)))
            if sets.setdefault(path.stem, faces) is not faces:
                raise BadInput(f"{path}: there are two sets of the name {path.stem}")
        detector = MediaPipeDetector() if options.crop == "detector" else None
        peers: dict[str, tuple[Spec, Peer]] = {}
        for spec in specs:
            peer = make(spec, detector)
            stack.callback(peer.close)
            if peer.name in peers:
                raise UsageError(f"{peer.name}: is given twice")
            peers[peer.name] = spec, peer
        methods = [peer for _, peer in peers.values()]
        with reporting() as report:
            rows = {name: run_peers(methods, faces, report) for name, faces in sets.items()}
        about = {peer.name: peer.describe() for peer in methods}
        begun: Mapping[str, Start] = {}
        if not options.untimed:
            face = first_face(next(iter(sets.values())), next(iter(rows.values())))
            begun = starts({name: spec for name, (spec, _) in peers.items()}, face)
    return Peers(
        machine=machine_block(),
        settings=PeerSettings(
            options.crop, options.limit, options.sample,
            None if options.sample is None else options.seed, not options.untimed,
        ),
        methods={
            name: Method(
                about=about[name],
                ms=milliseconds([t for r in rows.values() for t in r[name].ms], options.untimed),
                start_seconds=begun[name].seconds if begun else None,
                memory_mb=begun[name].memory_mb if begun else None,
            )
            for name in peers
        },
        sets={name: set_of(faces, rows[name], options.untimed) for name, faces in sets.items()},
    )  # fmt: skip


def first_face(faces: Sequence[LabelledFace], rows: Mapping[str, Row]) -> LabelledFace:
    """The first face that all methods found, or the first one."""
    shared = (f for f in faces if all(f.name in row.points for row in rows.values()))
    return next(shared, faces[0])


def set_of(faces: Sequence[LabelledFace], rows: dict[str, Row], untimed: bool) -> PeerSet:
    return PeerSet(
        faces=len(faces),
        rows={
            name: PeerRow(
                found=len(row.points),
                retried=row.retried,
                missed=[f.name for f in faces if f.name not in row.points],
                ms=milliseconds(row.ms, untimed),
            )
            for name, row in rows.items()
        },
        scores={label_set: scores(rows, faces, label_set) for label_set in label_sets_of(faces)},
    )


def milliseconds(values: Sequence[float], untimed: bool) -> Milliseconds | None:
    if untimed:
        return None
    return Milliseconds(float(np.median(values)), float(np.percentile(values, 90)))


def positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


#: Methods of others that need no files, by the name that --peer takes.
PEERS = ("facemesh",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, nargs="+")
    parser.add_argument("--engine", action="append", help="may be given many times; edge unless")
    parser.add_argument("--peer", action="append", choices=PEERS, help="all unless given")
    parser.add_argument("--3ddfa-v2", dest="tddfa", metavar="FILE", help="its ONNX file")
    parser.add_argument("--3ddfa-bfm", dest="bfm", metavar="FILE", help="bfm_noneck_v3.pkl")
    parser.add_argument("--prnet", metavar="FILE", help="ONNX file or checkpoint")
    parser.add_argument("--crop", choices=["gt", "detector"], default="gt")
    parser.add_argument("--limit", type=positive)
    parser.add_argument("--sample", type=positive)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--untimed", action="store_true", help="no time, memory or start")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        if options.limit is not None and options.sample is not None:
            raise UsageError("--limit takes the first faces and --sample draws some: give one")
        if options.json:
            check_writable(options.json)
        document = study(options)
        for name, data in document.sets.items():
            for label_set, both in data.scores.items():
                print(markdown(f"{name}: {label_set} labels", both, data))
        print(as_markdown(peers_table(document)))
        if options.json:
            save(options.json, document)
    except PosganError as error:
        report_error(error)
        raise SystemExit(error.exit_code) from None


def as_markdown(table: Mapping[str, Any]) -> str:
    rule = ["---", *["---:"] * (len(table["header"]) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in (table["header"], rule, *table["rows"])]
    return "\n".join([f"\n## {table['title']}", "", *lines])


if __name__ == "__main__":
    main()
