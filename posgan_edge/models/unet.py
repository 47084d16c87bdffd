"""The original Image-to-Position U-Net, with the same weight names, and its discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posgan_edge.models.precision import full_precision

_WIDTHS = (1, 2, 4, 8, 8, 8, 8, 8)


class _Encoder(nn.Module):
    def __init__(self, inputs: int, outputs: int, norm: bool, activation: nn.Module) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 4, 2, 1)]
        if norm:
            layers.append(nn.BatchNorm2d(outputs))
        self.block = nn.Sequential(*layers, activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class _Decoder(nn.Module):
    def __init__(self, inputs: int, outputs: int, dropout: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(inputs, outputs, 3, 1, 1),
            nn.BatchNorm2d(outputs),
        ]
        if dropout:
            layers.append(nn.Dropout(0.5))
        self.block = nn.Sequential(*layers, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class _Last(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(inputs, outputs, 3, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.block(x)) * 1.5


class UNet(nn.Module):
    """The U-Net body: (N, C, S, S) in [-1, 1] -> (N, C', S, S) in [-1.5, 1.5].

    ``depth`` stride-2 blocks; the original has 8 for S = 256. State-dict keys are those of the
    original's checkpoints (``encoder.0.block.0.weight`` ...).
    """

    def __init__(self, inputs: int, outputs: int, ngf: int = 64, depth: int = 8) -> None:
        super().__init__()
        widths = [ngf * w for w in _WIDTHS[:depth]]
        self.encoder = nn.ModuleList(
            _Encoder(
                widths[i - 1] if i else inputs,
                widths[i],
                norm=i > 0,
                activation=nn.ReLU() if i == depth - 1 else nn.LeakyReLU(0.2),
            )
            for i in range(depth)
        )
        decoder: list[nn.Module] = []
        for i in range(depth - 1):
            skip = widths[depth - 1 - i] if i else 0
            decoder.append(
                _Decoder(widths[depth - 1 - i] + skip, widths[depth - 2 - i], dropout=i < 3)
            )
        decoder.append(_Last(2 * widths[0], outputs))
        self.decoder = nn.ModuleList(decoder)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        x = self.decoder[0](x)
        for block, skip in zip(self.decoder[1:-1], skips[-2:0:-1], strict=True):
            x = block(torch.cat([skip, x], dim=1))
        return full_precision(self.decoder[-1], torch.cat([skips[0], x], dim=1))


class UNetGenerator(UNet):
    """The original generator with this package's interface.

    ``forward`` takes RGB (N, 3, 256, 256) float32 in [0, 1] and returns the position map
    (N, 3, 256, 256) in units of the crop's side. The original returns pixel indices of
    its 256-pixel crop. Pixel ``i`` has its centre at ``i + 0.5`` here: (pixel + 0.5) / 256.
    """

    def __init__(self, ngf: int = 64, layout: str = "prnet") -> None:
        super().__init__(3, 3, ngf)
        self.config = {"ngf": ngf, "layout": layout}
        self.layout = layout
        self.input_size = self.map_size = 256

    def raw(self, image: Tensor) -> Tensor:
        """Returns the original network's output in [-1.5, 1.5], FP32, for RGB in [0, 1]."""
        return super().forward(image * 2.0 - 1.0)

    def forward(self, image: Tensor) -> Tensor:
        return self.raw(image) * (127.5 / 256) + (128.0 / 256)


class Discriminator(UNet):
    """The original's auto-encoder for the six channels of concat(image, map), both in [-1, 1].

    ``forward`` returns the reconstruction (N, 6, S, S); its L1 error is the BEGAN energy.
    """

    def __init__(self, ngf: int = 64, size: int = 256) -> None:
        super().__init__(6, 6, ngf, depth=min(8, size.bit_length() - 1))
        self.config = {"ngf": ngf, "size": size}

    def energy(self, image: Tensor, position_map: Tensor) -> Tensor:
        """Returns the mean L1 reconstruction error, a scalar.

        ``image`` is (N, 3, S, S) in [0, 1], ``position_map`` (N, 3, S, S) in crop units.
        """
        pair = torch.cat([image, position_map], dim=1) * 2.0 - 1.0
        error: Tensor = (self(pair) - pair).abs().mean()
        return error
