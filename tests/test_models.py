import os
from typing import Any

import numpy as np
import pytest
import torch

from posgan_edge.errors import BadInput
from posgan_edge.models.checkpoints import load_generator, save_safetensors
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.models.registry import build_generator, count_macs, count_parameters
from posgan_edge.models.unet import Discriminator, UNetGenerator
from posgan_edge.training.basis import scalar_modes
from posgan_edge.training.datasets import PackMaps
from tests.helpers.data import real_data, write_pack
from tests.helpers.there import there


def original_checkpoint(path, ngf, **extra):
    """A random checkpoint with the original's keys, and the generator it was made from."""
    torch.manual_seed(ngf)
    generator, discriminator = UNetGenerator(ngf), Discriminator(ngf)
    for module in generator.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            there(module.running_mean).normal_(0, 0.1)
            there(module.running_var).uniform_(0.5, 2)
    content = {
        "epoch": 180,
        "k_t": 0.01,
        "global_step": 7,
        "Generator": generator.state_dict(),
        "Discriminator": discriminator.state_dict(),
        "optimG": {"state": {}, "param_groups": []},
        "optimD": {"state": {}, "param_groups": []},
        "schedulerG": {},
        "schedulerD": {},
        **extra,
    }
    torch.save(content, path)
    return generator.eval()


@pytest.mark.parametrize("ngf", [2, 5, 8])
def test_originals_checkpoint_of_any_width(tmp_path, ngf):
    generator = original_checkpoint(tmp_path / "ckpt.pth", ngf)
    loaded = load_generator(tmp_path / "ckpt.pth")
    assert loaded.config == {"ngf": ngf, "layout": "prnet"}
    image = torch.rand(2, 3, 256, 256)
    with torch.inference_mode():
        assert torch.equal(loaded(image), generator(image))


def test_originals_network_is_reproduced():
    folder = real_data("reference/img2pos-checkpoint")
    expected = np.load(folder / "expected.npz")
    generator: Any = load_generator(folder / "ckpt_epoch_180.pth")
    image = torch.from_numpy(expected["image_rgb"]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        raw, maps = generator.raw(image).numpy(), generator(image).numpy()
    assert np.abs(raw - expected["raw_output"]).max() <= 1e-5
    pixels = maps.transpose(0, 2, 3, 1) * 256 - 0.5
    assert np.abs(pixels - expected["position_map"]).max() <= 1e-4  # of 255


def test_pixel_units_of_the_original():
    generator = UNetGenerator(2)
    with torch.no_grad():
        block: Any = generator.decoder[-1].block
        last = block[1]
        last.weight.zero_()
        last.bias.fill_(float(np.arctanh(0.5 / 1.5)))  # raw 0.5: pixel 0.75 * 255
        value = generator.eval()(torch.rand(1, 3, 256, 256))
    assert value.numpy() == pytest.approx((0.75 * 255 + 0.5) / 256, abs=1e-6)


def test_ngf_64_is_the_published_size():
    generator = build_generator("unet", ngf=64)
    assert count_parameters(generator) / 1e6 == pytest.approx(39.15, abs=0.02)
    assert count_macs(generator) / 1e9 == pytest.approx(11.1, abs=0.05)


def test_edge_stays_in_its_budget():
    generator = build_generator("edge")
    assert count_macs(generator) <= 100e6
    assert count_parameters(generator) <= 2e6
    assert generator.eval()(torch.rand(3, 3, 128, 128)).shape == (3, 3, 128, 128)


def test_discriminator_gradients_reach_the_map():
    network = Discriminator(4, 64)
    maps = torch.rand(2, 3, 64, 64, requires_grad=True)
    network.energy(torch.rand(2, 3, 64, 64), maps).backward()
    assert maps.grad is not None
    assert maps.grad.abs().sum() > 0


def test_modes_span_similarity_transforms(tmp_path):
    pack = PackMaps(write_pack(tmp_path / "pack", codes=3))
    modes = scalar_modes(pack, 13).reshape(13, -1)  # 3 channels x 4 basis maps + constant
    assert modes @ modes.T == pytest.approx(np.eye(13), abs=1e-4)
    face = np.tensordot(pack.codes[0], pack.basis, 1).reshape(3, -1)
    turned = np.stack([0.8 * face[1] + 0.2, -0.8 * face[0] + 0.1, 0.8 * face[2]])
    assert turned @ modes.T @ modes == pytest.approx(turned, abs=2e-3)


def test_safetensors_round_trip(tmp_path):
    generator = EdgeGenerator(modes=4, map_size=16).eval()
    with torch.no_grad():
        generator.modes.normal_()
    save_safetensors(generator, tmp_path / "edge.safetensors", note="test")
    loaded = load_generator(tmp_path / "edge.safetensors")
    image = torch.rand(1, 3, 128, 128)
    assert torch.equal(loaded(image), generator(image))
    assert loaded.config == generator.config


def _truncated(path):
    original_checkpoint(path, 2)
    path.write_bytes(path.read_bytes()[:5000])


def _code(path):
    torch.save({"Generator": pytest.approx(1)}, path)


def _foreign(path):
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}}, path)


