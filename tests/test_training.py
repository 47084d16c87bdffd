import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posgan_edge.errors import BadInput
from posgan_edge.geometry.layout import load_layout
from posgan_edge.training import expressions
from posgan_edge.training.augment import augment_image, augment_maps
from posgan_edge.training.basis import read_expressions, scalar_modes
from posgan_edge.training.began import Began
from posgan_edge.training.datasets import EpochBatches, FolderMaps, PackMaps, open_maps
from posgan_edge.training.losses import LandmarkReader, MapLoss
from posgan_edge.training.muon import Muon, orthogonal
from posgan_edge.training.recipe import (
    Adversarial,
    Augmentation,
    Losses,
    Optimizer,
    Recipe,
    load_recipe,
)
from posgan_edge.training.trainer import Trainer
from tests.helpers.data import real_data, smooth_map, write_folder_data, write_pack
from tests.helpers.there import there

TINY = {"name": "edge", "modes": 13, "map_size": 16, "stem": [8, 8], "neck": 4, "hidden": 16,
        "stages": [[1, 8, 2, 1, True], [1, 8, 2, 1, False], [1, 8, 2, 1, False]]}  # fmt: skip


def tiny_recipe(**changes):
    values = {
        "name": "tiny",
        "generator": TINY,
        "epochs": 3,
        "batch_size": 8,
        "workers": 0,
        "adversarial": Adversarial(enabled=True, ngf=2, pretrain_epochs=1),
        **changes,
    }
    return Recipe(**values)


@pytest.fixture
def pack(tmp_path):
    return PackMaps(write_pack(tmp_path / "pack"))


def weights(trainer):
    return torch.cat([v.flatten().float() for v in trainer.average.state_dict().values()])


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "adam"])
def test_resume_is_exact(pack, tmp_path, optimizer):
    recipe = tiny_recipe(optimizer=Optimizer(optimizer))
    straight = Trainer(recipe, pack, None)
    while not straight.done:
        straight.train()
    first = Trainer(recipe, pack, None)
    first.train()
    first.save(tmp_path / "last.pth")
    second = Trainer(recipe, pack, None)
    second.resume(tmp_path / "last.pth")
    while not second.done:
        second.train()
    assert second.samples == straight.samples == 3 * 24
    assert torch.equal(weights(straight), weights(second))
    assert there(straight.began).k == there(second.began).k
    assert straight.history[-1]["nme"] == second.history[-1]["nme"]


@pytest.mark.parametrize("shape", [(6, 6), (4, 30), (30, 4), (96, 384)])
def test_muon_direction_is_the_orthogonal_factor(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonal(matrix)
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.3
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    cosine = (found * (u @ v)).sum() / (found.norm() * (u @ v).norm())
    assert cosine > 0.97


def test_muon_steps_by_the_size_of_adams():
    generator = torch.Generator().manual_seed(2)
    kernel = torch.nn.Parameter(torch.zeros(32, 16, 3, 3))
    kernel.grad = 1e-3 * torch.randn(kernel.shape, generator=generator)
    Muon([kernel], lr=0.01).step()
    # Adam's steps are about 0.2 to 0.4 of the learning rate, whatever the gradient's size.
    assert kernel.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)
    assert (kernel * kernel.grad).sum() < 0
    with torch.no_grad():
        kernel.fill_(1.0)
    kernel.grad.zero_()
    Muon([kernel], lr=0.1, weight_decay=0.5).step()
    assert kernel.flatten().tolist() == pytest.approx([0.95] * kernel.numel())


def test_muon_takes_matrices_and_leaves_the_rest_to_adamw(pack):
    trainer = Trainer(tiny_recipe(optimizer=Optimizer("muon")), pack, None)
    muon, adamw = trainer.optimizers
    taken = {id(p) for group in muon.param_groups for p in group["params"]}
    left = {id(p) for group in adamw.param_groups for p in group["params"]}
    for name, parameter in trainer.generator.named_parameters():
        depthwise = parameter.ndim == 4 and parameter.shape[1] == 1
        matrix = parameter.ndim > 1 and not depthwise
        assert (id(parameter) in taken, id(parameter) in left) == (matrix, not matrix), name


