"""A first guess of a table under a privacy budget: a Gaussian copula by noisy second moments.

Hoff, Annals of Applied Statistics 1 (2007) (latents cut into codes); multinomial probit: Albert and
Chib, JASA 88 (1993); moments matched by simulation: McFadden, Econometrica 57 (1989)
Idea       how features of two columns go together can be counted once for all pairs, and tells of
           each pair far more than clipped gradients do
Algorithm  1 each column's latents: one for its order, or one for each of its commonest levels (the
           greatest has it), and one for whether it is missing · 2 a feature of codes for each
           latent; noisy sums of products of features · 3 the correlations under which simulated
           rows have these sums, shortened as far as noise asks for (James and Stein, positive part)

Rows drawn from it cost nothing more: networks learn from them before they see a private row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

import manikin.synthesizers.table._gaussian as gaussian
from manikin.privacy.moments import Features
from manikin.synthesizers.table._cells import Cells
from manikin.synthesizers.table._noisy import Noisy

__all__ = ["Guess", "guess"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

LEVELS = 6  # commonest levels of an unordered column that have a latent of their own
MARKED = 0.02  # share of missing values from which on they have one
LEAST = 0.35  # least deviation by which a feature is scaled
MOST = 1.5  # mean square of all features of one column's values
NORM = 1.2  # of rows' products, by what independent columns would have
DRAWS = 8192  # simulated rows
ROUNDS = 12  # of matching
STEP = 0.7
STRONGEST = 0.98  # correlation
PROJECTIONS = 5
SOLVED = 40  # rounds in which levels come to their shares


@dataclass(frozen=True)
class Column:
    """One column's latents: first whether it is missing, then its order, or its levels."""

    cells: Cells
    marked: bool
    levels: Ints  # values with a latent of their own; none: they lie on one line
    pull: Floats  # (levels + 1,) what is added to the latents of levels, and to that of all others

    @staticmethod
    def of(cells: Cells, rng: np.random.Generator) -> Column:
        """Return the latents of a column."""
        counts = _counts(cells)
        n, values = cells.n_tokens, counts[cells.n_tokens :]
        marked = bool(values.size) and counts[:n].sum() > MARKED * counts.sum()
        if cells.ordered or values.size < 3:
            return Column(cells, marked, np.zeros(0, np.int64), np.zeros(1))
        levels = np.sort(np.argsort(-values, kind="stable")[:LEVELS])
        rest = values.sum() - values[levels].sum()
        share = np.append(values[levels], max(rest, 1e-9 * values.sum())) / values.sum()
        return Column(cells, marked, levels, _pull(share, rng))

    @property
    def lines(self) -> int:
        """Latents of its values."""
        return self.levels.size or int(self.cells.size - self.cells.n_tokens > 1)

    def features(self) -> Floats:
        """Return a feature for each latent that rises with it, (codes, latents)."""
        counts, n = _counts(self.cells), self.cells.n_tokens
        share, found = counts / counts.sum(), []
        if self.lines and not self.levels.size:
            rank = np.zeros(counts.size)
            total = np.cumsum(counts[n:])
            rank[n:] = (total - counts[n:] / 2) / total[-1] - 0.5
            found = [rank / max(np.sqrt(share @ rank**2), LEAST / 2)]
        for level in n + self.levels:
            own = np.where(np.arange(counts.size) < n, 0.0, -counts[level] / counts[n:].sum())
            own[level] += 1
            found.append(own / max(np.sqrt(share @ own**2), LEAST))
        values = np.stack(found, 1) if found else np.zeros((counts.size, 0))
        square = float(share @ (values**2).sum(1))
        values *= np.sqrt(min(1.0, MOST / max(square, 1e-9)))
        if not self.marked:
            return np.asarray(values)
        gone = (np.arange(counts.size) < n) - share[:n].sum()
        scaled = gone / max(np.sqrt(share @ gone**2), LEAST)
        return np.asarray(np.column_stack([scaled, values]))

    def codes(self, z: Floats, uniform: Floats) -> Ints:
        """Return the codes of latents, (rows, latents), and of uniform numbers, (rows, 3)."""
        counts, n = _counts(self.cells), self.cells.n_tokens
        values, own = counts[n:], z[:, int(self.marked) :]
        if self.levels.size:
            other = ndtri(np.clip(uniform[:, 0], 1e-12, 1 - 1e-12))
            best = (np.column_stack([own, other]) + self.pull).argmax(1)
            rest = values.copy()
            rest[self.levels] = 0.0
            drawn = _choose(rest, uniform[:, 1]) if rest.any() else self.levels[0]
            found = np.where(best < self.levels.size, np.append(self.levels, 0)[best], drawn)
        elif self.lines:
            cuts = ndtri(np.cumsum(values)[:-1] / values.sum())
            found = np.searchsorted(cuts, own[:, 0])
        else:
            found = np.zeros(len(z), np.int64)
        if not n:
            return np.asarray(found)
        share = counts[:n].sum() / counts.sum() if values.size else 1.0
        gone = z[:, 0] > -ndtri(share) if self.marked else uniform[:, 2] < share
        return np.where(gone, _choose(counts[:n], uniform[:, 1]), n + found)


