"""The colours of a face on its UV map, with alpha 255 where they are known.

python examples/texture.py photo.jpg texture.png
"""

import sys

from posgan_edge import FacePipeline, Frame, load_engine, uv_texture
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.images import read_image, write_image


def main(picture: str, output: str) -> None:
    image = read_image(picture)
    (face,) = FacePipeline(load_engine("edge"), MediaPipeDetector()).process(Frame(image))
    seen = uv_texture(face, image)
    completed = uv_texture(face, image, mirrored=True)
    write_image(output, completed)
    for name, texture in (("seen", seen), ("with the mirrored side", completed)):
        print(f"{name}: {(texture[..., 3] > 0).mean():.0%} of the map")


if __name__ == "__main__":
    main(*sys.argv[1:])