@pytest.mark.parametrize("generator", [TINY, {"name": "unet", "ngf": 1, "layout": "ict"}])
def test_mixed_precision_leaves_the_head_in_fp32(pack, generator):
    """Autocast is on for GPUs alone: here it is forced."""
    recipe = tiny_recipe(generator=generator, epochs=1, batch_size=24, adversarial=Adversarial())
    trainer = Trainer(recipe, pack, None)
    trainer.amp = True
    kinds: dict[str, set[torch.dtype]] = {"body": set(), "head": set()}

    def record(part):
        return lambda module, inputs, output: kinds[part].add(output.dtype)

    layers = [m for m in trainer.generator.modules() if isinstance(m, torch.nn.Conv2d)]
    layers[0].register_forward_hook(record("body"))
    last: Any = layers[-1] if generator is not TINY else trainer.generator.fc2
    last.register_forward_hook(record("head"))
    trainer.train()
    assert kinds == {"body": {torch.bfloat16}, "head": {torch.float32}}


def test_training_learns_the_pack(pack):
    still = Augmentation(
        flip=0, rotation_std=0, rotation_any=0, scale_std=0, shift_std=0, color=0, grey=0,
        blur=0, low_resolution=0, noise=0, erase=0,
    )  # fmt: skip
    recipe = tiny_recipe(
        epochs=30,
        adversarial=Adversarial(),
        augmentation=still,
        optimizer=Optimizer(lr=1e-2, warmup_steps=5),
    )
    trainer = Trainer(recipe, pack, PackMaps(pack.folder, "val"))
    scores = [there(trainer.train()) for _ in range(30)]
    maps = [there(epoch["map"]) for epoch in trainer.history]
    assert maps[-1] < 0.8 * maps[0]
    assert scores[-1] < 0.9 * scores[0]


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("cosine", 0, 0.1 * 1.001),  # the first of ten warm-up steps
        ("cosine", 15, 0.5 + 0.001),  # half of 10 epochs of 3 steps
        ("cosine", 30, 0.001),
        ("exponential", 29, 0.9**9),
        ("exponential", 30, 0.9**10),
    ],
)
def test_learning_rates(pack, schedule, step, expected):
    config = Optimizer(lr=1.0, schedule=schedule, decay=0.9, warmup_steps=10)
    recipe = tiny_recipe(optimizer=config, epochs=10, adversarial=Adversarial())
    trainer = Trainer(recipe, pack, None)
    trainer.step = step
    assert trainer.learning_rate() == pytest.approx(expected, rel=1e-6)


def test_began_balance_and_cleared_gradients():
    began = Began(Adversarial(ngf=2, gamma=0.5, lambda_k=0.5), 32, torch.device("cpu"))
    began._balance(real=1.0, fake=0.2)
    assert began.k == pytest.approx(0.15)
    began._balance(real=0.0, fake=9.0)
    assert began.k == 0.0
    over = Began(Adversarial(ngf=2, gamma=2.0, lambda_k=0.5), 32, torch.device("cpu"))
    over._balance(real=1.0, fake=1.0)  # gamma > 1 divides the fake term
    assert over.k == pytest.approx(0.25)
    image, real = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    # The generator's term leaves no gradient behind, and a step starts from none.
    began.generator_term(image, real.clone().requires_grad_()).backward()
    assert all(p.grad is None for p in began.network.parameters())
    began.config = Adversarial(ngf=2, lr=0.0)
    norms = []
    for _ in range(2):
        for group in began.optimizer.param_groups:
            group["lr"] = 0.0
        began.network.eval()
        began.step(image, real, None)
        norms.append(sum(there(p.grad).norm().item() for p in began.network.parameters()))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_pretraining_uses_real_pairs_alone():
    began = Began(Adversarial(ngf=4, lr=2e-3), 32, torch.device("cpu"))
    image, real = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    first = began.step(image, real, None)
    for _ in range(20):
        last = began.step(image, real, None)
    assert set(last) == {"d_real", "k"}
    assert last["d_real"] < first["d_real"]
    assert began.k == 0.0


