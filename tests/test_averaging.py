"""The average of trained generators."""

import copy

import pytest
import torch

from posgan_edge.errors import BadInput
from posgan_edge.models.registry import build_generator
from posgan_edge.training.averaging import averaged, renew_statistics
from posgan_edge.training.datasets import PackMaps
from posgan_edge.training.recipe import Augmentation, Recipe
from tests.helpers.data import write_pack

TINY = {"modes": 5, "map_size": 16, "stem": [8, 8], "neck": 4, "hidden": 16,
        "stages": [[1, 8, 2, 1, True], [1, 8, 2, 1, False], [1, 8, 2, 1, False]]}  # fmt: skip


def generator(seed, **options):
    torch.manual_seed(seed)
    return build_generator("edge", **{**TINY, **options})


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((1, 1), (0.5, 0.5)), ((0.7, 0.3), (0.7, 0.3)), ((3, 1), (0.75, 0.25))],
)
def test_each_weight_is_the_weighted_mean(shares, expected):
    two = generator(1), generator(2)
    kept = copy.deepcopy(two[0].state_dict())
    found = averaged(two, shares).state_dict()
    for name, value in found.items():
        if value.dtype.is_floating_point:
            first, second = (g.state_dict()[name] for g in two)
            wanted = expected[0] * first + expected[1] * second
            assert torch.allclose(value, wanted, atol=1e-6), name
    assert all(torch.equal(two[0].state_dict()[name], value) for name, value in kept.items())


def another_basis():
    found = generator(2)
    assert isinstance(found.modes, torch.Tensor)
    found.modes.fill_(1.0)
    return found


@pytest.mark.parametrize(
    ("others", "shares", "message"),
    [
        ((), (), "0 shares for 0 generators"),
        ((1,), (1, 1), "2 shares for 1 generators"),
        ((1, 2), (1, 0), "give one above 0 for each"),
        ((1, 2), (1, float("nan")), "give one above 0 for each"),
        ((1, "wider"), (1, 1), "other options"),
        ((1, "basis"), (1, 1), "differ in modes"),
    ],
)
def test_what_cannot_be_averaged_is_refused(others, shares, message):
    made = {"wider": lambda: generator(2, hidden=8), "basis": another_basis}
    generators = [made[o]() if isinstance(o, str) else generator(o) for o in others]
    with pytest.raises(BadInput, match=message):
        averaged(generators, shares)


def test_statistics_are_those_of_the_pictures(tmp_path):
    pack = PackMaps(write_pack(tmp_path / "pack"))
    still = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    recipe = Recipe(name="tiny", generator={"name": "edge", **TINY}, batch_size=len(pack),
                    augmentation=still)  # fmt: skip
    network, steps = generator(3), []
    renew_statistics(network, pack, recipe, progress=lambda *step: steps.append(step))
    assert steps == [("statistics", 1, 1)]
    assert not network.training
    images = torch.stack([torch.from_numpy(pack.image(i)) for i in range(len(pack))])
    first = network.encoder[0][0]
    seen = first((resized(images) / 255 - 0.5) * 2)
    norm = network.encoder[0][1]
    assert torch.allclose(norm.running_mean, seen.mean((0, 2, 3)), atol=2e-2)
    assert torch.allclose(norm.running_var, seen.var((0, 2, 3)), rtol=0.1, atol=1e-3)
    assert norm.momentum == 0.1


def resized(images):
    rgb = images.flip(-1).permute(0, 3, 1, 2).float()
    return torch.nn.functional.interpolate(rgb, (128, 128), mode="bilinear")
