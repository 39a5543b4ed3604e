"""What a diffusion of table rows learns from: clean rows, the network, its loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manikin.nn import flow
from manikin.nn.mlp import ResidualMLP
from manikin.synthesizers.table._dense import Dense

__all__ = ["CENTRE", "LEAST", "MOST", "SPREAD", "Clean", "Denoiser", "places_that_count"]

CENTRE, SPREAD = -1.2, 1.2  # of ln σ in training (EDM, Table 1)
LEAST, MOST = 0.01, 10.0  # σ
WAVES = 8  # frequencies in which a network reads ln σ
SWEEPS = 10  # of filling in scores that rows do not have
FOCUS = 0.15  # share of rows of each of the two kinds that sampling meets
NUMBERS = 1.0  # weight of the numbers' loss beside the categories'


@dataclass(frozen=True)
class Clean:
    """Rows to learn from: the slot of each category, the ends of each score's cell as ranks."""

    slots: Tensor  # (rows, D)
    low: Tensor  # (rows, C) share of a standard normal below the cell
    high: Tensor

    @staticmethod
    def of(
        dense: Dense, codes: Tensor, rng: torch.Generator, covariance: Tensor | None = None
    ) -> Clean:
        """Return clean rows of codes; a score that a row lacks is drawn given its others.

        Without the scores' `covariance` it is learnt from all these rows.
        """
        slots = dense.categories(codes)
        columns = torch.arange(dense.lines)
        place = dense.place[columns, codes[:, dense.numbers]]  # (rows, C)
        ranks = torch.special.ndtr(dense.cuts)
        low = ranks[columns, place.clamp(min=0)]
        high = ranks[columns, place.clamp(min=0) + 1]
        scores = torch.special.ndtri((low + high) / 2)
        filled = torch.special.ndtr(_filled(scores, place >= 0, rng, covariance))
        return Clean(
            slots, torch.where(place >= 0, low, filled), torch.where(place >= 0, high, filled)
        )

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of each score, (C,)."""
        x = torch.special.ndtri(((self.low + self.high) / 2).clamp(1e-6, 1 - 1e-6))
        return x.mean(0), x.std(0, correction=0)

    def covariance(self, rng: torch.Generator) -> Tensor:
        """Return the scores' covariance, (C, C)."""
        return _covariance(scores(self.low, self.high, rng).double())

    def normal(self, rng: torch.Generator) -> flow.Normal:
        """Return the normal distribution of the scores."""
        return flow.Normal.of(self.covariance(rng))

    def rows(self, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch's tensors of some rows."""
        return self.slots[which], self.low[which], self.high[which]


def scores(low: Tensor, high: Tensor, rng: torch.Generator) -> Tensor:
    """Draw normal scores within cells."""
    uniform = torch.rand(low.shape, generator=rng, device=low.device)
    found: Tensor = torch.special.ndtri((low + uniform * (high - low)).clamp(1e-6, 1 - 1e-6))
    return found


def _covariance(x: Tensor) -> Tensor:
    n, d = x.shape
    eye = torch.eye(d, dtype=x.dtype)
    return (x.T @ x + eye) / (n + 1)


def _filled(x: Tensor, there: Tensor, rng: torch.Generator, covariance: Tensor | None) -> Tensor:
    """Draw what is not there, column by column given all others, as if all were normal."""
    x = torch.where(there, x, torch.randn(x.shape, generator=rng)).double()
    gaps = [c for c in range(x.shape[1]) if not bool(there[:, c].all())]
    for _ in range(SWEEPS if gaps else 0):
        precision = torch.linalg.inv(_covariance(x) if covariance is None else covariance)
        for c in gaps:
            own = precision[c, c]
            mean = x[:, c] - (x @ precision[c]) / own
            noise = torch.randn(len(x), generator=rng).double() / own.sqrt()
            x[:, c] = torch.where(there[:, c], x[:, c], mean + noise)
    return x.float()


def places_that_count(dense: Dense) -> Tensor:
    """Return which columns have more than one category, (D,)."""
    owner = owners(dense)
    real = torch.isfinite(dense.pad)
    return torch.zeros(len(dense.sizes)).index_add(0, owner[real], torch.ones(int(real.sum()))) > 1


def owners(dense: Dense) -> Tensor:
    """Return the column of each slot, (W,)."""
    found, done = torch.zeros(dense.slots, dtype=torch.int64), 0
    for first, columns, width in dense.blocks:
        found[first : first + columns * width] = dense.order[done : done + columns].repeat(width)
        done += columns
    return found


class Denoiser(nn.Module):
    """(noisy scores, masked categories, σ) → (logits of categories, what moves the scores)."""

    axes: Tensor
    variances: Tensor

    def __init__(
        self, dense: Dense, data: flow.Normal, width: int, depth: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.slots, self.lines, self.width, self.depth = dense.slots, dense.lines, width, depth
        wide = dense.slots + dense.lines + 2 * WAVES + 1
        self.body = ResidualMLP(wide, dense.slots + dense.lines, width=width, depth=depth, rng=rng)
        assert data.axes is not None
        self.register_buffer("axes", data.axes)
        self.register_buffer("variances", data.variances)
        with torch.no_grad():  # it begins at the columns' own frequencies, as normal scores
            self.body.last.weight.mul_(0.1)
            self.body.last.weight[dense.slots :] = 0.0
            self.body.last.bias[: dense.slots] = dense.frequency.clamp(min=1e-6).log()

    @property
    def data(self) -> flow.Normal:
        """The normal distribution by which scores are scaled."""
        return flow.Normal(self.variances, self.axes)

    def forward(self, x: Tensor, symbols: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Map (rows, C), (rows, D), (rows, 1) to (rows, W) and (rows, C)."""
        seen = torch.zeros(len(x), self.slots, device=x.device)
        seen.scatter_(1, symbols.clamp(min=0), (symbols >= 0).to(seen.dtype))
        log_sigma = sigma.clamp(LEAST, MOST).log()
        angle = log_sigma * (math.pi / 8 * 2 ** torch.arange(WAVES, device=x.device).div(2))
        scaled = self.data.scaled(x, sigma)
        inputs = torch.cat([seen, scaled, log_sigma, angle.sin(), angle.cos()], 1)
        out: Tensor = self.body(inputs).float()
        return out[:, : self.slots], out[:, self.slots :]


def loss(
    network: nn.Module, batch: tuple[Tensor, ...], dense: Dense, places: Tensor,
    rng: torch.Generator, *, even: bool = True,
) -> Tensor:  # fmt: skip
    """Return each row's loss, (rows,): a bound on categories, squared errors of scores.

    Levels of noise are spread evenly over the rows, so that they vary less: unless no row's loss
    may hang on how many others there are.
    """
    assert isinstance(network, Denoiser)
    slots, low, high = batch
    n, where = len(slots), slots.device
    clean = scores(low, high, rng)
    # rows are made by numbers with all masked, then categories beside clean numbers: two of three
    # kinds of row are as those; the third, in which both are open, is what conditions need

    def uniform() -> Tensor:
        return (
            flow.stratified(n, rng, where) if even else torch.rand(n, generator=rng, device=where)
        )

    kind = uniform()
    first, second = kind < FOCUS, kind >= 1 - FOCUS
    sigma = flow.levels(uniform(), centre=CENTRE, spread=SPREAD, least=LEAST, most=MOST)
    sigma = torch.where(second, LEAST, sigma)[:, None]
    x = clean + sigma * torch.randn(clean.shape, generator=rng, device=where)
    mask = flow.masked(uniform(), places, rng) | first[:, None]
    logits, said = network(x, slots.masked_fill(mask, flow.MASK), sigma)
    found = dense.log_softmax(logits).gather(1, slots)
    numbers = flow.number_loss(said, clean, x, sigma, network.data).sum(1)
    numbers = NUMBERS * torch.where(second, 0.0, numbers)
    categories = torch.where(first, 0.0, flow.masked_loss(found, mask, places))
    return (categories + numbers) / (1 - FOCUS)
