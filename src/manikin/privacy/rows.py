"""Private rows: codes of subjects, which nothing reads but a release that has been paid for.

A mechanism is handed `Rows` in place of the table. It can ask for noisy counts of any columns and
for the choice of a column set; it cannot see a row. How many rows of a subject count is bounded
before anything else, and the bound is what noise is scaled to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from manikin.errors import PrivacyError
from manikin.privacy import secret
from manikin.privacy.account import Account, measuring, reading_is_paid

__all__ = ["Groups", "Rows", "at_most", "grouped", "paid"]

Groups: TypeAlias = tuple[NDArray[np.int64], ...]  # a column: (codes,) the group of each code
Private = TypeVar("Private")

MOST_CELLS = 2_000_000  # of one table of counts


class Rows:
    """Integer codes, (rows, columns), of at most `most_rows` rows a subject.

    Raises PrivacyError for a subject with more, and whenever a row is read that nobody paid for.
    """

    def __init__(
        self,
        codes: NDArray[np.int32],
        subjects: NDArray[np.int64],
        sizes: tuple[int, ...],  # codes of each column: public
        most_rows: int,
        account: Account,
    ) -> None:
        self._codes, self._subjects = codes, subjects
        self.sizes, self.most_rows, self.account = sizes, most_rows, account
        self._known: dict[tuple[int, ...], NDArray[np.int64]] = {}
        with measuring():
            rows = np.unique(self.subjects, return_counts=True)[1]
            if rows.max(initial=0) > most_rows:
                raise PrivacyError(
                    "a subject with more rows than count", f"{most_rows} rows a subject",
                    "bound the rows first",
                )  # fmt: skip

    @property
    def codes(self) -> NDArray[np.int32]:
        """The rows. Raises PrivacyError unless they are read for a release."""
        return np.asarray(paid(self._codes))

    @property
    def subjects(self) -> NDArray[np.int64]:
        """Whose row it is. Raises PrivacyError unless it is read for a release."""
        return np.asarray(paid(self._subjects))

    def __repr__(self) -> str:
        return f"Rows(columns={len(self.sizes)}, most_rows={self.most_rows})"

    def counts(
        self,
        columns: Sequence[int],
        *,
        rho: float,
        what: str,
        groups: Groups = (),
    ) -> NDArray[np.int64]:
        """Return noisy counts of rows by the codes of `columns`, shaped by their sizes.

        `groups` are public maps, a column: (codes,) the group by which each code is counted.
        """
        shape = tuple(self.sizes[j] for j in columns)
        if int(np.prod(shape, dtype=float)) > MOST_CELLS:
            raise PrivacyError(
                f"counts of {int(np.prod(shape, dtype=float))} cells",
                f"{MOST_CELLS} at most", "count fewer columns, or coarser ones",
            )  # fmt: skip
        with measuring():
            exact = self._exact(columns)
            found = grouped(exact, groups)  # a row is in one group still
            return self.account.sums(found, sensitivity=self.most_rows, rho=rho, what=what)

    def choose(
        self,
        candidates: Sequence[Sequence[int]],
        score: Callable[[int, NDArray[np.int64]], float],
        *,
        sensitivity: float,
        rho: float,
        what: str,
    ) -> int:
        """Return which candidate's `score(index, exact counts)` is high.

        `sensitivity` is the most that one row changes a score.
        """
        with measuring():
            scores = np.array([score(i, self._exact(c)) for i, c in enumerate(candidates)])
            return self.account.choose(
                scores, sensitivity=sensitivity * self.most_rows, rho=rho, what=what
            )

    def rows_a_subject(self, *, rho: float, what: str) -> NDArray[np.int64]:
        """Return noisy counts of subjects with 1, 2 … `most_rows` rows."""
        with measuring():
            rows = np.unique(self.subjects, return_counts=True)[1]
            exact = np.bincount(rows, minlength=self.most_rows + 1)[1:]
            return self.account.sums(exact, sensitivity=1.0, rho=rho, what=what)

    def changes(self, *, rho: float, what: str) -> NDArray[np.int64]:
        """Return noisy counts of subjects with several rows, and of those whose column changes.

        (1 + columns,).
        """
        with measuring():
            codes, subjects = self.codes, self.subjects
            order = np.argsort(subjects, kind="stable")
            same = np.flatnonzero(np.diff(subjects[order]) == 0)
            unlike = codes[order[same]] != codes[order[same + 1]]
            whose = subjects[order[same]]
            exact = [np.unique(whose).size]
            exact += [np.unique(whose[column]).size for column in unlike.T]
            far = math.sqrt(1 + len(self.sizes))
            return self.account.sums(np.array(exact), sensitivity=far, rho=rho, what=what)

    def coarser(self, maps: Sequence[NDArray[np.int64]]) -> Rows:
        """Return the rows with every column's codes mapped by a public map, (codes,)."""
        with measuring():
            codes = self.codes
            mapped = [of[codes[:, j]] for j, of in enumerate(maps)]
            stacked = np.stack(mapped, axis=1).astype(np.int32) if mapped else codes
        sizes = tuple(int(of.max()) + 1 for of in maps)
        return Rows(stacked, self._subjects, sizes, self.most_rows, self.account)

    def _exact(self, columns: Sequence[int]) -> NDArray[np.int64]:
        key = tuple(columns)
        if key not in self._known:
            shape = tuple(self.sizes[j] for j in columns)
            codes = self.codes
            flat = np.zeros(len(codes), np.int64)
            for j, size in zip(columns, shape, strict=True):
                flat = flat * size + codes[:, j]
            cells = int(np.prod(shape, dtype=np.int64))
            self._known[key] = np.bincount(flat, minlength=cells).reshape(shape)
        return self._known[key]


def grouped(counts: NDArray[Any], groups: Groups) -> NDArray[Any]:
    """Return counts by groups of codes instead of by codes; an axis a column."""
    for axis, of in enumerate(groups):
        order = np.argsort(of, kind="stable")
        starts = np.searchsorted(of[order], np.arange(int(of.max()) + 1))
        counts = np.add.reduceat(np.take(counts, order, axis=axis), starts, axis=axis)
    return counts


def paid(private: Private) -> Private:
    """Return what is private. Raises PrivacyError unless it is read for a release."""
    if not reading_is_paid():
        raise PrivacyError(
            "private rows were to be read outside a release",
            "reading them through counts and choices, which are paid for",
            "report this: it is a fault of the method, and nothing was released",
        )
    return private


def at_most(subjects: NDArray[np.int64], most_rows: int) -> NDArray[np.int64]:
    """Return row numbers that keep at most `most_rows` rows of each subject, chosen at random.

    The choice is drawn from the operating system's randomness: which rows count is secret too.
    """
    order = secret.permutation(subjects.size)
    by_subject = order[np.argsort(subjects[order], kind="stable")]
    sorted_subjects = subjects[by_subject]
    starts = np.flatnonzero(np.diff(sorted_subjects, prepend=np.iinfo(np.int64).min))
    lengths = np.diff(np.append(starts, subjects.size))
    rank = np.arange(subjects.size) - np.repeat(starts, lengths)
    return np.sort(by_subject[rank < most_rows])
