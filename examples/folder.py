"""Every picture of a folder: one JSON line for each picture with its faces.

python examples/folder.py FOLDER faces.jsonl
"""

import sys

from posgan_edge import FacePipeline, load_engine
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.live.sinks import JsonLinesSink, Result
from posgan_edge.live.sources import picture_frame, pictures_of


def main(folder: str, output: str) -> None:
    pipeline = FacePipeline(load_engine("edge"), MediaPipeDetector())
    with JsonLinesSink(output) as lines:
        for path in pictures_of(folder):
            frame = picture_frame(path)
            faces = pipeline.process(frame, max_faces=8)
            lines.write(Result(frame, faces))
            print(f"{path}: {len(faces)} faces")


if __name__ == "__main__":
    main(*sys.argv[1:])
