"""Margins of a neural model set to those of training, after it is trained.

Networks that are trained row by row have margins of their own, a little beside those of the rows.
Categories are moved by the biases of the last layer until each column's mean probabilities are the
training shares (iterative proportional fitting in the log domain); numbers by cutting their line
where the model's own distribution has each code's share of rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from manikin.synthesizers.table._dense import Dense

__all__ = ["calibrated"]

ROUNDS = 12
STRATA = 8  # scores drawn for each row of outputs


@torch.no_grad()
def calibrated(bias: Tensor, outputs: Tensor, dense: Dense, rng: torch.Generator) -> Dense:
    """Move `bias`, of the layer that gave `outputs`, in place and return `dense` with other cuts.

    Outputs (draws, W + 2 C) are those of latents drawn as in sampling.
    """
    outputs = outputs.clone()
    real = torch.isfinite(dense.pad)
    for _ in range(ROUNDS):
        found = dense.log_softmax(outputs[:, : dense.slots]).exp().mean(0)
        shift = torch.zeros_like(found)
        ratio = dense.frequency[real].clamp(min=1e-6) / found[real].clamp(min=1e-6)
        shift[real] = ratio.log().clamp(-2.0, 2.0)
        outputs[:, : dense.slots] += shift
        bias[: dense.slots] += shift
    if not dense.lines:
        return dense
    log_categories = dense.log_softmax(outputs[:, : dense.slots])
    line = dense.slot(dense.numbers, dense.codes_at[:, 0])
    means, log_scales = dense.logistics(outputs)
    strata = torch.arange(STRATA)[:, None, None] + torch.rand(STRATA, *means.shape, generator=rng)
    scores = dense.scores(means, log_scales, strata / STRATA)  # (strata, draws, C)
    weights = log_categories[:, line].exp().expand(STRATA, -1, -1)
    return dense.recut(scores.flatten(0, 1), weights.flatten(0, 1))
