"""Many crops through the network in one call: here one face, cut at nine angles.

python examples/batch.py photo.jpg
"""

import sys

import numpy as np

from posgan_edge import Crop, load_engine, load_layout
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.images import read_image


def main(picture: str) -> None:
    image = read_image(picture)
    (box,) = MediaPipeDetector().detect(image)
    middle = Crop.from_box(box)
    angles = range(-20, 21, 5)
    crops = [Crop(middle.center_x, middle.center_y, middle.side, angle) for angle in angles]
    engine = load_engine("edge")
    inputs = np.stack([extract_crop(image, crop, engine.info.input_size) for crop in crops])
    maps = engine.infer(inputs)  # (9, 3, M, M) in units of the crop's side
    landmarks = load_layout(engine.info.layout).landmarks(maps)  # (9, 68, 3)
    noses = np.stack(
        [crop.to_frame(points)[30] for crop, points in zip(crops, landmarks, strict=True)]
    )
    for angle, (x, y, _) in zip(angles, noses, strict=True):
        print(f"cut at {angle:+3d} degrees: tip of the nose at x {x:.1f}, y {y:.1f} pixels")
    print(f"spread {noses[:, :2].std(axis=0).max():.2f} pixels")


if __name__ == "__main__":
    main(*sys.argv[1:])
