"""Widens trained `edge` weights, and says what that is worth on validation faces.

    python benchmarks/widen_weights.py WEIGHTS --data PACK --output WIDER.safetensors

``WEIGHTS`` is a file or ``edge``. Training goes on from the result with ``--set init=FILE --set
generator.hidden=H``, H as printed. See ``posgan_edge.training.widening``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from posgan_edge.errors import BadInput
from posgan_edge.models.checkpoints import load_generator, save_safetensors
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.training.datasets import open_maps
from posgan_edge.training.recipe import load_recipe
from posgan_edge.training.validation import validation_nme
from posgan_edge.training.widening import moments, widened


def main() -> None:
    """Reads the command line, widens and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights")
    parser.add_argument("--data", required=True, help="the training pack")
    parser.add_argument("--recipe", default="edge")
    parser.add_argument("--pairs", type=int, default=64, help="pairs of new units")
    parser.add_argument("--samples", type=int, default=40_000, help="pictures for the correction")
    parser.add_argument("--ridge", type=float, default=0.3)
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    recipe = load_recipe(options.recipe)
    train = open_maps(options.data, recipe.data_format)
    validation = open_maps(options.data, recipe.data_format, "val")
    generator = load_generator(options.weights)
    if not isinstance(generator, EdgeGenerator):
        raise BadInput(f"{options.weights}: only an edge generator can be widened")
    wider = widened(
        generator, moments(generator, train, recipe, options.samples), options.pairs, options.ridge
    )
    for name, network in ((options.weights, generator), ("wider", wider)):
        nme = validation_nme(network, validation, torch.device("cpu"))
        print(f"{name}: hidden {network.fc1.out_features}, validation NME {nme:.4f}")
    save_safetensors(wider, options.output)


if __name__ == "__main__":
    main()