@dataclass(frozen=True)
class Guess:
    """Latents of columns, and how they hang together."""

    columns: tuple[Column, ...]
    correlation: Floats

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows of codes."""
        z = rng.standard_normal((n, len(self.correlation)))
        return self._codes(z, rng.random((n, len(self.columns), 3)))

    def _codes(self, z: Floats, uniform: Floats) -> Codes:
        z, at, found = z @ gaussian.root(self.correlation).T, 0, []
        for j, column in enumerate(self.columns):
            wide = column.lines + column.marked
            found.append(column.codes(z[:, at : at + wide], uniform[:, j]))
            at += wide
        return np.stack(found, 1).astype(np.int32) if found else np.zeros((len(z), 0), np.int32)

    def matched(
        self, features: Features, wanted: Floats, noise: float, rng: np.random.Generator
    ) -> Guess:
        """Return it with correlations under which drawn rows have such mean products."""
        z = _white(rng.standard_normal((DRAWS, len(self.correlation))))
        uniform = rng.random((DRAWS, len(self.columns), 3))
        unrelated = ~features.apart()
        np.fill_diagonal(unrelated, False)
        codes = self._codes(z, uniform)
        alone, slope = features.mean(codes), np.maximum(features.slopes(codes, z), 0.05)
        told = (wanted - alone) / slope
        kept = np.maximum(1 - (noise / slope) ** 2 / np.maximum(told**2, 1e-12), 0.0)
        wanted, found = alone + kept * (wanted - alone), self
        for _ in range(ROUNDS):
            off = STEP * (wanted - features.mean(codes)) / slope
            moved = np.clip(found.correlation + off, -STRONGEST, STRONGEST)
            np.fill_diagonal(moved, 1.0)
            found = Guess(self.columns, gaussian.valid(moved, unrelated, rounds=PROJECTIONS))
            codes = found._codes(z, uniform)
        return found


def guess(noisy: Noisy, *, share: float, rng: np.random.Generator) -> Guess:
    """Buy, for a share of the whole budget, how columns go together; columns alone if it is one."""
    columns = tuple(Column.of(cells, rng) for cells in noisy.encoding.cells)
    width = sum(c.lines + c.marked for c in columns)
    found = Guess(columns, np.eye(width))
    shares = [_counts(c.cells) / _counts(c.cells).sum() for c in columns]
    tables = [c.features() for c in columns]
    square = np.array([s @ (t**2).sum(1) for s, t in zip(shares, tables, strict=True)])
    norm = NORM * float(np.sqrt(max(square.sum() ** 2 - (square**2).sum(), 0.0) / 2))
    if norm <= 0:
        return found
    features = Features.of(tables, norm)
    rows = noisy.prepared.rows
    wanted, noise = features.bought(
        rows, noisy.rows, rho=share * rows.account.rho, what="how columns go together, by pairs"
    )
    return found.matched(features, wanted, noise, rng)


# ------------------------------------------------------------------ parts


def _counts(cells: Cells) -> Floats:
    return np.maximum(cells.counts, 0.5).astype(np.float64)


def _choose(weights: Floats, uniform: Floats) -> Ints:
    total = np.cumsum(weights)
    found = np.searchsorted(total, uniform * total[-1], side="right")
    return np.asarray(np.minimum(found, weights.size - 1))


def _white(z: Floats) -> Floats:
    """Return draws whose mean is 0 and whose covariance is the identity, exactly."""
    z = z - z.mean(0)
    if not z.shape[1]:
        return z
    return np.asarray(np.linalg.solve(np.linalg.cholesky(z.T @ z / len(z)), z.T).T)


def _pull(share: Floats, rng: np.random.Generator) -> Floats:
    """Return what to add to independent normals so that each is greatest in its share of draws."""
    z = rng.standard_normal((DRAWS, share.size))
    pull = np.log(share + 1e-3)
    for _ in range(SOLVED):
        held = np.bincount((z + pull).argmax(1), minlength=share.size) / DRAWS
        pull += 0.4 * np.clip(np.log((share + 1e-4) / (held + 1e-4)), -1, 1)
    return np.asarray(pull)
