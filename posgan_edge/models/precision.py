"""Keeping a part of a network in FP32 under mixed precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def full_precision(part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns ``part(x)``, computed in FP32 even if autocast is on.

    This is for layers that compute coordinates. bfloat16 has 8 bits, so that rounding moves points
    by up to half a pixel of 256.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return part(x)
    with torch.autocast(x.device.type, enabled=False):
        return part(x.float())
