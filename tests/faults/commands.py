"""The commands that write files, each with a small world, and running them as processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers import data, networks

#: Seconds in which a command ends after SIGINT or SIGTERM, also on a busy machine.
SOON = 30.0
#: Names of files and folders that a killed command may leave.
LEFT = re.compile(r"\..+\.\d+\.part(\.\w+)*$|\.pack\.part-\w+$")
#: What a run over pictures keeps on purpose, so that ``run --resume`` goes on from there.
KEPT = re.compile(r"\..+\.part(\.\w+)*$|\..+\.progress$")
BOX = ",".join(map(str, data.PORTRAIT_BOX))
TINY = {"name": "edge", "modes": 13, "map_size": 16, "stem": [8, 8], "neck": 4, "hidden": 16,
        "stages": [[1, 8, 2, 1, True], [1, 8, 2, 1, False], [1, 8, 2, 1, False]]}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command line; {w} stands for the folder that it reads, {o} for the one it writes.

    ``again`` is added where files of an earlier run are there; ``needs`` are packages.
    """

    name: str
    line: str
    again: str = ""
    needs: tuple[str, ...] = ()


COMMANDS = [
    Command(
        "run-video",
        "run synthetic:?width=512&height=512&roll=0&sway=0&seconds=1&fps=10 --box {box} "
        "--no-window --save {o}/a.mkv --json {o}/a.jsonl --npz {o}/a.npz --parquet {o}/a.parquet "
        "--mesh {o}/a.glb --depth {o}/depth --mask {o}/mask --texture {o}/texture "
        "--summary {o}/s.json --blendshapes",
        "--overwrite", ("pyarrow", "trimesh", "pygltflib"),
    ),
    Command(
        "run-mp4",
        "run synthetic:?width=512&height=512&roll=0&sway=0&seconds=1&fps=10 --box {box} "
        "--no-window --save {o}/a.mp4",
        "--overwrite",
    ),
    Command(
        "run-folder",
        "run {w}/photos --box {box} --no-window --save {o}/drawn --json {o}/a.jsonl "
        "--npz {o}/a.npz --parquet {o}/a.parquet --mesh {o}/mesh --depth {o}/depth "
        "--mask {o}/mask --texture {o}/texture --summary {o}/s.json",
        "--overwrite", ("pyarrow", "trimesh"),
    ),
    Command(
        "train", "train {w}/r.yaml --data {w}/pack --output {o}/run --aflw2000 {w}/aflw",
        "--resume", ("torch",),
    ),
    Command(
        "benchmark",
        "benchmark --dataset {w}/aflw --engine {w}/n.onnx --rounds 0 --limit 4 "
        "--json {o}/b.json --report {o}/report",
        "", ("matplotlib", "jinja2"),
    ),
    Command(
        "build-engine",
        "build-engine --model {w}/n.onnx --precision int8 --calibration-images {w}/aflw "
        "--even-if-slower --max-pixels 1000 --max-nme 1000 --method minmax --sign {w}/key.pem "
        "--output {o}/e.onnx",
        "", ("cryptography",),
    ),
    Command(
        "calibrate",
        "calibrate --model {w}/n.onnx --images {w}/aflw --method minmax --output {o}/record.json "
        "--sensitivity {o}/costs",
        "", ("matplotlib",),
    ),
    Command(
        "export",
        "export --model {w}/weights.safetensors --output {o}/e.onnx --landmarks {o}/t.json "
        "--safetensors {o}/e.safetensors",
        "", ("torch", "onnxscript"),
    ),
    Command("pack", "pack {w}/folder --output {o}/pack --validation 1", "--overwrite"),
    Command("triton", "triton {o}/models --model {w}/n.onnx"),
]  # fmt: skip


def write_world(folder: Path) -> Path:
    """The files that the commands read."""
    folder.mkdir(parents=True)
    data.write_pack(folder / "pack")
    data.write_aflw2000(folder / "aflw", 33)
    data.write_folder_data(folder / "folder", 6)
    networks.write_convolution(folder / "n.onnx", 0.3)
    (folder / "photos").mkdir()
    for name in "abcdef":
        shutil.copy(data.PORTRAIT, folder / "photos" / f"{name}.jpg")
    recipe = {"name": "tiny", "generator": TINY, "batch_size": 4, "workers": 1, "epochs": 3,
              "checkpoint_every": 1}  # fmt: skip
    (folder / "r.yaml").write_text(json.dumps(recipe))
    return folder


