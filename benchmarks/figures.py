"""Writes the recorded figures into README.md and the model card, and the plot of the peers.

    python benchmarks/figures.py [--check]

The plot is ``docs/peers.svg``. A section lies between ``<!-- figures: NAME -->`` and
``<!-- end -->``; NAME is a function of this file in ``SECTIONS``. ``--check`` writes nothing and
fails if a section or the plot is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import scale_figures
import steadiness_figures
from records import RESULTS, record, table

from posgan_edge.build.export import weights_digest
from posgan_edge.evaluation.peers import load_peers
from posgan_edge.evaluation.report.peers import peers_plot, peers_table
from posgan_edge.files import replaced, sha256
from posgan_edge.models.checkpoints import load_generator

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "posgan_edge" / "assets"
DOCUMENTS = (
    ROOT / "README.md", ROOT / "docs" / "live.md", ROOT / "docs" / "scale.md",
    ASSETS / "MODEL_CARD.md",
)  # fmt: skip
PEERS, PICTURE = RESULTS / "peers.json", ROOT / "docs" / "peers.svg"
OTHERS = {"FaceMesh": "MediaPipe FaceMesh, refined"}
_SECTION = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def edge(name: str) -> Any:
    """What a record says of ``edge``."""
    return record(name)["engines"]["edge"]


def thirds(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def accuracy() -> str:
    """NME on AFLW2000-3D by crop and turn."""
    names = {
        "ground-truth crop": "gt", "MediaPipe finds the face": "detector",
        "the same, photos turned by 60 degrees": "turned-60",
        "the same, by 120 degrees": "turned-120", "the same, by 180 degrees": "turned-180",
    }  # fmt: skip
    rows = []
    for title, name in names.items():
        found = edge(f"aflw2000-edge-{name}")
        missed = len(found["missed"])
        labels = [found["labels"][k] for k in ("original", "reannotated")]
        rows.append([
            title + (f" ({missed} not found)" if missed else ""),
            *(f"**{k['mean']:.3f}**" for k in labels),
            *(thirds(k["yaw"]) for k in labels),
            " / ".join(f"{k['mean_of_yaw_bins']:.2f}" for k in labels),
        ])  # fmt: skip
    rows.append(["the original Image-to-Position GAN (published, all 2,000)", "3.754", "3.253",
                 "3.28 / 3.95 / 5.55", "", "4.26"])  # fmt: skip
    head = ["", "original labels", "re-annotated", "by yaw 0-30 / 30-60 / 60-90", "re-annotated",
            "mean of bins"]  # fmt: skip
    return table(head, rows)


def rest() -> str:
    """Depth, pose and time of the ground-truth crop."""
    found = edge("aflw2000-edge-gt")
    pose = " / ".join(f"{found['pose_mae'][k]:.1f}" for k in ("pitch", "yaw", "roll"))
    report = record("report-edge")
    timing = report["engines"]["edge"]["latency_ms"]
    return (
        f"3D-68 NME {found['nme_3d']:.2f} %; head pose error {pose} degrees (pitch / yaw / roll). "
        f"The network takes {timing['median']:.2f} ms (p90 {timing['p90']:.2f}) on one core of an "
        f"{report['machine']['cpu']} with ONNX Runtime.\n"
    )


def peers() -> str:
    """This package beside other methods: accuracy, expression, time, memory."""
    found = peers_table(load_peers(PEERS))
    head = [f"`{name}`" if name == "edge" else OTHERS.get(name, name) for name in found["header"]]
    return table(head, found["rows"])


def peers_picture() -> str:
    """The plot of ``peers`` as an SVG file, in a grey that is seen on white and on black."""
    drawn = peers_plot(load_peers(PEERS)).replace("currentColor", "#7d8590")
    return f"{drawn.rstrip()}\n<!-- {sha256(PEERS)} -->\n"


def precision() -> str:
    return (RESULTS / "precision-edge.md").read_text()


def live() -> str:
    """Time of a tracked frame over FaceMesh's, and steadiness."""
    found = record("tracking")
    names = {
        "tracker": "`edge`", "tracker, maps": "`edge`, with the dense map of each frame",
        "tracker, INT8": "`edge-int8`",
        "tracker, maps, no kernels": "`edge`, with the dense map, without the kernels",
    }  # fmt: skip
    parts = [found["against FaceMesh"], found["against FaceMesh, on one core"]]
    first = "FaceMesh"
    rows = [["MediaPipe FaceMesh, video mode", *_compared(parts[0], first)[:1], "1"]]
    rows[0] += [*_compared(parts[1], first)[:1], "1"]
    rows += [[title, *(c for p in parts for c in _compared(p, n))] for n, title in names.items()]
    head = ["ms", "of FaceMesh's time", "ms on one core", "of FaceMesh's time on one core"]
    return table(["a frame of 720p, one face", *head], rows)


