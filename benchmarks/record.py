"""Makes engines, calibration and all recorded figures again from new `edge` weights.

    python benchmarks/record.py --weights FILE --aflw2000 DIR --pack DIR --helen FILE
                                --backgrounds DIR --video FILE [--only STEP ...]

Steps run in order. Each step is a command that can also be run alone (``--list`` prints them).
Steps that measure time need an idle machine. Steps without their data are skipped, with a note.
Manual steps that remain are printed at the end.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path("benchmarks/results")
ASSETS = Path("posgan_edge/assets")
OUT = Path("out/record")


@dataclass(frozen=True)
class Step:
    """One command. ``needs`` names the options that it reads; ``timed``: it measures time."""

    name: str
    command: str
    needs: tuple[str, ...] = ()
    timed: bool = False


def copy_of(source: Path, target: Path) -> str:
    """The command that copies a file."""
    return f"python -c \"import shutil; shutil.copy('{source}', '{target}')\""


def steps() -> list[Step]:
    """Returns all steps. In a command, {name} is replaced by the value of an option."""
    edge = "posgan-edge"
    benchmark = f"{edge} benchmark --dataset {{aflw2000}}"
    found = [
        Step(
            "weights",
            f"{edge} export --model {{weights}} --output {ASSETS}/edge.onnx "
            f"--safetensors {ASSETS}/edge.safetensors",
            ("weights",),
        ),
        Step(
            "calibration",
            f"{edge} calibrate --images {{aflw2000}} --names calibration/aflw2000-3d.txt "
            f"--output calibration/edge-mse.json --sensitivity {RESULTS}/sensitivity-edge",
            ("aflw2000",),
        ),
        Step(
            "fp16",
            f"{edge} build-engine --precision fp16 --output {OUT}/edge-fp16.onnx",
        ),
        Step(
            "int8",
            f"{edge} build-engine --precision int8 --calibration calibration/edge-mse.json "
            "--calibration-images {aflw2000} --calibration-names calibration/aflw2000-3d.txt "
            f"--even-if-slower --output {OUT}/edge-int8.onnx",
            ("aflw2000",),
        ),
        Step(
            "landmark-set",
            "python benchmarks/landmark_sets.py {pack} --write "
            f"--json {RESULTS}/landmark-sets.json",
            ("pack",),
        ),
        Step("shipped-int8", copy_of(OUT / "edge-int8.onnx", ASSETS / "edge-int8.onnx")),
        Step(
            "accuracy",
            f"{benchmark} --rounds 0 --json {RESULTS}/aflw2000-edge-gt.json",
            ("aflw2000",),
        ),
        Step(
            "detector",
            f"{benchmark} --rounds 0 --crop detector --passes 2 "
            f"--json {RESULTS}/aflw2000-edge-detector.json",
            ("aflw2000",),
        ),
    ]
    found += [
        Step(
            f"turned-{angle}",
            f"{benchmark} --rounds 0 --crop detector --passes 2 --turn {angle} "
            f"--json {RESULTS}/aflw2000-edge-turned-{angle}.json",
            ("aflw2000",),
        )
        for angle in (60, 120, 180)
    ]
    return [
        *found,
        Step(
            "expression",
            f"{edge} benchmark --dataset {{helen}} --rounds 0 --json {RESULTS}/helen-edge.json",
            ("helen",),
        ),
        Step(
            "expression-aflw",
            f"{edge} benchmark --dataset {{helen}} --landmarks aflw --rounds 0 "
            f"--json {RESULTS}/helen-edge-aflw.json",
            ("helen",),
        ),
        Step(
            "presence",
            "python benchmarks/presence.py --pack {pack} --backgrounds {backgrounds} "
            f"--json {RESULTS}/presence.json --plot {RESULTS}/presence.svg",
            ("pack", "backgrounds"),
        ),
        Step(
            "precision",
            "python benchmarks/precision.py --dataset {aflw2000} "
            f"--json {RESULTS}/precision-edge.json --markdown {RESULTS}/precision-edge.md",
            ("aflw2000",),
            timed=True,
        ),
        Step(
            "peers",
            f"python benchmarks/peers.py {{aflw2000}} {{helen}} --json {RESULTS}/peers.json",
            ("aflw2000", "helen"),
            timed=True,
        ),
        Step(
            "report",
            f"{benchmark} --engine edge --engine {OUT}/edge-fp16.onnx "
            f"--engine {OUT}/edge-int8.onnx --reference torch "
            f"--peers {RESULTS}/peers.json --report {OUT}/report",
            ("aflw2000",),
            timed=True,
        ),
        Step("report-json", copy_of(OUT / "report/report.json", RESULTS / "report-edge.json")),
        Step("report-md", copy_of(OUT / "report/report.md", RESULTS / "report-edge.md")),
        Step(
            "blendshapes-helen",
            f"python benchmarks/blendshapes.py {{helen}} --json {RESULTS}/blendshapes-helen.json",
            ("helen",),
            timed=True,
        ),
        Step(
            "blendshapes-validation",
            "python benchmarks/blendshapes.py {pack}/val.npz --yaw 45 "
            f"--json {RESULTS}/blendshapes-validation.json",
            ("pack",),
            timed=True,
        ),
        Step(
            "tracking",
            f"python benchmarks/tracking.py --video {{video}} --json {RESULTS}/tracking.json",
            ("video",),
            timed=True,
        ),
        Step(
            "steadiness",
            f"python benchmarks/steadiness.py --json {RESULTS}/steadiness.json "
            f"--plot {RESULTS}/steadiness.svg",
        ),
        Step(
            "scaling",
            f"python benchmarks/scaling.py --json {RESULTS}/scaling.json",
            timed=True,
        ),
        Step(
            "folder",
            f"python benchmarks/folder.py {{aflw2000}} --json {RESULTS}/folder.json",
            ("aflw2000",),
            timed=True,
        ),
        Step(
            "pictures",
            f"python benchmarks/pictures.py {{aflw2000}} --json {RESULTS}/pictures.json",
            ("aflw2000",),
            timed=True,
        ),
        Step("serving", f"python benchmarks/serving.py --json {RESULTS}/serving.json", timed=True),
        Step(
            "cold-start",
            "python benchmarks/cold_start.py --model edge --model "
            f"{ASSETS}/edge.safetensors --json {RESULTS}/cold-start.json",
            timed=True,
        ),
        Step(
            "kernels",
            f"python benchmarks/kernels.py --dataset {{aflw2000}} --json {RESULTS}/kernels.json",
            ("aflw2000",),
            timed=True,
        ),
        Step("pose", "python docs/draw_pose.py"),
        Step("portrait", "python docs/draw_portrait.py"),
        Step("landmarks", "python -m tests.record_portrait"),
        Step("figures", "python benchmarks/figures.py"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("weights", "aflw2000", "pack", "helen", "backgrounds", "video"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--only", nargs="+", metavar="STEP", help="run these steps alone")
    parser.add_argument("--list", action="store_true", help="print the steps and stop")
    options = parser.parse_args()
    chosen = [s for s in steps() if not options.only or s.name in options.only]
    unknown = set(options.only or ()) - {s.name for s in chosen}
    if unknown:
        parser.error(f"unknown step {sorted(unknown)[0]!r}: --list prints all of them")
    if options.list:
        for step in chosen:
            print(f"{step.name:12} {'timed' if step.timed else '':6}{step.command}")
        return
    (ROOT / OUT).mkdir(parents=True, exist_ok=True)
    # Tools of the environment that runs this script come first.
    places = {"posgan-edge": [sys.executable, "-m", "posgan_edge"], "python": [sys.executable]}
    failed = []
    for step in chosen:
        missing = [name for name in step.needs if getattr(options, name) is None]
        if missing:
            print(f"[{step.name}] left out: needs --{missing[0]}", flush=True)
            continue
        values = {
            name: shlex.quote(str(Path(getattr(options, name)).resolve())) for name in step.needs
        }
        first, *rest = shlex.split(step.command.format(**values))
        print(f"[{step.name}] {step.command}", flush=True)
        done = subprocess.run([*places[first], *rest], cwd=ROOT, check=False)
        if done.returncode:
            failed.append(step.name)
            print(f"[{step.name}] failed with exit code {done.returncode}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    print(
        "Then: NO_FACE in posgan_edge/geometry/pose.py by presence.json, and the text of README.md "
        "and MODEL_CARD.md outside their figures"
    )


if __name__ == "__main__":
    main()
