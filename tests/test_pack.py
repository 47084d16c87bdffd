"""Packs made from pictures and PRNet-style maps."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.pose import rotation_from_angles
from posgan_edge.training.pack import PackOptions, make_pack
from tests.helpers.data import real_data
from tests.helpers.there import there

SIZE = 64


def base_face():
    """A smooth face (3, M, M), y up, through the mean face's landmarks, as a polynomial of u, v."""
    layout = load_layout("prnet")

    def terms(u, v):
        u, v = 2 * u - 1, 2 * v - 1
        return np.stack([u**i * v**j for i in range(4) for j in range(4 - i)])

    weights = np.linalg.lstsq(terms(*layout.mean_uv.T).T, layout.mean_points, rcond=None)[0]
    centers = (np.arange(SIZE) + 0.5) / SIZE
    v, u = np.meshgrid(centers, centers, indexing="ij")
    return np.tensordot(weights.T, terms(u, v), 1)


def write_pairs(folder, count=40):
    """The original's folders, of turned and bent faces. Returns the yaw of each in degrees."""
    rng = np.random.default_rng(3)
    for name in ("InputImage", "LabelImage_npy"):
        (folder / name).mkdir(parents=True)
    face, angles = base_face(), rng.uniform(-60, 60, count)
    waves = cv2.resize(rng.normal(size=(4, 4, 6)), (SIZE, SIZE)).transpose(2, 0, 1)
    bends = rng.normal(0, 0.02, (6, 3, 1, 1)) * waves[:, None]
    for number, yaw in enumerate(angles):
        turned = np.tensordot(rotation_from_angles(rng.uniform(-20, 20), yaw, 0), face, 1)
        shape = turned + np.tensordot(rng.normal(size=6), bends, 1)
        middle = rng.normal((0.5, 0.5, 0), 0.02)
        units = (shape * Y_UP[:, None, None]) * rng.uniform(0.2, 0.25) + middle[:, None, None]
        np.save(folder / "LabelImage_npy" / f"f{number:02}.npy",
                (units.transpose(1, 2, 0) * SIZE - 0.5).astype(np.float32))  # fmt: skip
        picture = rng.integers(0, 255, (256, 256, 3), np.uint8)
        cv2.imwrite(str(folder / "InputImage" / f"f{number:02}.jpg"), picture)
    return angles


def maps_of(pack):
    torch = pytest.importorskip("torch")
    targets = torch.from_numpy(np.stack([pack.target(i) for i in range(len(pack))]))
    return pack.maps(targets).numpy()


def names_of(folder):
    return sorted(path.name for path in folder.iterdir())


def test_maps_pictures_and_angles_come_back(tmp_path):
    pytest.importorskip("torch")
    from posgan_edge.training.datasets import PackMaps

    angles = write_pairs(tmp_path / "in")
    made = make_pack(tmp_path / "in", tmp_path / "pack", PackOptions(validation=6))
    assert (made.training, made.validation, made.map_size, made.bad) == (34, 6, SIZE, [])
    assert made.components <= 33
    assert names_of(tmp_path / "pack") == ["basis.npz", "train-0.npz", "val.npz"]
    seen = []
    for split, count in (("train", 34), ("val", 6)):
        pack = PackMaps(tmp_path / "pack", split)
        assert (len(pack), pack.layout, pack.image(0).shape) == (count, "prnet", (128, 128, 3))
        with np.load(
            tmp_path / "pack" / ("train-0.npz" if split == "train" else "val.npz")
        ) as data:
            names = list(data["name"])
        coded = maps_of(pack)
        for index, name in enumerate(names):
            pixels = np.load(tmp_path / "in" / "LabelImage_npy" / f"{name}.npy")
            given = (pixels.transpose(2, 0, 1) + 0.5) / SIZE
            # Faces of the basis come back; those held back as far as 34 others span them.
            assert np.abs(coded[index] - given).max() * SIZE < (0.05 if split == "train" else 1)
            assert pack.yaw[index] == pytest.approx(angles[int(name[1:])], abs=6)
        assert there(pack.eyes).shape == (count, 2)
        assert there(pack.mouth).shape == (count,)
        seen += names
    assert sorted(seen) == [f"f{i:02}" for i in range(40)]


def test_the_stated_error_is_that_of_the_held_back_faces(tmp_path):
    pytest.importorskip("torch")
    from posgan_edge.training.datasets import PackMaps

    write_pairs(tmp_path / "in")
    errors = {}
    for components in (4, 16, 160):
        folder = tmp_path / f"pack{components}"
        made = make_pack(tmp_path / "in", folder, PackOptions(components, 6))
        pack = PackMaps(folder, "val")
        with np.load(folder / "val.npz") as data:
            given = [np.load(tmp_path / "in" / "LabelImage_npy" / f"{n}.npy") for n in data["name"]]
        off = (maps_of(pack).transpose(0, 2, 3, 1) - (np.stack(given) + 0.5) / SIZE) * 256
        assert made.error == pytest.approx(np.linalg.norm(off, axis=-1).mean(), rel=1e-3)
        errors[components] = made.error
    assert errors[4] > 3 * errors[16]
    assert errors[160] < 0.2


def test_the_draw_follows_the_seed(tmp_path):
    write_pairs(tmp_path / "in", 12)
    drawn = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_pack(tmp_path / "in", tmp_path / name, PackOptions(8, 4, seed))
        with np.load(tmp_path / name / "val.npz") as data:
            drawn[name] = set(data["name"])
    assert drawn["a"] == drawn["b"] != drawn["c"]