def _compared(part: Mapping[str, Any], name: str) -> list[str]:
    """The median in ms, and the ratio with its lowest and highest sitting."""
    values = sorted(s["ms"][name]["median"] for s in part["sittings"])
    ratios, middle = part["ratio_by_sitting"][name], part["ratio"][name]
    span = f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return [f"{values[len(values) // 2]:.1f}", span]


def loop() -> str:
    """Four faces, and the live loop at 30 frames a second."""
    found = record("tracking")
    four, run = found["four faces"], found["live, 30 frames a second"]
    one, many = (four["ms"][name]["median"] for name in ("one face", "four faces"))
    latency, report = run["capture_to_result_ms"], run["report"]
    quarters = ", ".join(f"{value:.1f}" for value in run["median_of_quarters_ms"])
    return (
        f"Four faces take {many:.1f} ms, {many / one:.1f} times as long as one ({one:.1f}).\n\n"
        "The same video, repeated, at 30 frames a second through the live loop: "
        f"{report['processed']} frames in\n{report['seconds']:.0f} s, "
        f"{report['counts']['dropped']} dropped, {latency['median']:.1f} ms from capture to result "
        f"(p90 {latency['p90']:.1f}).\nThe medians of the run's four quarters are {quarters} ms.\n"
    )


def card() -> str:
    """Accuracy of the shipped weights, for the model card."""
    labels = edge("aflw2000-edge-gt")["labels"]
    rows = [
        [title, f"{k['mean']:.3f}", f"{k['mean_of_yaw_bins']:.3f}", *(f"{y:.3f}" for y in k["yaw"])]
        for title, k in (("original labels", labels["original"]),
                         ("re-annotated", labels["reannotated"]))
    ]  # fmt: skip
    return table(["", "mean of all", "mean of yaw bins", "yaw 0-30", "30-60", "60-90"], rows)


def helen() -> str:
    """Expression of the shipped weights, for the model card."""
    found, own = (edge(name)["expression"] for name in ("helen-edge", "helen-edge-aflw"))
    parts = ", ".join(f"{k} {found['nme'][k]:.2f}" for k in ("eyes", "mouth", "nose", "brows"))
    eyes, mouth = found["eyes"], found["mouth"]
    return (
        f"On {mouth['n']} HELEN photos with 68 points by people (ground-truth crop, one pass,\n"
        f"landmark set `{edge('helen-edge')['landmarks']}`):\n"
        f"NME of the 51 inner points {found['nme']['inner']:.3f} % ({parts});\n"
        f"openness of the eyes correlates with people's by {eyes['r']:.3f}, of the mouth by\n"
        f"{mouth['r']:.3f}; closed eyes: area under the ROC {found['closed']['auc']:.3f}.\n"
        f"With the landmark set `aflw`: {own['nme']['inner']:.3f} %, {own['eyes']['r']:.3f} and "
        f"{own['mouth']['r']:.3f}.\n"
    )


def aflw() -> str:
    """Expression with the landmark set ``aflw``, for the README."""
    found = edge("helen-edge-aflw")["expression"]
    return (
        "With the default landmark set `aflw`, `edge` has an NME of "
        f"{found['nme']['inner']:.2f} % at the inner points of HELEN,\n"
        f"and its openness of the eyes correlates by {found['eyes']['r']:.3f}.\n"
    )


def hashes() -> str:
    """Digests of the shipped files."""
    rows = [["weights (SHA-256 over them; also in the ONNX metadata)",
             f"`{weights_digest(load_generator('edge'))}`"]]  # fmt: skip
    for name in ("edge.onnx", "edge-int8.onnx", "edge.safetensors"):
        rows.append([f"`{name}`", f"`{sha256(ASSETS / name)}`"])
    return table(["file", "SHA-256"], rows).replace("---:", "---")


SECTIONS: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        accuracy,
        rest,
        peers,
        precision,
        live,
        loop,
        card,
        helen,
        aflw,
        hashes,
        scale_figures.billion,
        scale_figures.pictures,
        scale_figures.folder,
        scale_figures.served,
        steadiness_figures.filters,
        steadiness_figures.still,
        steadiness_figures.lag,
        steadiness_figures.blink,
        steadiness_figures.lids,
    )
}


def filled(text: str) -> str:
    """A document with its sections made again from the records."""
    return _SECTION.sub(lambda m: m[1] + SECTIONS[m[2]]() + m[3], text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = []
    for path in DOCUMENTS:
        before = path.read_text()
        after = filled(before)
        if before != after:
            stale.append(path.name)
            if not options.check:
                with replaced(path) as temporary:
                    temporary.write_text(after)
    if not (PICTURE.is_file() and sha256(PEERS) in PICTURE.read_text()):
        stale.append(PICTURE.name)
        if not options.check:
            with replaced(PICTURE) as temporary:
                temporary.write_text(peers_picture())
    if options.check and stale:
        sys.exit(f"out of date: {', '.join(stale)}: run python benchmarks/figures.py")


if __name__ == "__main__":
    main()