@pytest.mark.parametrize("seed", range(12))
def test_image_and_map_move_together(seed):
    """A marked point is found in the changed picture where the changed map says it is."""
    size = 64
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size, 3), np.uint8)
    row, column = 20, 38
    image[row - 2 : row + 3, column - 2 : column + 3] = 255
    maps = torch.zeros(1, 3, 1, 2)
    maps[0, :, 0, 0] = torch.tensor([(column + 0.5) / size, (row + 0.5) / size, 0.25])
    maps[0, :, 0, 1] = maps[0, :, 0, 0]
    config = Augmentation(color=0, grey=0, blur=0, low_resolution=0, noise=0, erase=0)
    changed, flipped, transform = augment_image(image, 128, config, rng)
    moved = augment_maps(maps, torch.tensor([flipped]), torch.from_numpy(transform)[None])
    x, y, z = moved[0, :, 0, 0].tolist()
    # The border may be bright: look at the neighbourhood of the predicted place.
    c, r = int(x * 128), int(y * 128)
    patch = changed[max(0, r - 12) : r + 13, max(0, c - 12) : c + 13].astype(float).mean(-1)
    patch[patch < 250] = 0
    rows, columns = np.nonzero(patch)
    found = np.array([columns.mean() + max(0, c - 12), rows.mean() + max(0, r - 12)]) + 0.5
    assert found == pytest.approx([x * 128, y * 128], abs=1.2)
    scale = np.sqrt(abs(np.linalg.det(transform[:, :2])))
    assert z == pytest.approx(0.25 * scale, rel=1e-4)


def test_mirrored_map_is_the_mirrored_face():
    face = torch.from_numpy(smooth_map(8))[None]
    eye = torch.eye(2, 3)[None]
    mirrored = augment_maps(face, torch.tensor([True]), eye)
    assert torch.allclose(mirrored[:, 0], 1 - face[:, 0].flip(-1), atol=1e-6)
    assert torch.allclose(mirrored[:, 1:], face[:, 1:].flip(-1), atol=1e-6)
    assert torch.equal(augment_maps(face, torch.tensor([False]), eye), face)


def test_loss_is_the_nme():
    layout = load_layout("ict")
    face = torch.from_numpy(smooth_map(64))[None]
    loss = MapLoss(layout, 64, Losses(map=0, depth=0))
    points = layout.landmarks(face[0].numpy())
    size = np.sqrt(np.prod(np.ptp(points[:, :2], axis=0)))
    shifted = face + torch.tensor([0.03, 0.04, 0.0])[:, None, None]
    value, parts = loss(shifted, face)
    assert value.item() == pytest.approx(0.05 / size, rel=1e-3)
    assert parts["nme"].item() == pytest.approx(5 / size, rel=1e-3)


@pytest.mark.parametrize(
    ("moved", "gaps"),
    [
        ({}, 0.0),
        ({37: (0.0, 0.07)}, 0.07 / 7),  # an upper lid: one of the seven differences
        ({37: (0.0, 0.07), 41: (0.0, 0.07)}, 0.0),  # the whole eye moves
        ({62: (0.03, 0.04)}, 0.05 / 7),
        ({8: (0.5, 0.5), 48: (0.1, 0.0)}, 0.0),  # chin and mouth corner are no lids or lips
    ],
)
def test_gaps_are_the_openness_of_eyes_and_mouth(monkeypatch, moved, gaps):
    layout = load_layout("ict")
    face = torch.from_numpy(smooth_map(64))[None]
    loss = MapLoss(layout, 64, Losses(map=0, landmarks=0, depth=0, gaps=1, relative=False))
    truth = loss.landmarks(face)
    predicted = truth.clone()
    for index, (x, y) in moved.items():
        predicted[0, index, :2] += torch.tensor([x, y])
    read = iter([truth, predicted])
    monkeypatch.setattr(LandmarkReader, "forward", lambda self, maps: next(read))
    value, parts = loss(face, face)
    assert value.item() == pytest.approx(gaps, abs=5e-4)
    assert parts["gaps"].item() == value.item()


