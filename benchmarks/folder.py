"""Faces per second over a folder of photos against processes, and against MediaPipe FaceMesh.

    python benchmarks/folder.py FOLDER [--pictures 400] [--processes 1 2 ...] [--rounds 3]
                                [--memory 10000] [--json F]

Linux only (it reads /proc). The photos of FOLDER are repeated by links until there are enough.
`posgan-edge run` writes JSON lines; FaceMesh reads the same files in as many processes, finds up to
as many faces (single pictures, one landmark network, no detector in tiles), and writes nothing.
Both are run for up to 16 faces in a picture and for one. They are timed as whole programs, with
their start and reading the pictures, in turns. Then a run over --memory pictures in as many
processes as there are cores: the memory of all its processes together, the largest in each tenth of
the time. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from posgan_edge.documents import plain, save
from posgan_edge.evaluation.folder import Folder, Memory, Rate
from posgan_edge.images import read_image
from posgan_edge.jobs.pool import Pool
from posgan_edge.live.sources.pictures import expanded
from posgan_edge.system import machine_block, usable_cores

#: Most faces that are looked for in a photo, with many and with one: names in the record.
MANY, ONE = 16, 1
METHODS = ("posgan-edge", MANY), ("FaceMesh", MANY), ("posgan-edge", ONE), ("FaceMesh", ONE)


def links(photos: Sequence[str], folder: Path, count: int) -> Path:
    """A folder with so many pictures: links to the photos, again and again."""
    folder.mkdir()
    for index in range(count):
        photo = Path(photos[index % len(photos)])
        (folder / f"{index:06d}{photo.suffix}").symlink_to(photo.resolve())
    return folder


def ours(folder: Path, processes: int, most: int, out: Path) -> list[str]:
    words = ["-m", "posgan_edge", "run", folder, "--no-window", "--processes", processes]
    return list(map(str, [*words, "--max-faces", most, "--json", out, "--overwrite"]))


def facemesh(folder: Path, processes: int, most: int, out: Path) -> list[str]:
    words = [__file__, folder, "--facemesh", out, "--processes", processes, "--max-faces", most]
    return list(map(str, words))


def title(method: str, most: int) -> str:
    return f"{method}, one face" if most == ONE else method


@contextmanager
def open_facemesh(most: int) -> Iterator[Callable[[str], int]]:
    """Yields a function that returns how many faces FaceMesh finds in a file."""
    import cv2
    from mediapipe.python.solutions.face_mesh import FaceMesh

    cv2.setNumThreads(1)
    with FaceMesh(static_image_mode=True, max_num_faces=most) as mesh:

        def count(path: str) -> int:
            found = mesh.process(cv2.cvtColor(read_image(path), cv2.COLOR_BGR2RGB))
            return len(found.multi_face_landmarks or [])

        yield count


def died(path: str, reason: str) -> int:
    raise SystemExit(f"{path}: FaceMesh died ({reason})")


def run_facemesh(folder: Path, processes: int, most: int) -> int:
    """The number of faces that FaceMesh finds in a folder."""
    paths = sorted(map(str, folder.iterdir()))
    if processes == 1:
        with open_facemesh(most) as count:
            return sum(map(count, paths))
    with Pool(processes, partial(open_facemesh, most), died) as pool:
        return sum(pool.results(iter(paths), lambda _: True))


def faces_in(out: Path) -> int:
    """The number of faces in JSON lines, or in the number that FaceMesh wrote."""
    records = map(json.loads, out.read_text().splitlines())
    return sum(r if isinstance(r, int) else len(r["faces"]) for r in records)


def timed(words: Sequence[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    # 4: some pictures have no face.
    if done.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def rates(folder: Path, count: int, processes: Sequence[int], rounds: int) -> list[Rate]:
    """Runs each method with each number of processes, in turns."""
    calls = {}
    for number in processes:
        for method, most in METHODS:
            make, name = ours if method == "posgan-edge" else facemesh, title(method, most)
            calls[name, number] = make(folder, number, most, folder.parent / f"{name}-{number}")
    seconds: dict[tuple[str, int], list[float]] = {call: [] for call in calls}
    for _ in range(rounds):
        for call, words in calls.items():
            seconds[call].append(timed(words))
            print(f"{call[0]}, processes {call[1]}: {seconds[call][-1]:.1f} s", flush=True)
    found = []
    for name, number in calls:
        taken, faces = seconds[name, number], faces_in(folder.parent / f"{name}-{number}")
        middle = median(taken)
        found.append(
            Rate(name, number, count, faces, taken, faces / middle, count / middle)
        )  # fmt: skip
    return found


def memory_mb(root: int) -> float:
    """Megabytes of a process and all that it started, shared pages counted once (PSS)."""
    total, waiting = 0, [root]
    while waiting:
        number = waiting.pop()
        try:
            text = Path(f"/proc/{number}/smaps_rollup").read_text()
            children = Path(f"/proc/{number}/task/{number}/children").read_text()
        except OSError:  # it has ended
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        waiting += map(int, children.split())
    return total / 1e3


def memory(folder: Path, count: int, processes: int) -> Memory:
    """Runs over many pictures and looks at the memory twice a second."""
    words = ours(folder, processes, MANY, folder.parent / "memory")
    start, samples = time.perf_counter(), []
    with subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        while run.poll() is None:
            samples.append((time.perf_counter() - start, memory_mb(run.pid)))
            time.sleep(0.5)
    if run.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(words)} failed")
    seconds = time.perf_counter() - start
    tenths = [max([mb for at, mb in samples if 10 * at // seconds == tenth] or [0.0])
              for tenth in range(10)]  # fmt: skip
    return Memory(count, processes, seconds, max(mb for _, mb in samples), tenths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--processes", type=int, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=10_000, help="0: do not measure it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--facemesh", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--max-faces", type=int, default=MANY, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = usable_cores()
    processes = options.processes or [*range(1, cores + 1)]
    if options.facemesh is not None:
        count = run_facemesh(options.folder, processes[0], options.max_faces)
        options.facemesh.write_text(str(count))
        return
    photos = [picture.path for picture in expanded(str(options.folder))]
    with tempfile.TemporaryDirectory() as place:
        folder = links(photos, Path(place, "photos"), options.pictures)
        found = rates(folder, options.pictures, processes, options.rounds)
        long = None
        if options.memory:
            folder = links(photos, Path(place, "many"), options.memory)
            long = memory(folder, options.memory, cores)
    record = Folder(machine_block(), len(photos), options.rounds, found, long)
    for rate in found:
        print(f"{rate.method}, processes {rate.processes}: {rate.faces_per_second:.1f} faces and "
              f"{rate.pictures_per_second:.1f} pictures a second, {rate.faces} faces")  # fmt: skip
    if long is not None:
        print(f"memory over {long.pictures} pictures: {plain(long.peak_mb_by_tenth)} MB")
    if options.json:
        save(options.json, record)


if __name__ == "__main__":
    # Other processes import this file as a module of another name.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
