"""Averages trained weights, and says what the average is worth on validation faces.

    python benchmarks/average_weights.py A.pth:0.7 B.pth:0.3 --data PACK --output C.safetensors

Each argument is a file of weights (or ``edge``) and its share. The statistics of the batch norms
are computed again on training faces (about two minutes). ``--equalize`` makes numbers inside the
network more equal in size, which changes no map. Printed are the validation NMEs of each file and
of the average. See ``averaging`` and ``equalizing`` in ``posgan_edge.training``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from posgan_edge.errors import BadInput
from posgan_edge.models.checkpoints import load_generator, save_safetensors
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.training.averaging import averaged, renew_statistics
from posgan_edge.training.datasets import open_maps
from posgan_edge.training.equalizing import equalized
from posgan_edge.training.recipe import load_recipe
from posgan_edge.training.validation import validation_nme


def main() -> None:
    """Reads the command line, averages and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", nargs="+", metavar="FILE:SHARE")
    parser.add_argument("--data", required=True, help="the training pack")
    parser.add_argument("--recipe", default="edge")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--equalize", action="store_true", help="make INT8 round less (edge)")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    recipe = load_recipe(options.recipe)
    train = open_maps(options.data, recipe.data_format)
    validation = open_maps(options.data, recipe.data_format, "val")
    files, shares = zip(*(text.rsplit(":", 1) for text in options.weights), strict=True)
    generators = [load_generator(file) for file in files]
    average = averaged(generators, [float(share) for share in shares])
    renew_statistics(average, train, recipe)
    if options.equalize:
        if not isinstance(average, EdgeGenerator):
            raise BadInput("--equalize: only an edge generator can be equalized")
        average = equalized(average, train, recipe)
    for name, generator in [*zip(options.weights, generators, strict=True), ("average", average)]:
        print(f"{name}: {validation_nme(generator, validation, torch.device('cpu')):.4f}")
    save_safetensors(average, options.output)


if __name__ == "__main__":
    main()