def test_eyes_and_mouth_weigh_more_and_the_nme_stays_plain(monkeypatch):
    layout = load_layout("ict")
    face = torch.from_numpy(smooth_map(64))[None]
    truth = MapLoss(layout, 64, Losses()).landmarks(face)
    predicted = truth.clone()
    predicted[0, 36, 0] += 0.1
    values = {}
    for weight in (1.0, 3.0):
        loss = MapLoss(layout, 64, Losses(map=0, depth=0, eyes_and_mouth=weight, relative=False))
        read = iter([truth, predicted])
        monkeypatch.setattr(LandmarkReader, "forward", lambda self, maps, read=read: next(read))
        values[weight] = loss(face, face)
    share = 3 * 68 / (36 + 32 * 3)
    plain, weighed = (values[w][0].item() - 0.001 for w in (1.0, 3.0))
    assert weighed == pytest.approx(share * plain, rel=0.05)
    assert values[1.0][1]["nme"].item() == pytest.approx(values[3.0][1]["nme"].item())


@pytest.mark.parametrize(
    ("skips", "modes", "tolerance"),
    [((0, 3), 14, 1e-5), ((0, 0), 4, 0.2), ((3, 3), 14, 1e-5), ((3, 3), 4, 0.2)],
)
def test_a_new_basis_keeps_the_function(pack, tmp_path, skips, modes, tolerance):
    """The maps of a refitted network differ only by what its new modes cannot hold."""
    before, after = ({**TINY, "skip": skip} for skip in skips)
    first = Trainer(tiny_recipe(epochs=1, generator=before), pack, None)
    first.train()
    first.save(tmp_path / "first.pth")
    images = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    generator = {**after, "modes": modes}
    recipe = tiny_recipe(init=str(tmp_path / "first.pth"), refit=True, generator=generator)
    refitted = Trainer(recipe, pack, None).average
    assert refitted.config["modes"] == modes
    with torch.inference_mode():
        error = (refitted(images) - first.average(images)).abs().max()
    assert error < tolerance
    assert (error > 1e-4) == (modes == 4)


def test_a_basis_can_hold_expressions_that_the_pack_lacks(pack, tmp_path):
    size = pack.basis.shape[-1]
    rng = np.random.default_rng(5)
    shapes = rng.normal(0, 1, (1, size, size, 3))
    np.savez(
        tmp_path / "shapes.npz", neutral=smooth_map(size).transpose(1, 2, 0), expression=shapes
    )
    inside = {}
    for weight in (0.0, 1.0):
        modes = scalar_modes(pack, 16, read_expressions(tmp_path / "shapes.npz", weight))
        flat = modes.reshape(len(modes), -1).astype(np.float64)
        delta = shapes[0].transpose(2, 0, 1).reshape(3, -1)
        inside[weight] = ((delta @ flat.T) ** 2).sum() / (delta**2).sum()
    assert inside[1.0] > 0.99 > 0.5 > inside[0.0]


@pytest.mark.parametrize(
    ("changes", "eyes", "mouth", "expected"),
    [
        ({"closed_eyes": 3}, [[0.1, 0.3], [0.3, 0.3]], [0, 0], [3, 1]),
        ({"open_mouths": 2}, [[0.3, 0.3], [0.3, 0.3]], [0.1, 0.5], [1, 2]),
        ({"closed_eyes": 3, "open_mouths": 2}, [[0.3, 0.1], [0.3, 0.3]], [0.4, 0], [6, 1]),
        ({}, [[0.1, 0.1], [0.3, 0.3]], [0.5, 0], None),
        ({"closed_eyes": 0}, [[0.1, 0.1], [0.3, 0.3]], [0.5, 0], "closed_eyes = 0 is not above 0"),
        ({"closed_eyes": 2}, None, None, "closed_eyes = 2 needs a pack that holds its values"),
    ],
)
def test_closed_eyes_and_open_mouths_are_drawn_more_often(pack, changes, eyes, mouth, expected):
    pack.images, pack.codes, pack.yaw = pack.images[:2], pack.codes[:2], pack.yaw[:2]
    pack.eyes = None if eyes is None else np.array(eyes)
    pack.mouth = None if mouth is None else np.array(mouth)
    recipe = tiny_recipe(batch_size=2, **changes)
    if isinstance(expected, str):
        with pytest.raises(BadInput, match=expected):
            Trainer(recipe, pack, None)
        return
    shares = Trainer(recipe, pack, None).batches.shares
    assert (shares is None) if expected is None else there(shares).tolist() == expected


