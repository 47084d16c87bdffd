"""How far eyes and mouth are open, and where a landmark is.

python examples/expression.py photo.jpg
"""

import sys

from posgan_edge import LANDMARK_NAMES, FacePipeline, Frame, load_engine, openness
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.images import read_image


def main(picture: str) -> None:
    frame = Frame(read_image(picture))
    for face in FacePipeline(load_engine("edge"), MediaPipeDetector()).process(frame):
        for part, ratio in openness(face.landmarks).items():
            print(f"{part}: height is {ratio:.2f} of the width")
        places = dict(zip(LANDMARK_NAMES, face.landmarks, strict=True))
        x, y, _ = places["nose_bridge_3"]
        print(f"tip of the nose at x {x:.1f}, y {y:.1f} pixels")


if __name__ == "__main__":
    main(*sys.argv[1:])
