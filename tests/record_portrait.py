"""Records the landmarks of the shipped portrait that ``test_pipeline`` holds the weights to.

Run it once after the shipped weights changed: python -m tests.record_portrait
"""

import json
from pathlib import Path

from posgan_edge import FaceBox, FacePipeline, read_image
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX

RECORD = Path(__file__).parent / "data" / "portrait-landmarks.json"


def portrait_landmarks(model: str = "edge") -> list[list[float]]:
    """68 x (x, y, z) in pixels of the portrait."""
    with FacePipeline(model) as pipeline:
        (face,) = pipeline.process(read_image(PORTRAIT), [FaceBox(*PORTRAIT_BOX)])
    return [[round(value, 3) for value in point] for point in face.landmarks.tolist()]


if __name__ == "__main__":
    rows = ",\n".join(json.dumps(point) for point in portrait_landmarks())
    RECORD.write_text(f"[\n{rows}\n]\n")
    print(f"{RECORD}: recorded")