def test_batches_are_shared_out_and_repeatable():
    ranks = [EpochBatches(50, 4, seed=3, rank=r, world=2) for r in range(2)]
    for sampler in ranks:
        sampler.epoch = 2
    drawn = [i for sampler in ranks for batch in sampler for _, _, i in batch]
    assert len(drawn) == len(set(drawn)) == 48
    assert list(ranks[0]) == list(ranks[0])
    ranks[0].epoch = 3
    assert next(iter(ranks[0]))[0] != (2, 0, drawn[0])


def test_profiles_are_drawn_their_share_of_times():
    shares = np.array([1.0] * 40 + [3.0] * 20)
    sampler = EpochBatches(60, 6, seed=3, shares=shares)
    drawn = np.zeros(60)
    for sampler.epoch in range(50):
        indices = [i for batch in sampler for _, _, i in batch]
        counts = np.bincount(indices, minlength=60)
        assert counts.sum() == 60
        assert set(counts[:40]) <= {0, 1}
        assert set(counts[40:]) <= {1, 2}
        drawn += counts
    assert drawn[40:].mean() / drawn[:40].mean() == pytest.approx(3, rel=0.02)
    assert drawn[:40].min() > 20


@pytest.mark.parametrize(("stored", "layout"), [({}, "ict"), ({"layout": "prnet"}, "prnet")])
def test_the_basis_names_the_layout_of_a_pack(tmp_path, stored, layout):
    folder = write_pack(tmp_path / "pack")
    with np.load(folder / "basis.npz") as data:
        np.savez(folder / "basis.npz", **data, **stored)
    data = PackMaps(folder)
    assert data.layout == layout
    assert Trainer(tiny_recipe(), data, None).generator.layout == layout


def test_originals_folders(tmp_path):
    data = open_maps(write_folder_data(tmp_path / "data"), "folder")
    assert isinstance(data, FolderMaps)
    assert (len(data), data.layout) == (3, "prnet")
    assert data.target(1) == pytest.approx(smooth_map(256, 1), abs=1e-5)


def test_a_folder_of_maps_may_have_names_that_are_not_utf8(tmp_path):
    write_folder_data(tmp_path, 1)
    for path in (*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*.npy")):
        path.rename(path.with_name(path.name.replace("f0", "f\udcff")))
    data = FolderMaps(tmp_path)
    assert data.image(0).shape == (256, 256, 3)
    assert data.target(0).shape == (3, 256, 256)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, "no such .npz file"),
        ({}, "holds no array 'neutral'"),
        ({"neutral": np.zeros(3)}, "neutral is float64"),
        ({"identity": np.zeros((1, 4, 4, 2))}, "identity is float64"),
        ({"expression": np.full((2, 4, 4, 3), np.nan)}, "expression holds values"),
        ({"expression_names": np.array(["a"])}, "differ in number"),
        ({"neutral": np.array([None])}, "Object arrays"),
    ],
)
def test_what_is_no_file_of_expressions(tmp_path, arrays, message):
    path = tmp_path / "ict.npz"
    if arrays is not None:
        good = {
            "neutral": np.zeros((4, 4, 3)), "identity": np.zeros((1, 4, 4, 3)),
            "expression": np.zeros((2, 4, 4, 3)), "expression_names": np.array(["a", "b"]),
        }  # fmt: skip
        np.savez(path, **({**good, **arrays} if arrays else {"x": np.zeros(1)}))
    with pytest.raises(BadInput, match=message) as error:
        expressions.build(path, tmp_path, tmp_path / "out.npz")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.npz").exists()


