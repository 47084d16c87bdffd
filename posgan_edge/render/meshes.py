"""Mesh files: OBJ, PLY and GLB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput, needing
from posgan_edge.files import as_path, replaced, write_whole
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.mesh import DenseFace, Mesh, face_mesh

MESH_SUFFIXES = (".obj", ".ply", ".glb")
#: Of these, those that can carry a texture.
TEXTURED_SUFFIXES = (".obj", ".glb")


def mesh_files(path: Path) -> list[Path]:
    """Every file that ``save_mesh`` may write for a path: of an OBJ also material and texture."""
    if path.suffix.lower() != ".obj":
        return [path]
    return [path, path.with_suffix(".mtl"), path.with_name(f"{path.stem}_uv.png")]


def check_mesh_writer(path: Path) -> None:
    """Raises MissingRuntime if what writes a mesh file of that suffix is not installed."""
    if path.suffix.lower() == ".obj":
        return
    with needing("trimesh", "writing PLY and GLB (not OBJ)", "mesh"):
        import trimesh  # noqa: F401


def save_mesh(
    mesh: Mesh | DenseFace,
    path: str | Path,
    image: Image | None = None,
    texture: Image | None = None,
) -> None:
    """Writes a mesh, or that of a face, as OBJ, PLY or GLB (binary glTF 2.0) by the path's suffix,
    in y-up axes.

    With ``texture`` (S, S, 3) BGR on the mesh's UV, OBJ and GLB carry it: an OBJ names a material
    file and a PNG, written beside it (``face.mtl``, ``face_uv.png``). Otherwise vertices take
    their colours from ``image``. Raises BadInput for another suffix, for what is no mesh and no
    face with a position map, for what is no picture, and where it cannot be written; MissingRuntime
    without trimesh (PLY and GLB).

    >>> import tempfile
    >>> from importlib.resources import files
    >>> from pathlib import Path
    >>> from posgan_edge import FaceBox, FacePipeline, read_image, save_mesh
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_mesh(face, Path(folder) / "face.obj", image)
    ...     (Path(folder) / "face.obj").stat().st_size > 100_000
    True
    """
    path = as_path(path)
    mesh = mesh if isinstance(mesh, Mesh) else face_mesh(mesh)
    for picture, name in ((image, "image"), (texture, "texture")):
        if picture is not None:
            arrays.image(picture, name)
    kind = path.suffix.lower()
    if kind not in MESH_SUFFIXES:
        raise BadInput(f"{path}: unknown mesh type: use {', '.join(MESH_SUFFIXES)}")
    if kind == ".obj":
        _save_obj(mesh, path, image, texture)
        return
    check_mesh_writer(path)
    import trimesh

    visual = _textured(mesh, texture) if texture is not None and kind == ".glb" else None
    model = trimesh.Trimesh(
        vertices=mesh.vertices * Y_UP,
        faces=mesh.triangles,
        vertex_normals=mesh.normals() * Y_UP,
        vertex_colors=None if image is None or visual is not None else mesh.colors(image),
        visual=visual,
        process=False,
    )
    with replaced(path) as temporary:
        model.export(str(temporary), file_type=kind[1:])


def _textured(mesh: Mesh, texture: Image) -> Any:
    with needing("pillow", "textured meshes", "mesh"):
        from PIL import Image as Pillow
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    picture = Pillow.fromarray(np.ascontiguousarray(texture[..., ::-1]))
    material = PBRMaterial(
        name="face", baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=1.0
    )
    return TextureVisuals(uv=mesh.uv * (1, -1) + (0, 1), material=material)


def _save_obj(mesh: Mesh, path: Path, image: Image | None, texture: Image | None) -> None:
    from posgan_edge.images import write_image

    vertices = mesh.vertices * Y_UP
    if image is not None and texture is None:
        vertices = np.column_stack([vertices, mesh.colors(image) / 255])
    _, material, picture = mesh_files(path)
    lines = ["# posgan-edge"]
    if texture is not None:
        lines += [f"mtllib {material.name}", "usemtl face"]
    lines += [_rows("v", vertices, "%.4f"), _rows("vn", mesh.normals() * Y_UP, "%.4f")]
    # Readers take texture coordinates without a texture for a reason to drop vertex colours.
    if texture is not None:
        lines.append(_rows("vt", mesh.uv * (1, -1) + (0, 1), "%.6f"))
    each = 2 if texture is None else 3
    corners = np.repeat(mesh.triangles + 1, each, axis=1)
    lines.append(_rows("f", corners.reshape(-1, 3, each), "%d//%d" if each == 2 else "%d/%d/%d"))
    with replaced(path) as temporary:
        temporary.write_bytes(os.fsencode("\n".join(lines) + "\n"))
        if texture is not None:
            write_image(picture, texture)
            text = f"newmtl face\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nmap_Kd {picture.name}\n"
            write_whole(material, os.fsencode(text))


def _rows(tag: str, rows: NDArray[Any], value: str) -> str:
    """``rows`` (N, ...) as lines of text; a value may take several numbers."""
    row = f"{tag} " + " ".join([value] * rows.shape[1])
    return "\n".join([row] * len(rows)) % tuple(rows.ravel().tolist())
