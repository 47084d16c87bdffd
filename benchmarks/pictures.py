"""What a picture costs on one core: decoding, the thorough search for faces, reading them, rows.

    python benchmarks/pictures.py FOLDER [--pictures 60] [--rounds 3] [--json F]

Three kinds of JPEG files are made of the photos of FOLDER: a photo as it is, a photo enlarged to
900 x 900 pixels, and nine photos in one picture of 900 x 900. Each is decoded from its bytes,
searched as ``run`` and ``label`` search single pictures (up to 64 faces, also in tiles), read in
two passes, and made into rows of a table. Milliseconds are those of the processor in all threads of
the process, so other load on the machine changes them little; of each picture the fastest of the
rounds counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import FacePipeline, Frame, MediaPipeDetector, load_engine
from posgan_edge.documents import save
from posgan_edge.evaluation.folder import PictureCost, PictureCosts
from posgan_edge.images import decode_image, read_image
from posgan_edge.jobs.columns import face_row, map_code, schema, table
from posgan_edge.live.sources.pictures import expanded
from posgan_edge.system import machine_block

#: Pixels along a side of the larger pictures, faces along a side of the last kind, JPEG quality.
SIDE, GRID, QUALITY = 900, 3, 90
#: Most faces of a picture, and passes: the defaults of ``run`` and ``label``.
MOST_FACES, PASSES = 64, 2
STAGES = ("decode", "detect", "read", "rows")


def enlarged(image: NDArray[Any], side: int) -> NDArray[Any]:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)


def jpeg(image: NDArray[Any]) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def kinds(photos: Sequence[str], count: int) -> Iterator[tuple[str, list[bytes]]]:
    """The files of each kind; those of many faces are fewer."""
    some = [photos[index * len(photos) // count] for index in range(min(count, len(photos)))]
    yield "as it is", [Path(photo).read_bytes() for photo in some]
    images = [read_image(photo) for photo in some]
    yield "enlarged", [jpeg(enlarged(image, SIDE)) for image in images]
    each, grids = GRID**2, []
    for start in range(0, len(images) - each + 1, each):
        tiles = [enlarged(image, SIDE // GRID) for image in images[start : start + each]]
        grids.append(np.vstack([np.hstack(tiles[at : at + GRID]) for at in range(0, each, GRID)]))
    if grids:
        yield "nine in one", [jpeg(image) for image in grids]


def cost(
    kind: str, files: Sequence[bytes], rounds: int, pipeline: FacePipeline, detector: Any
) -> PictureCost:
    """Works through all files ``rounds`` times."""
    code = map_code(pipeline.engine)
    columns = schema(code.count)
    best = [dict.fromkeys(STAGES, np.inf) for _ in files]
    sizes, found = [], 0
    for round_ in range(rounds):
        for index, data in enumerate(files):
            marks = [time.process_time()]
            image = decode_image(np.frombuffer(data, np.uint8), kind)
            marks.append(time.process_time())
            boxes = detector.detect(image, MOST_FACES)
            marks.append(time.process_time())
            frame = Frame(image, name=kind)
            faces = pipeline.process(frame, boxes)
            marks.append(time.process_time())
            table([face_row(frame, face, code) for face in faces], columns)
            marks.append(time.process_time())
            for name, ms in zip(STAGES, np.diff(marks) * 1e3, strict=True):
                best[index][name] = min(best[index][name], float(ms))
            if not round_:
                sizes.append(image.shape[0] * image.shape[1] / 1e6)
                found += len(faces)
    return PictureCost(
        kind,
        len(files),
        found / len(files),
        mean(len(data) / 1e3 for data in files),
        mean(sizes),
        **{f"{name}_ms": mean(ms[name] for ms in best) for name in STAGES},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photos = [picture.path for picture in expanded(options.folder)]
    found = []
    with (
        load_engine("edge", threads=1) as engine,
        MediaPipeDetector() as detector,
        FacePipeline(engine, passes=PASSES) as pipeline,
    ):
        warm = read_image(photos[0])
        pipeline.process(warm, detector.detect(warm, MOST_FACES))
        for kind, files in kinds(photos, options.pictures):
            found.append(cost(kind, files, options.rounds, pipeline, detector))
            parts = ", ".join(f"{n} {getattr(found[-1], f'{n}_ms'):.2f}" for n in STAGES)
            print(f"{kind}: {found[-1].faces:.2f} faces, {found[-1].kilobytes:.0f} kB, "
                  f"{found[-1].megapixels:.2f} megapixels; ms: {parts}")  # fmt: skip
    if options.json:
        save(options.json, PictureCosts(machine_block(), options.rounds, found))


if __name__ == "__main__":
    main()