def test_a_basis_without_its_arrays_is_named(tmp_path):
    np.savez(tmp_path / "basis.npz", mean=np.zeros((4, 4, 3)), mask=np.ones((4, 4)))
    with pytest.raises(BadInput, match="holds no array 'components'"):
        expressions.resting_points(
            tmp_path,
            load_layout("ict"),
            np.zeros((3, 4, 4), np.float32),
            np.zeros((1, 2), np.float32),
        )


def test_real_sample_of_the_original(tmp_path):
    sample = real_data("reference/AFW_261068_1_0.npy")
    for sub, name in (("InputImage", ".jpg"), ("LabelImage_npy", ".npy")):
        (tmp_path / sub).mkdir()
        (tmp_path / sub / f"AFW_261068_1_0{name}").symlink_to(sample.with_suffix(name))
    data = FolderMaps(tmp_path)
    points = load_layout("prnet").landmarks(data.target(0))
    assert data.image(0).shape == (256, 256, 3)
    # The chin lies under the nose tip, which lies between the eyes and nearest to the camera.
    assert points[8, 1] > points[30, 1] > points[36, 1]
    assert points[:, 2].argmax() in range(27, 36)


@pytest.mark.parametrize(
    ("make", "data_format", "message"),
    [
        (lambda p: None, "pack", "no basis.npz"),
        (lambda p: (p / "basis.npz").write_bytes(b""), "pack", "no basis.npz and train files"),
        (lambda p: None, "folder", "no InputImage"),
        (lambda p: None, "lmdb", "unknown data format"),
    ],
)
def test_unusable_data(tmp_path, make, data_format, message):
    make(tmp_path)
    with pytest.raises(BadInput, match=message):
        open_maps(tmp_path, data_format)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ngenerator: {name: edge}\nlerning_rate: 1", "unknown key 'lerning_rate'"),
        ("optimizer: {lr: fast}", "optimizer.lr: expected float, got str"),
        ("optimizer: {lr: 0}", "optimizer.lr: expected float >= 1e-12"),
        ("optimizer: {lr: .nan}", "optimizer.lr: nan is not a finite number"),
        ("optimizer: {betas: 0.9}", "optimizer.betas: expected a list, got float"),
        ("optimizer: {betas: [0.9]}", "optimizer.betas: expected a list of length 2, got 1"),
        ("optimizer: {betas: [0.9, 1]}", r"optimizer.betas\[1\]: expected float < 1.0"),
        ("optimizer: {name: sgd}", "optimizer.name: unknown value 'sgd'"),
        ("optimizer: {schedule: linear}", "optimizer.schedule: unknown value 'linear'"),
        ("optimizer: 3", "optimizer: expected a mapping, got int"),
        ("losses: {gap: 1}", "unknown key 'gap' in losses"),
        ("augmentation: {flip: 1.5}", "augmentation.flip: expected float <= 1.0"),
        ("adversarial: {enabled: maybe}", "adversarial.enabled: expected bool, got str"),
        ("epochs: many", "epochs: expected int, got str"),
        ("epochs: 0", "epochs: expected int >= 1"),
        ("batch_size: 1.5", "batch_size: expected int, got float"),
        ("batch_size: -4", "batch_size: expected int >= 1"),
        ("batch_size: null", "batch_size: expected int, got null"),
        ("seed: -1", "seed: expected int >= 0"),
        ("workers: 1000", "workers: expected int <= 256"),
        ("threads: 100000", "threads: expected int <= 1024"),
        ("ema: 1", "ema: expected float < 1.0"),
        ("budget_minutes: .inf", "budget_minutes: inf is not a finite number"),
        ("profiles: 0", "profiles: expected float >= 1e-12"),
        ("data_format: lmdb", "data_format: unknown value 'lmdb'"),
        ("generator: edge", "generator: expected a mapping, got str"),
        ("name: [x", "not valid YAML"),
        ("- a list", "expected a mapping, got a list"),
        ("", "expected a mapping, got null"),
        ("name: x", "key 'generator' is missing"),
    ],
)
def test_broken_recipes(tmp_path, text, message):
    path = tmp_path / "recipe"
    section = text.partition(":")[0]
    if section not in ("", "name", "- a list"):
        text = f"{text}\nname: x" + ("\ngenerator: {}" if section != "generator" else "")
    path.write_text(text)
    with pytest.raises(BadInput, match=f"^{path}: not a valid recipe: .*{message}") as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "^epochs: not a change of a recipe: give key=value"),
        ("epochs.x=1", "^epochs.x=1: epochs is not a mapping"),
        ("name.a.b=1", "^name.a.b=1: name.a is not a mapping"),
        ("optimizer.betas=0.9", "optimizer.betas: expected a list, got float"),
        ("optimizer.lr=[1", r"^optimizer.lr=\[1: not valid YAML"),
        ("optimizer=3", "optimizer: expected a mapping, got int"),
        ("epochs=1.5", "epochs: expected int, got float"),
        ("lr=1", "unknown key 'lr'"),
        ("=1", "unknown key ''"),
        ("epochs=*a", r"^epochs=\*a: not valid YAML"),
    ],
)
def test_broken_overrides(override, message):
    with pytest.raises(BadInput, match=message) as error:
        load_recipe("edge", (override,))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "huge", "bomb", "absent", "long"])