def write_key(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)


def write_weights(path: Path) -> None:
    from posgan_edge.models.checkpoints import save_safetensors
    from posgan_edge.models.registry import build_generator

    options = dict(TINY)
    save_safetensors(build_generator(str(options.pop("name")), layout="ict", **options), path)


@dataclass
class Ended:
    """How a process ended. ``code`` is below zero where a signal ended it."""

    code: int
    out: str
    err: str
    seconds: float
    late: float = 0.0  # seconds from the signal to the end

    def __str__(self) -> str:
        return f"exit {self.code} after {self.seconds:.1f} s\n{self.out[-500:]}\n{self.err[-3000:]}"


@dataclass
class Place:
    """A world, and folders of one trial: ``out`` for outputs, ``tmp`` for temporary files."""

    world: Path
    folder: Path
    out: Path = field(init=False)
    tmp: Path = field(init=False)

    def __post_init__(self) -> None:
        self.out, self.tmp = self.folder / "out", self.folder / "tmp"
        for path in (self.out, self.tmp):
            path.mkdir(parents=True, exist_ok=True)

    def words(self, command: Command, again: bool = False) -> list[str]:
        line = command.line + (f" {command.again}" if again and command.again else "")
        return [w.format(w=self.world, o=self.out, box=BOX) for w in line.split()]

    def environment(self) -> dict[str, str]:
        caches = str(self.world.parent / "mpl")
        return {**os.environ, "TMPDIR": str(self.tmp), "OMP_NUM_THREADS": "1",
                "MPLCONFIGDIR": caches, "PYTHONUNBUFFERED": "1"}  # fmt: skip

    def run(
        self, command: Command, again: bool = False, number: int = 0, event: int = 0,
        after: float | None = None, **options: Any,
    ) -> Ended:  # fmt: skip
        """Runs a command. A signal ``number`` is sent at a file event, or ``after`` seconds."""
        child = [sys.executable, "-m", "tests.faults.child", str(int(number)), str(event),
                 str(self.folder), *self.words(command, again)]  # fmt: skip
        return run_process(child, number if after is not None else 0, after, SOON,
                           env=self.environment(), **options)  # fmt: skip


def run_process(
    words: list[str], number: int = 0, after: float | None = None, soon: float = SOON,
    longest: float = 300.0, **options: Any,
) -> Ended:  # fmt: skip
    """Runs a process in a group of its own, and checks that nothing of it stays alive."""
    start = time.monotonic()
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )
    late = 0.0
    try:
        if after is not None:
            try:
                out, err = process.communicate(timeout=after)
                return _ended(process, out, err, start, 0.0)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
            sent = time.monotonic()
            out, err = process.communicate(timeout=soon)
            late = time.monotonic() - sent
        else:
            out, err = process.communicate(timeout=longest)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[1][-2000:]
        raise AssertionError(f"still runs after {error.timeout:.0f} s: {words}\n{said}") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return _ended(process, out, err, start, late)


def _ended(process: Any, out: str | None, err: str, start: float, late: float) -> Ended:
    deadline = time.monotonic() + SOON
    # A killed trainer's processes notice that within some seconds.
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"a child of {process.args} stays alive")
        time.sleep(0.05)
    return Ended(process.returncode, out or "", err or "", time.monotonic() - start, late)


def files_of(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its path there; event files of TensorBoard are left out."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if not p.is_dir()}
    return {n: p for n, p in found.items() if "tfevents" not in n and not is_kept(p)}


def temporary(folder: Path) -> list[str]:
    """Names of temporary files and folders that are left below a folder."""
    return sorted(p.name for p in folder.rglob("*") if ".part" in p.name and not is_kept(p))


def is_kept(path: Path) -> bool:
    """Whether a file is what a run over pictures goes on from."""
    return KEPT.match(path.name) is not None and not LEFT.match(path.name)


def is_left(path: Path) -> bool:
    """Whether a file, or a folder that it is in, has the name of a temporary one."""
    return any(LEFT.search(part) for part in path.parts)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_of(folder).items()}
