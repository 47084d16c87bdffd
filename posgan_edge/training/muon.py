"""The optimiser Muon: momentum with orthogonalised steps, for weight matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: Coefficients of Jordan et al. After five rounds all singular values are between about 0.7 and
#: 1.2; small ones grow fastest.
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024), with steps of the same root mean square as Adam's.

    Parameters are matrices or convolution kernels (out, in, kh, kw), which count as matrices
    (out, in x kh x kw). ``torch.optim.Muon`` takes no kernels and iterates in bfloat16, which
    processors without such instructions emulate. The step's scale, 0.2 sqrt(longer side), is
    from Liu et al., "Muon is Scalable for LLM Training" (2025): a learning rate and a weight
    decay found for AdamW can be kept.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Takes one step along the gradients (Nesterov momentum). ``closure`` is not called."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(gradient)
                mean = state["momentum"].lerp_(gradient, 1 - momentum)
                direction = orthogonal(gradient.lerp(mean, momentum).flatten(1))
                parameter.mul_(1 - lr * group["weight_decay"])
                parameter.add_(
                    direction.reshape(parameter.shape),
                    alpha=-0.2 * lr * math.sqrt(max(direction.shape)),
                )


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Returns the nearly orthogonal factor U V^T of a matrix U S V^T (Newton-Schulz iteration)."""
    a, b, c = _QUINTIC
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    out: Tensor = x.T if tall else x
    return out


def takes(parameter: nn.Parameter) -> bool:
    """Whether Muon can optimise a parameter: not depthwise kernels, biases and norms."""
    return parameter.ndim > 1 and parameter.shape[1] > 1
