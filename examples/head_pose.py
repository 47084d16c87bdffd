"""Head pose: angles in degrees, and where the head is in millimetres.

python examples/head_pose.py photo.jpg
"""

import sys

from posgan_edge import FacePipeline, Frame, camera_matrix, load_engine, metric_pose
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.images import read_image


def main(picture: str) -> None:
    image = read_image(picture)
    faces = FacePipeline(load_engine("edge"), MediaPipeDetector()).process(Frame(image))
    height, width = image.shape[:2]
    # The focal length in pixels is a guess; take that of your camera for true distances.
    camera = camera_matrix(width, width, width / 2, height / 2)
    for face in faces:
        pose = face.pose
        print(f"pitch {pose.pitch:+.1f}  yaw {pose.yaw:+.1f}  roll {pose.roll:+.1f} degrees")
        x, y, z = metric_pose(face, camera).translation_mm
        print(f"right {x:+.0f}  down {y:+.0f}  away {z:.0f} mm from the camera")


if __name__ == "__main__":
    main(*sys.argv[1:])
