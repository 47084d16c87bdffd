"""A 3D mesh of a face: OBJ, PLY or GLB, with the picture as its texture.

python examples/mesh.py photo.jpg face.glb
"""

import sys

from posgan_edge import FacePipeline, Frame, face_mesh, load_engine, save_mesh, uv_texture
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.images import read_image
from posgan_edge.render.dense import filled


def main(picture: str, output: str) -> None:
    image = read_image(picture)
    (face,) = FacePipeline(load_engine("edge"), MediaPipeDetector()).process(Frame(image))
    mesh = face_mesh(face.dense_map, face.crop)
    texture = filled(uv_texture(face, image, mirrored=True))
    save_mesh(mesh, output, image, texture)
    print(f"{output}: {len(mesh.vertices)} vertices, {len(mesh.triangles)} triangles")


if __name__ == "__main__":
    main(*sys.argv[1:])
