"""Your own PyTorch checkpoint: export it to ONNX and compare both on one picture.

python examples/own_checkpoint.py ckpt_epoch_180.pth unet.onnx photo.jpg
"""

import sys

import numpy as np

from posgan_edge import FacePipeline, Frame, load_engine
from posgan_edge.build.export import export_onnx
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.images import read_image
from posgan_edge.models.checkpoints import load_generator


def main(checkpoint: str, output: str, picture: str) -> None:
    difference = export_onnx(load_generator(checkpoint), output)
    print(f"{output}: largest difference from PyTorch {difference:.1e} of the crop's side")
    frame = Frame(read_image(picture))
    boxes = MediaPipeDetector().detect(frame.image)
    landmarks = []
    for model in (checkpoint, output):
        engine = load_engine(model)
        # One pass, so that both engines see the same crop, whatever the network makes of it.
        (face,) = FacePipeline(engine, passes=1).process(frame, boxes, keep_all=True)
        landmarks.append(face.landmarks)
        print(engine.describe())
    distance = np.linalg.norm(landmarks[0] - landmarks[1], axis=1).max()
    print(f"landmarks differ by at most {distance:.4f} pixels")


if __name__ == "__main__":
    main(*sys.argv[1:])
