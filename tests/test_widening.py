"""More units for a trained generator."""

import pytest
import torch

from posgan_edge.errors import BadInput
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.models.registry import build_generator
from posgan_edge.training.basis import set_basis_from
from posgan_edge.training.datasets import PackMaps
from posgan_edge.training.recipe import Augmentation, Recipe
from posgan_edge.training.widening import Moments, moments, widened
from tests.helpers.data import write_pack

TINY = {"modes": 5, "map_size": 16, "stem": [8, 8], "neck": 4, "hidden": 16,
        "stages": [[1, 8, 2, 1, True], [1, 8, 2, 1, False], [1, 8, 2, 1, False]]}  # fmt: skip


def generator(seed=1):
    torch.manual_seed(seed)
    made = build_generator("edge", **TINY).eval()
    assert isinstance(made, EdgeGenerator)
    made.coefficient_std.uniform_(0.5, 2.0)
    made.modes.normal_()
    return made


def known(network, samples=400):
    """Moments of random inputs whose errors are a linear function of rank 3, and that function."""
    torch.manual_seed(5)
    inputs, count = network.fc1.in_features, network.fc2.out_features
    right = torch.randn(inputs, 3).double() @ torch.randn(3, count).double()
    constant = torch.randn(count).double()
    x = torch.randn(samples, inputs).double()
    ones = torch.cat([x, torch.ones(samples, 1, dtype=torch.float64)], 1)
    return Moments(ones.T @ ones, ones.T @ (x @ right + constant)), right, constant


@pytest.mark.parametrize("pairs", [3, 5])
def test_the_new_units_return_the_linear_correction(pairs):
    network = generator()
    sums, right, constant = known(network)
    wider = widened(network, sums, pairs, ridge=0)
    assert wider.config == {**network.config, "hidden": 16 + 2 * pairs}
    x = torch.randn(9, network.fc1.in_features)
    expected = network.coefficients(x).double() + x.double() @ right + constant
    assert torch.allclose(wider.coefficients(x).double(), expected, rtol=1e-3, atol=1e-3)


def test_fewer_pairs_keep_the_directions_that_change_most():
    network = generator()
    sums, right, constant = known(network)
    x = torch.randn(400, network.fc1.in_features)
    expected = network.coefficients(x).double() + x.double() @ right + constant
    errors = [
        float((widened(network, sums, pairs, 0).coefficients(x) - expected).norm().detach())
        for pairs in (1, 2, 3)
    ]
    assert errors[0] > errors[1] > 10 * errors[2]


def test_a_large_ridge_corrects_nothing():
    network = generator()
    sums, *_ = known(network)
    x = torch.randn(9, network.fc1.in_features)
    wider = widened(network, sums, 3, ridge=1e9)
    assert torch.allclose(wider.coefficients(x), network.coefficients(x), atol=1e-3)


@pytest.mark.parametrize("pairs", [0, -1, 16])
def test_pairs_that_are_not_there(pairs):
    network = generator()
    with pytest.raises(BadInput, match=f"{pairs} pairs of units: give 1 to 15"):
        widened(network, known(network)[0], pairs, 0.1)


def test_moments_of_a_pack_make_its_error_smaller(tmp_path):
    pack = PackMaps(write_pack(tmp_path / "pack"))
    network = generator()
    set_basis_from(network, pack)
    still = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    recipe = Recipe(name="tiny", generator={"name": "edge", **TINY}, batch_size=len(pack),
                    augmentation=still)  # fmt: skip
    steps = []
    sums = moments(network, pack, recipe, 2 * len(pack), lambda *step: steps.append(step))
    assert steps[-1] == ("moments", 2 * len(pack), 2 * len(pack))
    wider = widened(network, sums, 15, ridge=1e-4)
    again = moments(wider, pack, recipe, 2 * len(pack))
    # The last row is the sum of the errors themselves; least squares with a constant makes it 0.
    assert again.errors[-1].norm() < 0.02 * sums.errors[-1].norm()
    assert torch.allclose(again.inputs, sums.inputs)