def test_what_is_no_recipe_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "r.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        path.write_bytes(b"#" * (2 << 20))
    elif kind == "bomb":
        rows = (f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
        path.write_text("a0: &a0 [x]\n" + "\n".join(rows))
    elif kind == "long":
        path = Path("r" * 5000)
    with pytest.raises(BadInput):
        load_recipe(path)


def test_shipped_recipes():
    edge = load_recipe("edge", ("optimizer.lr=1e-4", "epochs=7"))
    assert (edge.optimizer.lr, edge.epochs) == (1e-4, 7)
    unet = load_recipe("unet")
    assert (unet.epochs, unet.optimizer.decay, unet.generator["ngf"]) == (300, 0.9924, 64)
    assert unet.adversarial.enabled
    with pytest.raises(BadInput, match="no such recipe"):
        load_recipe("absent")


@pytest.mark.slow
def test_train_command_writes_all_it_promises(tmp_path):
    write_pack(tmp_path / "pack")
    recipe = {
        "name": "tiny", "generator": TINY, "epochs": 2, "batch_size": 8, "workers": 1,
        "checkpoint_every": 1,
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    command = [
        sys.executable, "-m", "posgan_edge", "train", str(tmp_path / "r.yaml"),
        "--data", str(tmp_path / "pack"), "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"last.pth", "checkpoint-001.pth", "checkpoint-002.pth", "history.json",
            "history.png", "tensorboard"} == names  # fmt: skip
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [h["epoch"] for h in history] == [1, 2]
    again = subprocess.run(
        [*command, "--resume", "--set", "epochs=3"], capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert Path(tmp_path / "out" / "checkpoint-003.pth").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 1, "adversarial": {"enabled": True, "ngf": 2}},
        {"epochs": 10**6, "budget_minutes": 0.05, "optimizer": {"name": "muon"}},
    ],
    ids=["epochs", "minutes"],
)
def test_two_processes_train_one_network(tmp_path, changes):
    write_pack(tmp_path / "pack")
    recipe = {"name": "tiny", "generator": TINY, "batch_size": 4, "workers": 0,
              "checkpoint_every": 1000, **changes}  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "posgan_edge", "train", str(tmp_path / "r.yaml"), "--data", str(tmp_path / "pack"),
         "--output", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history[0]["samples"] == 24
    if "budget_minutes" in changes:
        assert history[-1]["minutes"] == pytest.approx(0.05, abs=0.02)
    else:
        assert len(history) == 1
