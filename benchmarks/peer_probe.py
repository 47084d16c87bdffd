"""Start and memory of the methods of ``peers.py``, each in a process of its own.

``python peer_probe.py SPEC PHOTO POINTS`` prints "first" after the first face, and then its peak of
resident memory in megabytes once the face was found some more times.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import msgspec
import numpy as np

from posgan_edge.errors import BadInput
from posgan_edge.evaluation.aflw2000 import LabelledFace

#: Times that each method is started, in turns, and that one process looks for the face.
STARTS, CALLS = 3, 10


@dataclass(frozen=True)
class Spec:
    """How a method is made: its kind (see ``make``), its files, and whether boxes are detected."""

    kind: str
    files: tuple[str, ...] = ()
    detected: bool = False


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a process to the first face, and its peak memory in megabytes."""

    seconds: float
    memory_mb: float


def make(spec: Spec, detector: Any = None) -> Any:
    """The method (a ``Peer``) of a description; ``detector`` saves making another one."""
    if spec.detected and detector is None and spec.kind != "facemesh":
        from posgan_edge.faces.detector import MediaPipeDetector

        detector = MediaPipeDetector()
    if spec.kind in ("3ddfa-v2", "prnet"):
        import peer_networks

        if spec.kind == "prnet":
            return peer_networks.open_prnet(spec.files[0], detector)
        network, bfm = spec.files
        return peer_networks.Tddfa(network, bfm, detector)
    import peer_methods

    if spec.kind == "facemesh":
        return peer_methods.FaceMesh()
    return peer_methods.Ours(spec.files[0], detector)


def starts(specs: Mapping[str, Spec], face: LabelledFace) -> dict[str, Start]:
    """Returns medians for the methods by name. Raises BadInput if one of them fails."""
    found: dict[str, list[Start]] = {name: [] for name in specs}
    with TemporaryDirectory(prefix="posgan-edge-") as folder:
        photo, points = Path(folder) / "photo.png", Path(folder) / "points.npy"
        cv2.imwrite(str(photo), face.image())
        np.save(points, face.original)
        for _ in range(STARTS):
            for name, spec in specs.items():
                found[name].append(_start(name, spec, photo, points))
    return {
        name: Start(
            float(np.median([one.seconds for one in ones])),
            float(np.median([one.memory_mb for one in ones])),
        )
        for name, ones in found.items()
    }


def _start(name: str, spec: Spec, photo: Path, points: Path) -> Start:
    text = msgspec.json.encode(spec).decode()
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, text, str(photo), str(points)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = time.perf_counter() - begin
        output, errors = process.communicate()
    try:
        if first.strip() != "first":
            raise ValueError(first)
        return Start(seconds, float(output.split()[-1]))
    except (ValueError, IndexError) as error:
        last = (errors.strip().splitlines() or ["no output"])[-1]
        raise BadInput(f"{name}: could not be measured in a process of its own: {last}") from error


def main() -> None:
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    photo, points = Path(sys.argv[2]), np.load(sys.argv[3])
    face = LabelledFace("first", photo, points, None, None)
    image = face.image()
    peer = make(spec)
    for call in range(CALLS):
        peer.find(image, face, peer.attempts[0])
        if not call:
            print("first", flush=True)
    from posgan_edge.evaluation.probe import memory_mb

    print(memory_mb("VmHWM"))
    peer.close()


if __name__ == "__main__":
    main()