def spoil_nan(folder):
    pixels = np.load(folder / "LabelImage_npy" / "f03.npy")
    pixels[5, 5] = np.nan
    np.save(folder / "LabelImage_npy" / "f03.npy", pixels)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "LabelImage_npy" / "f03.npy").unlink(), "f03.npy: cannot be read as a map"),
        (lambda f: (f / "LabelImage_npy" / "f03.npy").write_bytes(b"x"), "f03.npy: cannot be read"),
        (lambda f: (f / "LabelImage_npy" / "f03.npy").write_bytes(b""), "f03.npy: cannot be read"),
        (lambda f: np.save(f / "LabelImage_npy" / "f03.npy", np.zeros((8, 9, 3))), "(8, 9, 3)"),
        (lambda f: np.save(f / "LabelImage_npy" / "f03.npy", np.array(["x"])), "of numbers"),
        (lambda f: np.save(f / "LabelImage_npy" / "f03.npy", np.eye(3, dtype=object)), "f03.npy: "),
        (
            lambda f: np.save(
                f / "LabelImage_npy" / "f03.npy",
                np.load(f / "LabelImage_npy" / "f03.npy") / SIZE,
            ),
            "positions must be in pixels",
        ),
        (spoil_nan, "not finite"),
        (lambda f: (f / "InputImage" / "f03.jpg").write_bytes(b"x"), "f03.jpg: is not a picture"),
        (
            lambda f: cv2.imwrite(str(f / "InputImage" / "f03.jpg"), np.zeros((8, 9, 3), np.uint8)),
            "f03.jpg: is 9 x 8 pixels, not square",
        ),
    ],
)  # fmt: skip
def test_bad_pairs_are_left_out_and_named(tmp_path, spoil, reason):
    write_pairs(tmp_path / "in", 12)
    spoil(tmp_path / "in")
    made = make_pack(tmp_path / "in", tmp_path / "pack", PackOptions(8, 2))
    assert made.training + made.validation == 11
    (line,) = made.bad
    assert reason in line
    assert "\n" not in line


def test_nothing_that_was_there_is_lost(tmp_path):
    write_pairs(tmp_path / "in", 12)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "notes.txt").write_text("mine")
    (tmp_path / "pack" / "train-7.npz").write_bytes(b"old")
    with pytest.raises(UsageError, match=r"train-7\.npz: already exists"):
        make_pack(tmp_path / "in", tmp_path / "pack", PackOptions(8, 2))
    assert names_of(tmp_path / "pack") == ["notes.txt", "train-7.npz"]
    with pytest.raises(BadInput, match="too few"):
        make_pack(tmp_path / "in", tmp_path / "pack", PackOptions(8, 11, overwrite=True))
    assert (tmp_path / "pack" / "train-7.npz").read_bytes() == b"old"
    make_pack(tmp_path / "in", tmp_path / "pack", PackOptions(8, 2, overwrite=True))
    assert names_of(tmp_path / "pack") == ["basis.npz", "notes.txt", "train-0.npz", "val.npz"]


def posgan_edge(*words):
    command = [sys.executable, "-m", "posgan_edge", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_pack_is_made_and_trained_on_by_two_commands(tmp_path):
    pytest.importorskip("torch")
    write_pairs(tmp_path / "in")
    (tmp_path / "in" / "InputImage" / "f05.jpg").write_bytes(b"x")
    done = posgan_edge("pack", tmp_path / "in", "--output", tmp_path / "pack",
                       "--components", 14, "--validation", 5, "--seed", 3)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "f05.jpg: is not a picture that can be decoded" in done.stderr
    assert "34 faces to train on, 5 for validation, 1 left out; 14 components" in done.stdout
    assert 0.1 < float(done.stdout.partition("within ")[2].split()[0]) < 0.8
    assert f"--set generator.map_size={SIZE}" in done.stdout
    again = posgan_edge("pack", tmp_path / "in", "--output", tmp_path / "pack")
    assert again.returncode == 2
    assert ".npz: already exists (--overwrite replaces it)" in again.stderr
    keys = (f"generator.map_size={SIZE}", "generator.hidden=32", "epochs=2", "batch_size=16",
            "workers=0", "optimizer.warmup_steps=1")  # fmt: skip
    words = ["train", "edge", "--data", tmp_path / "pack", "--output", tmp_path / "run",
             *(word for key in keys for word in ("--set", key))]  # fmt: skip
    refused = posgan_edge(*words)
    assert refused.returncode == 4
    assert refused.stderr.endswith("14 components give 46 modes at most, generator.modes is 64\n")
    train = posgan_edge(*words, "--set", "generator.modes=40")
    assert train.returncode == 0, train.stderr
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [row["samples"] for row in history] == [32, 64]
    assert all(0 < row[key] < 100 for row in history for key in ("nme", "val_nme"))


def test_real_sample_of_the_original(tmp_path):
    pytest.importorskip("torch")
    source = real_data("reference")
    for name in ("InputImage", "LabelImage_npy"):
        (tmp_path / "in" / name).mkdir(parents=True)
    picture, label = (source / f"AFW_261068_1_0.{suffix}" for suffix in ("jpg", "npy"))
    for number in range(4):
        (tmp_path / "in" / "InputImage" / f"a{number}.jpg").write_bytes(picture.read_bytes())
        moved = np.load(label) + np.array([number, 2 * number, 0], np.float32)
        np.save(tmp_path / "in" / "LabelImage_npy" / f"a{number}.npy", moved)
    made = make_pack(tmp_path / "in", tmp_path / "pack", PackOptions(8, 1))
    assert (made.components, made.map_size, made.bad) == (1, 256, [])
    assert made.error < 0.01


def test_packing_needs_no_pytorch(tmp_path):
    write_pairs(tmp_path / "in", 8)
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from posgan_edge.cli import cli\n"
        f"cli(['pack', {str(tmp_path / 'in')!r}, '--output', {str(tmp_path / 'pack')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "pack" / "basis.npz").is_file()