def _other_shape(path):
    weights = UNetGenerator(2).state_dict()
    weights["decoder.7.block.1.weight"] = torch.zeros(4, 4, 3, 3)
    torch.save({"Generator": weights}, path)


def _missing_weight(path):
    weights = UNetGenerator(2).state_dict()
    del weights["decoder.3.block.1.weight"]
    torch.save({"Generator": weights}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_truncated, "truncated|not a checkpoint"),
        (_code, "not a checkpoint of plain tensors"),
        (_foreign, "not a generator checkpoint.*found: state_dict"),
        (_other_shape, "weights of another shape"),
        (_missing_weight, "1 weights are missing"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_bytes(b"GIF89a" * 100), "not a PyTorch file"),
        (lambda p: torch.save([1, 2], p), "holds a list"),
        (lambda p: None, "no such checkpoint"),
    ],
)
def test_unusable_checkpoints_get_one_line(tmp_path, make, message):
    path = tmp_path / "ckpt.pth"
    make(path)
    with pytest.raises(BadInput, match=message) as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


TINY = {"name": "edge", "config": {"modes": 4, "map_size": 16}}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"name": "edge"}, "key 'config' is missing"),
        ({**TINY, "weights": [1]}, "weights: expected a mapping"),
        ({**TINY, "weights": {"fc1.bias": 1.0}}, "weights.*expected Tensor, got float"),
        ({**TINY, "weights": {1: torch.ones(1)}}, "expected str, got int"),
        ({**TINY, "weights": {}}, "weights are missing"),
        ({**TINY, "config": None, "weights": {}}, "config: expected a mapping"),
        ({**TINY, "config": {"modes": 2**47}, "weights": {}}, "modes: expected int <= 4096"),
        ({**TINY, "name": ["edge"], "weights": {}}, "name: expected str"),
        ({**TINY, "name": "vgg", "weights": {}}, "unknown generator 'vgg'"),
        ({**TINY, "weights": {"fc1.bias": torch.full((256,), torch.nan)}}, "not finite"),
        ({**TINY, "weights": {"fc1.bias": torch.zeros(256).to_sparse()}}, "another kind"),
        ({**TINY, "weights": {"fc1.bias": torch.zeros(256, dtype=torch.cfloat)}}, "another kind"),
        ("edge", "expected a mapping, got str"),
    ],
)
@pytest.mark.parametrize("key", ["generator", "generator_ema"])
def test_checkpoints_with_broken_content_get_one_line(tmp_path, key, state, message):
    torch.save({key: state}, tmp_path / "ckpt.pth")
    with pytest.raises(BadInput, match=message) as error:
        load_generator(tmp_path / "ckpt.pth")
    assert str(error.value).startswith(f"{tmp_path / 'ckpt.pth'}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "posgan_edge.config is not JSON"),
        ("{", "posgan_edge.config is not JSON"),
        ("[" * 100_000, "posgan_edge.config is not JSON"),
        ("null", "config: expected a mapping, got null"),
        ("[1]", "config: expected a mapping, got a list"),
        ('{"modes": 1e12}', "modes: expected int"),
        ('{"modes": NaN}', "modes: nan is not a finite number"),
        ('{"modes": 140737488355328}', "modes: expected int <= 4096"),
        ('{"depth": 3}', "unknown key 'depth'"),
    ],
)
def test_safetensors_with_a_broken_configuration_get_one_line(tmp_path, config, message):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    header = {"posgan_edge.generator": "edge"}
    if config is not None:
        header["posgan_edge.config"] = config
    save_file({"w": torch.zeros(2)}, path, metadata=header)
    with pytest.raises(BadInput, match=message) as error:
        load_generator(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_safetensors_have_the_mode_of_other_files(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        save_safetensors(EdgeGenerator(modes=4, map_size=16), tmp_path / "e.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "e.safetensors").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("generator", "head"),
    [
        (EdgeGenerator(modes=4, map_size=16), lambda g: [g.fc1, g.fc2]),
        (UNetGenerator(2), lambda g: [g.decoder[-1].block[1]]),
    ],
    ids=["edge", "unet"],
)
def test_autocast_leaves_the_head_in_fp32(generator, head):
    kinds: list[Any] = []
    body: list[Any] = []
    if isinstance(generator, EdgeGenerator):
        generator.modes.normal_()

    def record(into):
        return lambda module, inputs, output: into.append((inputs[0].dtype, output.dtype))

    for layer in head(generator):
        layer.register_forward_hook(record(kinds))
    first = next(m for m in generator.modules() if isinstance(m, torch.nn.Conv2d))
    first.register_forward_hook(record(body))
    image = torch.rand(2, 3, generator.input_size, generator.input_size)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        maps = generator(image)
    assert body[0][1] == torch.bfloat16  # autocast was on
    assert set(kinds) == {(torch.float32, torch.float32)}
    assert maps.dtype == torch.float32
    # A map that went through bfloat16 has at most 256 values between two powers of two.
    assert not torch.equal(maps, maps.bfloat16().float())


def test_wrong_layout(tmp_path):
    original_checkpoint(tmp_path / "ckpt.pth", 2)
    with pytest.raises(BadInput, match="UV layout 'prnet', not 'ict'"):
        load_generator(tmp_path / "ckpt.pth", layout="ict")


def test_foreign_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(BadInput, match="not one of a posgan-edge generator"):
        load_generator(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"\x01\x02")
    with pytest.raises(BadInput, match="truncated or not a safetensors"):
        load_generator(tmp_path / "x.safetensors")


STAGE = [1, 8, 2, 1, True]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("resnet", {}, "unknown generator"),
        ("edge", {"depth": 3}, "generator 'edge': not a valid configuration: unknown key 'depth'"),
        ("edge", {"name": "edge"}, "unknown key 'name'"),
        ("edge", {"modes": "many"}, "modes: expected int, got str"),
        ("edge", {"modes": 4096, "map_size": 4096}, "asks for 6.9e.10 weights"),
        ("edge", {"hidden": 65536, "neck": 4096}, "asks for 4.3e.09 weights"),
        ("edge", {"modes": 2**40}, "modes: expected int <= 4096"),
        ("edge", {"stem": [16]}, "stem: expected a list of length 2"),
        ("edge", {"stages": []}, "stages: expected a list of length >= 1"),
        ("edge", {"stages": [STAGE] * 2}, "stages must halve the resolution three times"),
        ("edge", {"stages": [[10**9, 8, 2, 1, True], STAGE, STAGE]}, "expected int <= 32"),
        ("edge", {"stages": [[1, 8, 3, 1, True], STAGE, STAGE]}, "unknown value 3"),
        ("edge", {"stages": "deep"}, "stages: expected a list, got str"),
        ("unet", {"ngf": 10**6}, "ngf: expected int <= 128"),
        ("unet", {"ngf": 0}, "ngf: expected int >= 1"),
        ("unet", {"ngf": None}, "ngf: expected int, got null"),
    ],
)
def test_unknown_generators(name, config, message):
    with pytest.raises(BadInput, match=message):
        build_generator(name, **config)


def test_shipped_weights_agree_in_both_forms():
    from importlib import resources

    from posgan_edge import load_engine

    assets = resources.files("posgan_edge.assets")
    reference = load_engine(str(assets / "edge.safetensors"))
    shipped = load_engine("edge")
    assert shipped.info.layout == reference.info.layout == "ict"
    images = np.random.default_rng(0).random((3, 3, 128, 128), np.float32)
    assert shipped.infer(images) == pytest.approx(reference.infer(images), abs=1e-4)
