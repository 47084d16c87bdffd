"""Adversarial training: an auto-encoder as discriminator, balanced as in BEGAN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from posgan_edge.models.unet import Discriminator
from posgan_edge.training.recipe import Adversarial


class Began:
    """BEGAN (Berthelot et al., 2017), as the original system uses it.

    ``L_D = E(real) - k E(fake)``, ``k += lambda_k (gamma E(real) - E(fake))`` clipped to [0, 1].
    With gamma > 1 the original divides the fake term of the balance by gamma instead. Gradients
    of the discriminator are cleared before each of its steps (the original never does).
    """

    def __init__(self, config: Adversarial, size: int, device: torch.device) -> None:
        self.config, self.k, self.size = config, 0.0, size
        self.network = Discriminator(config.ngf, size).to(device).train()
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.lr, betas=(0.9, 0.99)
        )

    def generator_term(self, image: Tensor, fake: Tensor) -> Tensor:
        """Returns E(fake), a scalar, with gradients for the generator only.

        ``image`` and ``fake`` are (N, 3, M, M).
        """
        self.network.requires_grad_(False)
        return self.network.energy(self._fit(image), fake)

    def step(self, image: Tensor, real: Tensor, fake: Tensor | None) -> dict[str, float]:
        """Trains the discriminator for one step. Returns the values for the log.

        Without ``fake``, it is trained on real pairs only (pre-training).
        """
        self.network.requires_grad_(True)
        image = self._fit(image)
        self.optimizer.zero_grad(set_to_none=True)
        energy_real = self.network.energy(image, real)
        loss, values = energy_real, {"d_real": _mean_over_ranks(energy_real)}
        if fake is not None:
            energy_fake = self.network.energy(image, fake.detach())
            loss = energy_real - self.k * energy_fake
            values["d_fake"] = _mean_over_ranks(energy_fake)
            self._balance(values["d_real"], values["d_fake"])
        loss.backward()
        if distributed.is_initialized():
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad.div_(distributed.get_world_size())
        self.optimizer.step()
        return {**values, "k": self.k}

    def _balance(self, real: float, fake: float) -> None:
        gamma = self.config.gamma
        difference = real - fake / gamma if gamma > 1 else gamma * real - fake
        self.k = min(max(self.k + self.config.lambda_k * difference, 0.0), 1.0)

    def _fit(self, image: Tensor) -> Tensor:
        if image.shape[-1] == self.size:
            return image
        return F.interpolate(image, size=self.size, mode="bilinear", antialias=True)

    def state(self) -> dict[str, Any]:
        """Returns weights, optimiser and balance for a checkpoint."""
        return {
            "config": self.network.config,
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "k": self.k,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restores what ``state`` returned."""
        self.network.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.k = state["k"]


def _mean_over_ranks(value: Tensor) -> float:
    value = value.detach().clone()
    if distributed.is_initialized():
        distributed.all_reduce(value)
        value /= distributed.get_world_size()
    return value.item()
