"""The `edge` generator: a small encoder and a decoder that is linear in a fixed basis."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from posgan_edge.models.config import STAGES
from posgan_edge.models.precision import full_precision


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, fused: bool) -> None:
        super().__init__()
        width = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        if fused:
            layers = [_conv(inputs, width, 3, stride), _conv(width, outputs, 1, relu=False)]
        else:
            layers = [
                _conv(inputs, width, 1),
                _conv(width, width, 3, stride, groups=width),
                _conv(width, outputs, 1, relu=False),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x) if self.residual else self.layers(x)
        return out


class EdgeGenerator(nn.Module):
    """RGB (N, 3, 128, 128) float32 in [0, 1] -> position map (N, 3, M, M) in crop units.

    The encoder ends at 4x4; two fully connected layers return 3 x K coefficients, and the map is
    ``coefficients @ modes`` with K fixed scalar modes (K, M, M) shared by x, y and z. Small
    parts such as eyelids are lost at 4x4, so ``skip`` channels of the features at 8x8 are inputs of
    the first fully connected layer too. The modes are an orthonormal basis. Their span contains the
    faces they were computed from at every position, rotation and scale. The last layer's outputs
    are multiplied by ``coefficient_std`` (3, K), and ``coefficient_mean`` (3, K) is added.
    """

    modes: Tensor
    coefficient_mean: Tensor
    coefficient_std: Tensor

    def __init__(
        self,
        modes: int = 32,
        map_size: int = 128,
        layout: str = "ict",
        stem: tuple[int, int] = (16, 32),
        stages: tuple[tuple[int, int, Literal[1, 2], int, bool], ...] = STAGES,
        neck: int = 64,
        hidden: int = 256,
        skip: int = 0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "modes": modes,
            "map_size": map_size,
            "layout": layout,
            "stem": list(stem),
            "stages": [list(s) for s in stages],
            "neck": neck,
            "hidden": hidden,
            "skip": skip,
        }
        self.layout, self.input_size, self.map_size = layout, 128, map_size
        blocks: list[nn.Module] = [_conv(3, stem[0], 3, 2), _conv(stem[0], stem[1], 3, 2)]
        width = stem[1]
        self.fine, fine_width = 0, width
        for repeats, outputs, stride, expansion, fused in stages:
            if stride == 2:
                self.fine, fine_width = len(blocks), width
            for index in range(repeats):
                blocks.append(_Block(width, outputs, 1 if index else stride, expansion, fused))
                width = outputs
        self.encoder = nn.Sequential(*blocks)
        self.neck = _conv(width, neck, 1)
        self.skip = _conv(fine_width, skip, 1) if skip else None
        self.fc1 = nn.Linear(neck * 16 + skip * 64, hidden)
        self.fc2 = nn.Linear(hidden, 3 * modes)
        self.register_buffer("modes", torch.zeros(modes, map_size * map_size))
        self.register_buffer("coefficient_mean", torch.zeros(3 * modes))
        self.register_buffer("coefficient_std", torch.ones(3 * modes))
        nn.init.normal_(self.fc2.weight, std=0.01)
        nn.init.zeros_(self.fc2.bias)

    def set_basis(self, modes: Tensor, mean: Tensor, std: Tensor) -> None:
        """Sets the fixed basis: orthonormal modes (K, M, M), mean and std (3, K)."""
        self.modes.copy_(modes.reshape(self.modes.shape))
        self.coefficient_mean.copy_(mean.reshape(-1))
        self.coefficient_std.copy_(std.reshape(-1))

    def features(self, image: Tensor) -> Tensor:
        """The inputs (N, F) of the first fully connected layer."""
        fine = self.encoder[: self.fine]((image - 0.5) * 2.0)
        x = self.neck(self.encoder[self.fine :](fine)).flatten(1)
        return x if self.skip is None else torch.cat([x, self.skip(fine).flatten(1)], 1)

    def coefficients(self, features: Tensor) -> Tensor:
        """The coefficients (N, 3 * K) of the modes: K for x, then for y and for z."""
        x = self.fc2(torch.relu(self.fc1(features)))
        out: Tensor = x * self.coefficient_std + self.coefficient_mean
        return out

    def forward(self, image: Tensor) -> Tensor:
        return full_precision(self._maps, self.features(image))

    def _maps(self, features: Tensor) -> Tensor:
        c = self.coefficients(features).reshape(-1, 3, self.modes.shape[0])
        return (c @ self.modes).reshape(-1, 3, self.map_size, self.map_size)
