"""Draws docs/portrait.jpg: the sample portrait with landmarks, surface and pose, cut to the face.

python docs/draw_portrait.py
"""

from pathlib import Path

from posgan_edge import FaceBox, FacePipeline
from posgan_edge.images import read_image, write_image
from posgan_edge.render.draw import draw_faces

HERE = Path(__file__).parent
PORTRAIT = HERE.parent / "posgan_edge" / "assets" / "portrait.jpg"
BOX = FaceBox(179, 88, 97, 90)
SCALE = 4
LEFT, TOP, WIDTH, HEIGHT = 400, 130, 1000, 760


def main() -> None:
    image = read_image(PORTRAIT)
    with FacePipeline("edge") as pipeline:
        drawn = draw_faces(image, pipeline.process(image, [BOX]), scale=SCALE)
    write_image(HERE / "portrait.jpg", drawn[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH])


if __name__ == "__main__":
    main()
