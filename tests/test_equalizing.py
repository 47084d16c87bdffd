"""Networks whose inner numbers are made more equal for INT8."""

import pytest
import torch

from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.models.registry import build_generator
from posgan_edge.training.datasets import PackMaps
from posgan_edge.training.equalizing import equalized
from posgan_edge.training.recipe import Augmentation, Recipe
from tests.helpers.data import write_pack

TINY = {"modes": 5, "map_size": 16, "stem": [8, 8], "neck": 4, "hidden": 16,
        "stages": [[1, 8, 2, 1, True], [1, 8, 2, 1, False], [1, 8, 2, 1, False]]}  # fmt: skip
STILL = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("skip", [0, 3])
def test_the_maps_stay_and_the_ranges_come_closer(tmp_path, skip):
    pack = PackMaps(write_pack(tmp_path / "pack"))
    torch.manual_seed(2)
    network = build_generator("edge", **TINY, skip=skip).eval()
    assert isinstance(network, EdgeGenerator)
    network.fc1.weight.data *= torch.logspace(-1, 1, 16)[:, None]
    norm = network.neck[1]
    assert isinstance(norm, torch.nn.BatchNorm2d)
    norm.weight.data *= torch.tensor([0.1, 1.0, 3.0, 10.0])
    network.modes.normal_()
    recipe = Recipe(name="tiny", generator={"name": "edge", **TINY}, augmentation=STILL)
    found = equalized(network, pack, recipe)
    images = torch.stack([torch.from_numpy(pack.image(i)) for i in range(len(pack))])
    images = torch.nn.functional.interpolate(
        images.flip(-1).permute(0, 3, 1, 2).float() / 255, (128, 128), mode="bilinear"
    )
    assert torch.allclose(found(images), network(images), rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def spread(of):
        features = of.features(images)
        channels = features[:, :64].unflatten(1, (4, 16)).amax((0, 2))
        units = torch.relu(of.fc1(features)).amax(0)
        units = units[units > 0.3 * units.median()]
        return float(channels.max() / channels.min()), float(units.max() / units.min())

    before, after = spread(network), spread(found)
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.5 * before[1]
