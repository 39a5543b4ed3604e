"""The way back of a diffusion of table rows: from noise to codes, or around what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manikin.nn import flow
from manikin.nn.loop import random
from manikin.synthesizers.table._coded import Allowed, Codes, check_possible, only
from manikin.synthesizers.table._denoiser import (
    LEAST,
    MOST,
    Clean,
    Denoiser,
    places_that_count,
    scores,
)
from manikin.synthesizers.table._dense import Dense

__all__ = ["DiffusionJoint"]

BLOCK = 4096  # rows drawn at a time
TRIES = 3  # draws of rows whose conditions no clamping can make exact
FAIR = 0.05  # share of draws that conditions must let through for another
NUMBERS = 0.375  # share of the steps that are for numbers; up to half are for categories
POOL, FEW = 16, 4096  # candidates a row whose categories are known, and the most of few rows
SHAKEN = 0.6  # level of noise by which repeated numbers are told apart
REPEATS = 6  # of each step around known numbers (Lugmayr et al.)
ROUNDS = 4  # of setting margins
CAREFUL = 0.7  # share of the way that a round goes


@dataclass(frozen=True)
class DiffusionJoint:
    """Rows of codes by denoising."""

    dense: Dense
    network: Denoiser
    shift: Tensor  # (C,) what scores of the sampler are moved and scaled by
    scale: Tensor
    counts: Tensor  # (D, S) share of the training rows of each code
    steps: int  # of numbers and categories together
    noise: float
    guidance: float
    target: int  # the column that guidance pushes towards, -1: none
    device: torch.device
    name = "tabdiff"
    released = ("weights of networks trained on the rows",)

    @torch.no_grad()
    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        found = [np.zeros((0, len(self.dense.sizes)), np.int32)]
        for start in range(0, n, BLOCK):
            stream = _stream(rng)
            x, symbols = self._denoised(None, min(BLOCK, n - start), stream)
            found.append(self._codes(x, symbols, stream).numpy().astype(np.int32))
        return np.concatenate(found)

    @torch.no_grad()
    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known, given those that are."""
        check_possible(allowed)
        if not codes.size:
            return codes.copy()
        codes, allowed = only(codes, allowed)
        stream = _stream(rng)
        given = torch.from_numpy(codes.astype(np.int64))
        limits = {j: torch.from_numpy(np.asarray(m, bool)) for j, m in allowed.items()}
        if not limits and self._alike(given):
            return self._explaining(given, stream).numpy().astype(np.int32)
        given, limits = self._first(given, limits, stream)
        whole = self._around(given, stream) if limits else given.clone()
        left = self._broken(whole, given, limits)
        for _ in range(TRIES - 1):
            if not 0 < len(left) < (1 - FAIR) * len(given):
                break
            whole[left] = self._around(given[left], stream)
            left = left[self._broken(whole[left], given[left], limits)]
        if not limits:
            whole = self._around(given, stream)
        elif len(left):
            whole[left] = self._around(self._filled(given, whole, left, limits, stream), stream)
        return whole.numpy().astype(np.int32)

    # -------------------------------------------------------------- conditions

    def _first(
        self, given: Tensor, limits: dict[int, Tensor], stream: torch.Generator
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Draw first the column whose margin is all that its condition asks for.

        That is the target of a guidance, or the only column of categories of rows that are open.
        """
        on_line = set(self.dense.numbers.tolist())
        first = [j for j in limits if j == self.target and self.guidance]
        if not first and len(limits) == 1 and bool((given < 0).all()):
            first = [j for j in limits if j not in on_line]
        given = given.clone()
        for j in first:
            open_ = given[:, j] < 0
            given[open_, j] = self._margin(j, limits[j], int(open_.sum()), stream)
        return given, {j: mask for j, mask in limits.items() if j not in first}

    def _margin(self, j: int, mask: Tensor, n: int, stream: torch.Generator) -> Tensor:
        weights = self.counts[j, : len(mask)].double().clamp(min=1e-9) * mask
        return torch.multinomial(weights, max(n, 1), replacement=True, generator=stream)[:n]

    @staticmethod
    def _broken(whole: Tensor, given: Tensor, limits: Mapping[int, Tensor]) -> Tensor:
        """Return rows of which a drawn code is not allowed."""
        wrong = torch.zeros(len(whole), dtype=torch.bool)
        for j, mask in limits.items():
            wrong |= ~mask[whole[:, j].clamp(min=0)] & (given[:, j] < 0)
        return wrong.nonzero().flatten()

    def _filled(
        self, given: Tensor, whole: Tensor, left: Tensor, limits: Mapping[int, Tensor],
        stream: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """Return the rows left with codes in the limited columns: those of rows that came right.

        When none did, each column's are drawn by its own margin.
        """
        rows = given[left].clone()
        right = torch.ones(len(given), dtype=torch.bool)
        for j, mask in limits.items():  # a known code need not be an allowed one
            right &= mask[whole[:, j]]
        donors = whole[right]
        at = torch.randint(max(len(donors), 1), (len(left),), generator=stream)
        for j, mask in limits.items():
            fresh = donors[at, j] if len(donors) else self._margin(j, mask, len(left), stream)
            rows[:, j] = torch.where(rows[:, j] < 0, fresh, rows[:, j])
        return rows

    # -------------------------------------------------------------- the same categories known

    def _alike(self, given: Tensor) -> bool:
        """Whether of all rows the same is known, categories only, and none is pushed to one."""
        on_line = given[:1, self.dense.numbers] >= 0
        return not bool(on_line.any()) and not self.guidance and bool((given == given[0]).all())

    def _explaining(self, given: Tensor, stream: torch.Generator) -> Tensor:
        """Complete rows of which the same categories are known.

        Numbers are drawn as for any row, then resampled by how well they explain what is known,
        p(known | numbers), one known category after another: so rows are those of `draw` for which
        it holds. Those that are repeated get noise of level SHAKEN, which is taken off again.
        """
        n = len(given)
        hidden = torch.where(places_that_count(self.dense), flow.MASK, self.dense.start)
        symbols = hidden.repeat(max(n, min(POOL * n, FEW)), 1)
        known = self.dense.categories(given[:1].clamp(min=0))[0]
        x = self._numbers(symbols, None, False, stream)
        log_weight = torch.zeros(len(x))
        for j in ((given[0] >= 0) & (hidden == flow.MASK)).nonzero().flatten():
            found = self.dense.log_softmax(self._model(x, symbols, 0.0)[1])
            log_weight += found[:, known[j]]
            symbols[:, j] = known[j]
        total = torch.softmax(log_weight.double(), 0).cumsum(0)
        even = torch.arange(n) + torch.rand(1, generator=stream).double()
        at = torch.searchsorted(total, even / n * total[-1]).clamp(max=len(x) - 1)
        x, symbols = x[at], symbols[:n]
        again = (at.diff(prepend=at.new_tensor([-1])) == 0).nonzero().flatten()
        if len(again) and x.numel():
            x[again] = self._shaken(x[again], symbols[again], stream)
        x = x[torch.randperm(n, generator=stream)]  # copies stood side by side
        codes = self._codes(x, self._categories(x, symbols, False, stream), stream)
        return torch.where(given >= 0, given, codes)

    def _shaken(self, x: Tensor, symbols: Tensor, stream: torch.Generator) -> Tensor:
        """Return scores with fresh noise of level SHAKEN, denoised beside these categories."""
        ladder = flow.ladder(max(int(NUMBERS * self.steps), 1), least=LEAST, most=MOST)[:-1]
        sigmas = [SHAKEN, *(sigma for sigma in ladder if sigma < SHAKEN)]
        x = flow.renoised((x - self.shift) / self.scale, 0.0, SHAKEN, stream)
        never = torch.full_like(symbols, -1)
        x, _ = flow.sample(
            self._model, x, symbols, sigmas, never, torch.clone, stream, self._data
        )  # fmt: skip
        return self.shift + self.scale * x

    # -------------------------------------------------------------- denoising

    def _around(self, given: Tensor, stream: torch.Generator) -> Tensor:
        """Complete rows: known categories stay unmasked, known numbers are clamped."""
        x, symbols = self._denoised(given, len(given), stream)
        return torch.where(given >= 0, given, self._codes(x, symbols, stream))

    def _denoised(
        self, given: Tensor | None, n: int, stream: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return scores (rows, C) and slots (rows, D): numbers first, then categories."""
        symbols = torch.where(places_that_count(self.dense), flow.MASK, self.dense.start)
        symbols, known = symbols.repeat(n, 1), None
        if given is not None:
            symbols = torch.where(given >= 0, self.dense.categories(given.clamp(min=0)), symbols)
            known = self._known(given, stream)
        guided = given is not None and self.guidance > 0
        x = self._numbers(symbols, known, guided, stream)
        return x, self._categories(x, symbols, guided, stream)

    def _numbers(
        self, symbols: Tensor, known: Tensor | None, guided: bool, stream: torch.Generator
    ) -> Tensor:
        """Bring noise to scores beside such categories, around known scores."""
        x = self._data.draw(torch.zeros(len(symbols), self.dense.lines), MOST, stream)
        if not x.numel() or (known is not None and not bool(known.isnan().any())):
            return x if known is None else known
        around = known is not None and bool((~known.isnan()).any())
        sigmas = flow.ladder(max(int(NUMBERS * self.steps), 1), least=LEAST, most=MOST)[:-1]
        never = torch.full_like(symbols, -1)
        model = self._guided if guided else self._model
        x = flow.entered(x, model(x, symbols, MOST)[0], MOST, self._data)
        x, _ = flow.sample(
            model, x, symbols, sigmas, never, torch.clone,
            stream, self._data, noise=self.noise, repeats=REPEATS,
            known=(known - self.shift) / self.scale if around and known is not None else None,
        )  # fmt: skip
        return self.shift + self.scale * x

    def _categories(
        self, x: Tensor, symbols: Tensor, guided: bool, stream: torch.Generator
    ) -> Tensor:
        """Choose masked categories beside scores, one at a time if there are steps for it."""
        hidden = symbols == flow.MASK
        most = int(hidden.sum(1).max()) if len(hidden) else 0
        if not most:
            return symbols
        steps = min(most, self.steps // 2 if self.dense.lines else self.steps)
        due = flow.reveals(hidden, max(steps, 1), stream)
        _, symbols = flow.sample(
            self._guided if guided else self._model, x, symbols, [0.0] * max(steps, 1), due,
            lambda logits: self._choose(logits, stream), stream, self._data,
        )  # fmt: skip
        return symbols

    @property
    def _data(self) -> flow.Normal:
        data = self.network.data
        assert data.axes is not None
        return flow.Normal(data.variances.cpu(), data.axes.cpu())

    def _model(self, x: Tensor, symbols: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        level = torch.full((len(x), 1), max(sigma, LEAST))
        there = (t.to(self.device) for t in (x, symbols, level))
        logits, said = (t.cpu() for t in self.network(*there))
        return flow.denoise(said, x, level, self._data) if sigma else x, logits

    def _guided(self, x: Tensor, symbols: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        free = symbols.clone()
        free[:, self.target] = flow.MASK
        pairs = zip(self._model(x, symbols, sigma), self._model(x, free, sigma), strict=True)
        clean, logits = (flow.guided(given, open_, self.guidance) for given, open_ in pairs)
        return clean, logits

    def _choose(self, logits: Tensor, stream: torch.Generator) -> Tensor:
        probability = self.dense.log_softmax(logits).exp()
        uniform = torch.rand(len(logits), len(self.dense.sizes), generator=stream)
        return self.dense.start + self.dense.choose(probability, uniform) * self.dense.stride

    def _codes(self, x: Tensor, symbols: Tensor, stream: torch.Generator) -> Tensor:
        chosen = (symbols - self.dense.start).div(self.dense.stride, rounding_mode="floor")
        return self.dense.codes(chosen, x, torch.rand(symbols.shape, generator=stream))

    def _known(self, given: Tensor, stream: torch.Generator) -> Tensor:
        """Return scores of known codes on the line, (rows, C), NaN elsewhere."""
        columns = torch.arange(self.dense.lines)
        place = self.dense.place[columns, given[:, self.dense.numbers].clamp(min=0)]
        there = (given[:, self.dense.numbers] >= 0) & (place >= 0)
        ranks = torch.special.ndtr(self.dense.cuts)
        place = place.clamp(min=0)
        found = scores(ranks[columns, place], ranks[columns, place + 1], stream)
        return torch.where(there, found, torch.nan)

    # -------------------------------------------------------------- margins

    @torch.no_grad()
    def calibrated(self, n: int, clean: Clean, seed: int) -> DiffusionJoint:
        """Return it with scores, biases and cuts under which `n` draws have training's margins."""
        symbols = torch.where(places_that_count(self.dense), flow.MASK, self.dense.start)
        symbols, found = symbols.repeat(n, 1), self
        x = self._numbers(symbols, None, False, random(seed, "tabdiff numbers"))
        if self.dense.lines:
            mean, deviation = clean.moments()
            scale = deviation.clamp(min=0.1) / x.std(0, correction=0).clamp(min=0.1)
            found = replace(self, scale=scale, shift=mean - scale * x.mean(0))
            x = found.shift + scale * x
        bias, real = self.network.body.last.bias, torch.isfinite(self.dense.pad)
        for _ in range(ROUNDS):
            drawn = found._categories(x, symbols, False, random(seed, "tabdiff margins"))
            share = torch.bincount(drawn.flatten(), minlength=self.dense.slots) / n
            ratio = (self.dense.frequency + 1 / n) / (share + 1 / n)
            shift = CAREFUL * ratio.log().clamp(-1.0, 1.0)
            bias[: self.dense.slots] += torch.where(real, shift, 0.0).to(bias.device)
        if self.dense.lines:
            drawn = found._categories(x, symbols, False, random(seed, "tabdiff cuts"))
            line = self.dense.slot(self.dense.numbers, self.dense.codes_at[:, 0])
            on = (drawn[:, self.dense.numbers] == line).float()
            found = replace(found, dense=self.dense.recut(x, on + 1e-6))
        return found

    # -------------------------------------------------------------- state

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return weights, cuts, and how scores are scaled."""
        weights = {name: t.cpu().numpy() for name, t in self.network.state_dict().items()}
        return {**weights, "cuts": self.dense.cuts.numpy(),
                "shift": self.shift.numpy(), "scale": self.scale.numpy()}  # fmt: skip

    def values(self) -> Mapping[str, Any]:
        """Return the size of the network: that of few rows is smaller than the recipe's."""
        return {"width": self.network.width, "depth": self.network.depth}


def _stream(rng: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**62)))
