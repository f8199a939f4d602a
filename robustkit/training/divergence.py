"""How far two predictions lie apart."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) of each row, (B, K) and (B, K) → (B,), differentiable in both."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
