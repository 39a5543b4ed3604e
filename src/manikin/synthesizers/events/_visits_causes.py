"""Which codes may cause another: those with which, or after which, it is oftener than by class.

Idea  Chow and Liu, IEEE Trans. Inf. Theory 14 (1968): of all pairs keep those that tell most; here
      a few causes for every code, in an order (the more frequent first), so that there is no circle
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["causes_before", "causes_beside"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

MOST_CODES = 2500  # the most frequent, among which pairs are counted
WIDER = 3  # times as many pairs are looked at as are kept
PAIRS_AT_ONCE = 500
SURPRISE = 3.0  # least excess of a pair over what classes say, by its standard deviation


def causes_beside(sets: Any, classes: Ints, owners: Ints, edges: int, least: int) -> Ints:
    """Return for each code the codes of the same visit that may cause it, (codes, edges).

    `owners` are whose each visit is: a pair of fewer than `least` subjects is none.
    """
    n = sets.shape[1]
    top = _frequent(sets)
    own = sets[:, top].tocsc()
    seen = np.asarray((own.T @ own).todense(), np.float64)
    expected = _by_class(own, own, classes)
    excess = _surprise(seen, expected, least)
    # the order of `top` is by frequency: a cause stands before what it causes
    excess[np.tril_indices(top.size)] = 0.0
    found = _shared(_best(excess, WIDER * edges), seen, own, own, owners, least)
    return _told(found, top, n, edges)


def causes_before(
    sets: Any, first: Any, previous: Ints, classes: Ints, owners: Ints, edges: int, least: int
) -> Ints:
    """Return for each code the codes of the visit before that may bring its first time."""
    n = sets.shape[1]
    later = np.flatnonzero(previous >= 0)
    if not later.size:
        return np.full((n, edges), -1, np.int64)
    top = _frequent(sets)
    earlier, now = sets[previous[later]][:, top].tocsc(), first[later][:, top].tocsc()
    seen = np.asarray((earlier.T @ now).todense(), np.float64)
    excess = _surprise(seen, _by_class(earlier, now, classes[later]), least)
    np.fill_diagonal(excess, 0.0)  # a first time has no past of its own
    found = _shared(_best(excess, WIDER * edges), seen, earlier, now, owners[later], least)
    return _told(found, top, n, edges)


def _frequent(sets: Any) -> Ints:
    count = np.asarray(sets.sum(axis=0)).ravel()
    return np.argsort(-count, kind="stable")[:MOST_CODES][: int((count > 0).sum())]


def _by_class(left: Any, right: Any, classes: Ints) -> Floats:
    """Return how often two codes would meet if they were independent within classes."""
    size = int(classes.max(initial=0)) + 1
    member = sp.csr_matrix((np.ones(classes.size), (classes, np.arange(classes.size))),
                           shape=(size, classes.size))  # fmt: skip
    visits = np.maximum(np.asarray(member.sum(axis=1)).ravel(), 1.0)
    one, other = (member @ left).toarray(), (member @ right).toarray()
    return np.asarray((one / visits[:, None]).T @ other)


def _surprise(seen: Floats, expected: Floats, least: int) -> Floats:
    found = (seen - expected) / np.sqrt(expected + 0.5)
    return np.where((seen >= least) & (found >= SURPRISE), found, 0.0)


def _best(excess: Floats, edges: int) -> Ints:
    """Return the causes of greatest excess of each code, (codes, edges); -1 for none."""
    found = np.full((len(excess), min(edges, len(excess))), -1, np.int64)
    for p in range(found.shape[1]):
        at = np.argmax(excess, axis=0)
        some = excess[at, np.arange(at.size)] > 0
        found[some, p] = at[some]
        excess[at, np.arange(at.size)] = 0.0
    return found


def _shared(found: Ints, seen: Floats, causes: Any, codes: Any, owners: Ints, least: int) -> Ints:
    """Return the causes with -1 for those that `least` subjects do not share.

    A patient of many visits is one patient: what comes together in nobody else is no rule.
    """
    code, edge = np.nonzero(found >= 0)
    # what is seen oftener than so many subjects can have visits is of more of them
    most = least * int(np.bincount(owners).max(initial=0))
    rare = seen[found[code, edge], code] < most
    code, edge, kept = code[rare], edge[rare], found.copy()
    for lo in range(0, code.size, PAIRS_AT_ONCE):
        own, at = code[lo : lo + PAIRS_AT_ONCE], edge[lo : lo + PAIRS_AT_ONCE]
        both = causes[:, found[own, at]].multiply(codes[:, own]).tocoo()
        size = int(owners.max(initial=0)) + 1
        pairs = np.unique(both.col.astype(np.int64) * size + owners[both.row]) // size
        few = np.bincount(pairs, minlength=own.size) < least
        kept[own[few], at[few]] = -1
    return kept


def _told(found: Ints, top: Ints, n: int, edges: int) -> Ints:
    """Return the first causes of each code by their places among all codes, (n, edges)."""
    order = np.argsort(found < 0, axis=1, kind="stable")[:, :edges]
    kept = np.take_along_axis(found, order, axis=1)
    told = np.full((n, edges), -1, np.int64)
    told[top, : kept.shape[1]] = np.where(kept >= 0, top[np.maximum(kept, 0)], -1)
    return told
