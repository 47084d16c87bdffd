"""Targets: documents and files."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from numpy.typing import NDArray

from posgan_edge.errors import BadInput
from tests.fuzz.mutations import (
    ODD,
    archives,
    damaged,
    documents,
    odd_array,
    odd_arrays,
)  # fmt: skip
from tests.fuzz.targets import Target
from tests.helpers import data, networks
from tests.helpers.there import there

REPOSITORY = Path(__file__).parents[2]
ASSETS = REPOSITORY / "posgan_edge" / "assets"


#: Names a folder of ``materials.good`` that is complete.
SHARED = "POSGAN_FUZZ_WORLD"


@cache
def world() -> Path:
    """A folder with one good file of each kind, made once; that of ``SHARED`` if it is there."""
    if SHARED in os.environ:
        return Path(os.environ[SHARED])
    folder = Path(tempfile.mkdtemp(prefix="posgan-fuzz-world-"))
    data.write_pack(folder / "pack", 6)
    data.write_aflw2000(folder / "aflw", 1)
    networks.write_convolution(folder / "n.onnx")
    return folder


def npz(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as content:
        return dict(content)


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


# Recipes.
def _recipe(case: bytes, folder: Path) -> None:
    from posgan_edge.training.datasets import PackMaps
    from posgan_edge.training.recipe import load_recipe
    from posgan_edge.training.setup import new_generator

    recipe = load_recipe(written(folder, "recipe.yaml", case))
    new_generator(recipe, PackMaps(world() / "pack"))


def _recipes() -> st.SearchStrategy[bytes]:
    content = yaml.safe_load((ASSETS / "recipes" / "edge.yaml").read_text())
    content["generator"] = {"name": "edge", "modes": 4, "map_size": 16}
    text = (ASSETS / "recipes" / "edge.yaml").read_bytes()
    return st.one_of(documents(content), damaged(text))


def _build_recipes() -> st.SearchStrategy[bytes]:
    text = (REPOSITORY / "export" / "cpu.yaml").read_bytes()
    return st.one_of(documents(yaml.safe_load(text)), damaged(text))


def _build_recipe(case: bytes, folder: Path) -> None:
    from posgan_edge.build.recipe import load_build_recipe

    load_build_recipe(written(folder, "recipe.yaml", case))


def _overrides() -> st.SearchStrategy[str]:
    keys = ["optimizer.lr", "batch_size", "generator", "workers", "seed", "a.b.c", "", "losses"]
    odd = st.sampled_from([str(v) for v in ODD] + ["[", "{", "&a [*a]", "!!python/object:os x"])
    pair = st.tuples(st.sampled_from(keys), odd).map("=".join)
    return st.one_of(pair, pair, st.text(max_size=30))


def _override(case: str, folder: Path) -> None:
    from posgan_edge.training.recipe import load_recipe

    load_recipe("edge", (case,))


# Records and other JSON.
def _manifests() -> st.SearchStrategy[bytes]:
    from posgan_edge.build.engine import BuildRequest, build_engine
    from posgan_edge.engines.manifest import manifest_path

    path = world() / "engine.onnx"
    if not path.exists():
        build_engine(BuildRequest("edge", path))
    return documents(json.loads(manifest_path(path).read_text()))


def _manifest(case: bytes, folder: Path) -> None:
    from posgan_edge.engines.manifest import load_manifest, manifest_path

    path = folder / "engine.onnx"
    path.symlink_to(world() / "engine.onnx")
    manifest_path(path).write_bytes(case)
    manifest = load_manifest(path)
    assert manifest.input_size == 128, "a manifest that lies"


def _records() -> st.SearchStrategy[bytes]:
    content = json.loads((REPOSITORY / "calibration" / "edge-mse.json").read_text())
    content["images"] = content["images"][:3]
    content["ranges"] = dict(list(content["ranges"].items())[:5])
    return documents({**content, "digest": ""})


def _record(case: bytes, folder: Path) -> None:
    from posgan_edge.build.calibration import CalibrationRecord

    record = CalibrationRecord.load(written(folder, "record.json", case))
    assert np.isfinite(list(record.ranges.values())).all(), "ranges"


def _benchmarks() -> st.SearchStrategy[bytes]:
    path = REPOSITORY / "benchmarks" / "results" / "aflw2000-edge-gt.json"
    return documents(json.loads(path.read_text()))


def _benchmark(case: bytes, folder: Path) -> None:
    from posgan_edge.evaluation.compare import compare
    from posgan_edge.evaluation.document import load_benchmark

    good = load_benchmark(REPOSITORY / "benchmarks" / "results" / "aflw2000-edge-gt.json")
    other = load_benchmark(written(folder, "b.json", case))
    compare(good, other)
    compare(other, good)


# Arrays.
def _packs() -> st.SearchStrategy[tuple[str, bytes]]:
    pack = world() / "pack"
    names = st.sampled_from(["basis.npz", "train-0.npz"])
    return names.flatmap(lambda n: st.tuples(st.just(n), archives(npz(pack / n))))


def _pack(case: tuple[str, bytes], folder: Path) -> None:
    from posgan_edge.training.datasets import PackMaps

    for path in (world() / "pack").iterdir():
        (folder / path.name).write_bytes(case[1] if path.name == case[0] else path.read_bytes())
    import torch

    maps = PackMaps(folder)
    for index in range(len(maps)):
        assert maps.image(index).shape[2] == 3
        assert np.isfinite(maps.target(index)).all(), "targets"
    found = maps.maps(torch.from_numpy(np.stack([maps.target(i) for i in range(len(maps))])))
    assert found.ndim == 4, "maps"


def _humans() -> st.SearchStrategy[bytes]:
    jpeg = np.fromfile(data.PORTRAIT, np.uint8)
    points = np.random.default_rng(0).uniform(150, 300, (2, 2, 68)).astype(np.float32)
    return archives({
        "jpeg": np.tile(jpeg, 2), "offsets": np.arange(3) * len(jpeg), "pts68": points,
        "name": np.array(["a", "b"]),
    })  # fmt: skip


def _human(case: bytes, folder: Path) -> None:
    from posgan_edge.evaluation.human68 import load_human_npz

    for face in load_human_npz(written(folder, "h.npz", case)):
        assert face.crop.side > 0
        assert face.image().ndim == 3
        assert np.isfinite(face.original).all(), "points"


def _pts() -> st.SearchStrategy[bytes]:
    rows = "\n".join(f"{100 + i} {120 + i * i % 90}" for i in range(68))
    text = f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n"
    odd = st.sampled_from(["nan", "1e999", "x", "", "-", "1 2", "1e300", "}", "{", "\0", "é", "67"])
    pieces = text.replace("\n", " \n ").split(" ")

    def put(places: list[tuple[int, str]]) -> bytes:
        found = list(pieces)
        for place, value in places:
            found[place % len(found)] = value
        return " ".join(found).encode()

    places = st.lists(st.tuples(st.integers(0, 300), odd), min_size=1, max_size=3)
    return st.one_of(places.map(put), damaged(text.encode()))


def _pts_file(case: bytes, folder: Path) -> None:
    from posgan_edge.evaluation.human68 import load_pts_folder

    written(folder, "a.pts", case)
    (folder / "a.jpg").write_bytes(data.PORTRAIT.read_bytes())
    (face,) = load_pts_folder(folder)
    face.image()
    assert face.original.shape == (68, 2)
    assert np.isfinite(face.original).all(), "points"


def _mats() -> st.SearchStrategy[bytes]:
    from scipy.io import loadmat, savemat

    path = world() / "aflw" / "image00000.mat"
    content = {k: v for k, v in loadmat(path).items() if not k.startswith("_")}

    def as_mat(arrays: dict[str, Any]) -> bytes:
        stream = io.BytesIO()
        try:
            savemat(stream, arrays)
        except Exception:
            return b""
        return stream.getvalue()

    return st.one_of(odd_arrays(content).map(as_mat), damaged(path.read_bytes()))


def _mat(case: bytes, folder: Path) -> None:
    from posgan_edge.evaluation.aflw2000 import load_aflw2000

    (folder / "a.jpg").write_bytes((world() / "aflw" / "image00000.jpg").read_bytes())
    written(folder, "a.mat", case)
    (face,) = load_aflw2000(folder)
    assert np.isfinite(face.original).all(), "points"
    assert np.isfinite(there(face.angles)).all(), "angles"
    assert there(face.angles).shape == (3,), "angles"
    assert face.crop.side > 0


def _reannotations() -> st.SearchStrategy[tuple[str, bytes]]:
    path = world() / "aflw" / "reannotated.npz"
    arrays = npz(path)
    one = struct.pack("<iii", 3, 1, 3) + b"V 1" + struct.pack("<i", 17) + b"torch.DoubleTensor"
    one += struct.pack("<iqqqqq", 2, 68, 2, 2, 1, 1) + b"\0" * 80

    def as_npy(array: NDArray[Any] | None) -> bytes:
        stream = io.BytesIO()
        np.save(stream, np.zeros(0) if array is None else array)
        return stream.getvalue()

    return st.one_of(
        st.tuples(st.just("r.npz"), archives(arrays)),
        st.tuples(st.just("r.npy"), odd_array(arrays["pts68"]).map(as_npy)),
        st.tuples(st.just("r/image00000.t7"), damaged(one)),
    )


def _reannotation(case: tuple[str, bytes], folder: Path) -> None:
    from posgan_edge.evaluation.reannotation import load_reannotation

    path = folder / case[0]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(case[1])
    found = load_reannotation(folder / case[0].partition("/")[0], ["image00000"])
    for points in found.values():
        assert points.shape == (68, 2)
        assert np.isfinite(points).all(), "points"


def _maps() -> st.SearchStrategy[bytes]:
    whole = data.smooth_map(256).transpose(1, 2, 0) * 256 - 0.5

    def as_npy(array: NDArray[Any] | None) -> bytes:
        stream = io.BytesIO()
        np.save(stream, np.zeros(0) if array is None else array)
        return stream.getvalue()

    small = whole[::16, ::16].copy()
    return st.one_of(odd_array(small).map(as_npy), damaged(as_npy(small)))


def _map(case: bytes, folder: Path) -> None:
    from posgan_edge.geometry.layout import load_layout
    from posgan_edge.training.datasets import FolderMaps
    from posgan_edge.training.pack import read_map

    for sub in ("InputImage", "LabelImage_npy"):
        (folder / sub).mkdir()
    (folder / "InputImage" / "a.jpg").write_bytes(data.PORTRAIT.read_bytes())
    path = written(folder / "LabelImage_npy", "a.npy", case)
    maps = FolderMaps(folder)
    try:
        target = maps.target(0)
        assert target.ndim == 3
        assert np.isfinite(target).all(), "target"
    except BadInput:
        pass
    assert np.isfinite(read_map(path, 0, load_layout("prnet"))).all(), "map"


TARGETS = [
    Target("training recipe", _recipes, _recipe),
    Target("recipe override", _overrides, _override),
    Target("build recipe", _build_recipes, _build_recipe),
    Target("manifest", _manifests, _manifest),
    Target("calibration record", _records, _record),
    Target("benchmark document", _benchmarks, _benchmark),
    Target("pack", _packs, _pack),
    Target("human points .npz", _humans, _human),
    Target("human points .pts", _pts, _pts_file),
    Target("AFLW2000 .mat", _mats, _mat),
    Target("re-annotation", _reannotations, _reannotation),
    Target("position map .npy", _maps, _map),
]
