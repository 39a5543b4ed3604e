"""Drawing events of many subjects at once, place after place, with what the decoder keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manikin.nn.transformer import Cache
from manikin.synthesizers.events._trajectory_network import NEVER, Mixture, Network
from manikin.synthesizers.events._trajectory_prior import Recalled
from manikin.synthesizers.events._trajectory_scales import Scales
from manikin.synthesizers.events._trajectory_tokens import (
    ATOMS,
    CONTINUOUS,
    DAY_US,
    END,
    FIRST_GAP,
    LASTING,
    MOMENTS,
    NAT,
    NONE,
    REPEAT,
    UNTIMED,
    ZERO,
    Floats,
    Ints,
    Line,
    Vocabulary,
    history,
    situation,
    stay_ends,
)

__all__ = ["Drawer", "Drawn", "Style", "Subjects"]

Bools = NDArray[np.bool_]
IN_ORDER = 0.05  # least chance of codes in their order for which the others are left out


@dataclass(frozen=True)
class Style:
    """How draws are made."""

    temperature: float = 1.0
    top_p: float = 1.0
    context: int = 256  # places that a decoder sees at once
    tick_us: int = 1
    most: int = 100_000  # events of a subject


@dataclass
class Subjects:
    """Those who are drawn, a row each, and where each of them stands."""

    number: Ints  # (rows,) whose row it is
    start: Ints  # time of the first event, NAT for none: microseconds
    birth: Ints
    remaining: Ints  # events to come, -1: nobody knows
    until: Ints  # nothing is drawn after this time
    now: Ints
    before: Ints  # events so far
    moments: Ints  # unlike times so far
    stay_end: Ints
    visits: Ints  # visits so far
    relation: Ints  # of the last event
    code: Ints  # of the last event, -1 for none
    dead: Bools
    # ------ of each code that bears something, (rows, bearing)
    count: Floats
    total: Floats
    score: Floats
    value: Floats
    when: Ints
    text: Ints
    recalled: Recalled | None = None  # what counts are asked with, where there are some

    @staticmethod
    def new(
        number: Ints, start: Ints, birth: Ints, remaining: Ints, until: Ints, bearing: int
    ) -> Subjects:
        """Return subjects of whom nothing has been drawn."""
        n = number.size
        zero = np.zeros(n, np.int64)
        wide = np.zeros((n, bearing))
        return Subjects(
            number, start, birth, remaining, until, np.full(n, NAT), zero.copy(), zero.copy(),
            np.full(n, NAT),
            zero.copy(), zero.copy(), zero - 1, zero > 0, wide.copy(), wide.copy(), wide.copy(),
            wide.copy(), np.full(wide.shape, NAT), np.zeros(wide.shape, np.int64),
        )  # fmt: skip

    def keep(self, rows: Ints) -> None:
        """Keep these rows only, in this order."""
        for name, values in vars(self).items():
            setattr(self, name, None if values is None else values[rows])


@dataclass
class Drawn:
    """Events as they were drawn, in pieces."""

    pieces: list[dict[str, NDArray[np.generic]]] = field(default_factory=list)

    def column(self, name: str, kind: type) -> NDArray[np.generic]:
        """Return a column of all events."""
        return np.concatenate([np.zeros(0, kind), *(piece[name] for piece in self.pieces)])


class Drawer:
    """A network, the scales of its numbers, and what is kept while it draws."""

    def __init__(
        self, network: Network, words: Vocabulary, scales: Mapping[str, Scales], style: Style,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        self.network, self.words, self.scales = network, words, scales
        self.style, self.rng = style, rng
        bears = network.value_odds[:, 1:].amax(1) > NEVER / 2
        if network.sizes.most_texts:
            bears |= network.text_odds[:, 1:].amax(1) > NEVER / 2
        self.bearing = bears.numpy()
        self.place = np.where(self.bearing, np.cumsum(self.bearing) - 1, -1)
        self.rank = torch.from_numpy(words.rank)

    # -------------------------------------------------------------- the loop

    @torch.no_grad()
    def draw(self, who: Subjects, facts: Tensor, z: Tensor, cache: Cache, h: Tensor) -> Drawn:
        """Draw until everybody's record is over; `h` (rows, width) is of the place that was last.

        `cache` holds the places before.
        """
        found = Drawn()
        for _ in range(self.style.most):
            if not who.number.size:
                break
            goes_on, event = self._event(who, h, z)
            if goes_on.any():
                found.pieces.append(
                    {name: values[goes_on] for name, values in event.items() if name != "shown"}
                )
            rows = np.flatnonzero(goes_on)
            if rows.size < goes_on.size:
                who.keep(rows)
                at = torch.from_numpy(rows)
                facts, z = facts[at], z[at]
                cache.keep(at)
                event = {name: values[rows] for name, values in event.items()}
            if not rows.size:
                break
            if cache.places >= self.style.context:
                cache.forget(0, self.style.context // 2)
            h = self._place(who, event, facts, z, cache)
        return found

    def first(self, who: Subjects, facts: Tensor, z: Tensor, cache: Cache) -> Tensor:
        """Return what is foretold by the place at which nothing has been yet, (rows, width)."""
        n = who.number.size
        nothing = {
            "code": np.full(n, -1), "text_number": np.zeros(n, np.int64),
            "shown": self._shown(who, np.full(n, 0.0), np.zeros(n), np.zeros(n, bool),
                                 np.zeros(n), np.zeros(n, bool)),
        }  # fmt: skip
        return self._place(who, nothing, facts, z, cache)

    def _place(
        self, who: Subjects, event: Mapping[str, NDArray[np.generic]], facts: Tensor, z: Tensor,
        cache: Cache,
    ) -> Tensor:  # fmt: skip
        """Show what was last to the decoder."""
        moments = np.minimum(who.moments, MOMENTS - 1)
        words = np.stack(
            [np.asarray(event["code"], np.int64) + 1, event["text_number"], moments], -1
        )
        events = self.network.events(
            torch.from_numpy(words)[:, None], torch.from_numpy(event["shown"])[:, None]
        )
        x = self.network.whole(
            events, facts[:, None], z[:, None], torch.from_numpy(who.remaining)[:, None]
        )
        positions = torch.from_numpy(who.before)[:, None]
        there = torch.ones(len(x), 1, dtype=torch.bool)
        return self.network.decoder.step(x, positions, there, cache)[:, 0]

    # -------------------------------------------------------------- an event

    def _event(
        self, who: Subjects, h: Tensor, z: Tensor
    ) -> tuple[Bools, dict[str, NDArray[np.generic]]]:
        """Draw one event a row; return who has one, and move everybody on to it."""
        network, n = self.network, who.number.size
        at_moment, more = self._at_moment(who)
        kind, gap, score = self._gap(who, h, more)
        now = np.where(
            kind == UNTIMED, NAT, np.where(who.now == NAT, who.start, _later(who.now, gap))
        )
        goes_on = (kind != END) & ((now == NAT) | (now <= who.until))
        u = network.after_gap(h, torch.from_numpy(kind), torch.from_numpy(score).float())
        relation = self._relation(who, u, kind, now)
        u = network.after_relation(u, torch.from_numpy(relation))
        code = self._foretold(who, u, at_moment, kind, now, relation)
        own = self.place[code]
        bears, at = own >= 0, np.maximum(own, 0)
        rows = np.arange(n)
        wide = who.count.shape[1] > 0

        def of(array: NDArray[np.generic], none: float) -> NDArray[np.generic]:
            return np.where(bears, array[rows, at], none) if wide else np.full(n, none)

        count = np.asarray(of(who.count, 0), np.float64)
        when = np.asarray(of(who.when, NAT), np.int64)
        days = np.where((now != NAT) & (when != NAT), (now - when) / DAY_US, 0.0)
        mean = np.asarray(of(who.total, 0), np.float64) / np.maximum(count, 1)
        past = history(np.asarray(of(who.score, 0), np.float64), mean, count, days)
        last_text = np.asarray(of(who.text, 0), np.int64)
        places = torch.from_numpy(code)
        v, direct = network.of_code(
            u, places, torch.from_numpy(last_text), torch.from_numpy(past), z
        )
        level, number = self._text(v, places, code)
        w, logits, mixture = network.values(v, direct, places, torch.from_numpy(number))
        value, value_score, valued = self._number(
            "value", code, logits, mixture, np.asarray(of(who.value, 0), np.float64), count > 0
        )
        logits, mixture = network.durations(
            w, places, torch.from_numpy(value_score).float(), torch.from_numpy(valued).float()
        )
        none = np.zeros(n)
        lasting, _, lasts = self._number("duration", code, logits, mixture, none, none > 0)
        lasts &= now != NAT
        end = np.where(lasts, _later(now, np.where(lasts, lasting, 0.0)), NAT)
        end = self._on_clock(end)
        end = np.where(lasts, np.maximum(end, now), NAT)
        who.moments = who.moments + (kind >= LASTING)
        self._move(who, now, relation, code, end)
        self._remember(who, code, own, value, value_score, valued, number, now)
        shown = self._shown(
            who, np.where(now == NAT, np.nan, gap), value_score, valued,
            np.log1p(np.where(lasts, lasting, 0.0)), lasts,
        )  # fmt: skip
        return goes_on, {
            "number": who.number.copy(), "time": now, "code": code,
            "value": np.where(valued, value, np.nan), "level": level, "end": end,
            "visit": np.where(relation > 0, who.visits - 1, -1), "text_number": number,
            "shown": shown,
        }  # fmt: skip

    def _at_moment(self, who: Subjects) -> tuple[Tensor | None, Tensor | None]:
        """Return what counts foretell of codes at the same moment, and whether it goes on."""
        prior = self.network.prior
        if who.recalled is None or prior is None:
            return None, None
        own = self.network.own_odds
        found, more = who.recalled.at_moment(prior, who.now, who.code, own)
        return found, torch.where(torch.from_numpy(who.code >= 0), more, torch.nan)

    def _foretold(
        self, who: Subjects, u: Tensor, at_moment: Tensor | None, kind: Ints, now: Ints,
        relation: Ints,
    ) -> Ints:  # fmt: skip
        """Draw codes by what counts foretell, where there are some, and by what is learnt."""
        network, recalled = self.network, who.recalled
        still = (kind == ZERO) & (who.now != NAT) | (kind == UNTIMED)
        still &= (who.code >= 0) & (relation < 2) & ((relation == 1) == (who.relation > 0))
        if recalled is None or network.prior is None or at_moment is None:
            return self._code(who, network.code_logits(u, None), still)
        begun = recalled.at_next(network.prior, now, relation, network.own_odds)
        foretold = torch.where(torch.from_numpy(still)[:, None], at_moment, begun)
        code = self._code(who, network.code_logits(u, foretold), still)
        recalled.move(network.prior, ~still, now, relation, code)
        return code

    def _gap(self, who: Subjects, h: Tensor, more: Tensor | None) -> tuple[Ints, Floats, Floats]:
        """Draw kinds of gaps, days, and scores."""
        logits, mixture = self.network.gaps(h, more)
        able = (self.network.gap_odds > NEVER / 2).expand(len(h), -1).clone()
        over = torch.from_numpy((who.remaining == 0) | who.dead)
        able[:, END] &= torch.from_numpy(who.remaining < 0) | over
        able[:, UNTIMED] &= torch.from_numpy(who.now == NAT)
        begun = torch.from_numpy(who.now != NAT)
        dated = torch.from_numpy(who.start != NAT)
        able[:, ZERO] &= dated
        able[:, LASTING:] &= begun[:, None]
        able[over] = False
        able[over, END] = True
        lost = ~able.any(1)  # nothing of what was seen can be: the next event is at the same time
        able[lost & dated, ZERO] = True
        able[lost & ~dated, UNTIMED] = True
        kind = self._kinds(logits, able, 1.0)
        tick = self.style.tick_us / DAY_US
        score = mixture.draw(self.rng, self.style.temperature).double().numpy()
        none = np.zeros(kind.size, np.int64)
        gap = np.nan_to_num(self.scales["gap"].to_value(none, score), nan=tick)
        scale = self.scales["gap"]
        score = np.where(kind == LASTING, scale.to_score(none, np.maximum(gap, tick)), 0.0)
        atoms = np.nan_to_num(scale.atoms[0], nan=tick)
        gap = np.where(kind >= FIRST_GAP, atoms[np.clip(kind - FIRST_GAP, 0, atoms.size - 1)], gap)
        ticks = np.maximum(np.rint(gap / tick), 1)
        return kind, np.where(kind >= LASTING, ticks * tick, 0.0), score

    def _relation(self, who: Subjects, u: Tensor, kind: Ints, now: Ints) -> Ints:
        """Draw at which visit events are: at none, at the last one, at a new one."""
        logits = self.network.relation(u) + self.network.relation_odds
        able = (self.network.relation_odds > NEVER / 2).expand(len(u), -1).clone()
        over = (who.stay_end != NAT) & (now != NAT) & (now > who.stay_end)
        able[:, 1] &= torch.from_numpy((who.visits > 0) & ~over)
        together = (kind == ZERO) & (who.now != NAT) & (who.before > 0)
        outside = torch.from_numpy(together & (who.relation == 0))
        able[outside, 1:] = False  # of one time, those at no visit stand last
        able[~able.any(1), 0] = True
        return self._kinds(logits, able, 1.0)

    def _code(self, who: Subjects, logits: Tensor, still: Bools) -> Ints:
        """Draw codes; those of one time and visit (`still` the last one's) come in their order."""
        able = (self.network.code_odds > NEVER / 2).expand(len(logits), -1)
        last = torch.from_numpy(np.maximum(who.code, 0))
        rank, there = self.rank[None], torch.from_numpy(still)[:, None]
        twice = (self.network.again_odds[:, 1] > NEVER / 2)[last][:, None]
        same = rank == self.rank[last][:, None]
        able = able & ~(there & same & ~twice)
        able = torch.where(able.any(1, keepdim=True), able, self.network.code_odds > NEVER / 2)
        ordered = able & (~there | (rank >= self.rank[last][:, None]))
        # where next to nothing can follow in order, an order that was seen beats a forced code
        chance = torch.softmax(logits.double().masked_fill(~able, -torch.inf), -1)
        enough = (chance * ordered).sum(1, keepdim=True) > IN_ORDER
        able = torch.where(enough, ordered, able)
        return self._kinds(logits, able, self.style.top_p)

    def _text(self, v: Tensor, places: Tensor, code: Ints) -> tuple[Ints, Ints]:
        """Draw texts: of the code's own, -1 for none; and among all, 0 for none."""
        if not self.network.sizes.most_texts:
            return np.full(code.size, -1), np.zeros(code.size, np.int64)
        able = self.network.text_odds[places] > NEVER / 2
        level = self._kinds(self.network.text_logits(v, places), able, 1.0) - 1
        return level, np.where(level >= 0, self.words.first_level[code] + level, 0)

    def _number(
        self, name: str, code: Ints, logits: Tensor, mixture: Mixture, last: Floats, again: Bools
    ) -> tuple[Floats, Floats, Bools]:
        """Draw numbers, their scores, and whether there is one."""
        scales = self.scales[name]
        odds = self.network.value_odds if name == "value" else self.network.duration_odds
        able = odds[torch.from_numpy(code)] > NEVER / 2
        able[:, REPEAT] &= torch.from_numpy(again)
        able[~able.any(1), NONE] = True
        kind = self._kinds(logits, able, 1.0)
        drawn = mixture.draw(self.rng, self.style.temperature).double().numpy()
        found = np.full(code.size, np.nan)
        line = np.flatnonzero(kind == CONTINUOUS)
        found[line] = scales.to_value(code[line], drawn[line])
        found[kind == REPEAT] = last[kind == REPEAT]
        atom = np.flatnonzero(kind >= ATOMS)
        found[atom] = scales.atoms[code[atom], kind[atom] - ATOMS]
        if name == "duration":
            found = np.maximum(found, 0.0)
        there = np.isfinite(found)
        found = np.where(there, found, 0.0)
        return found, np.where(there, scales.to_score(code, found), 0.0), there

    def _kinds(self, logits: Tensor, able: Tensor, top_p: float) -> Ints:
        """Draw a kind a row among those that can be."""
        heated = (logits.double() / self.style.temperature).masked_fill(~able, -torch.inf)
        share = torch.softmax(heated, -1)
        if top_p < 1:
            ordered, at = share.sort(-1, descending=True)
            beyond = ordered.cumsum(-1) - ordered >= top_p
            share = share.masked_fill(torch.zeros_like(beyond).scatter(-1, at, beyond), 0.0)
        total = share.cumsum(-1)
        due = torch.rand(len(share), 1, generator=self.rng, dtype=torch.float64) * total[:, -1:]
        which = torch.searchsorted(total, due, right=True)[:, 0].clamp(max=share.shape[1] - 1)
        # a draw at the very end falls to the last one that can be
        last = share.shape[1] - 1 - (share > 0).flip(-1).int().argmax(-1)
        return torch.minimum(which, last).numpy()

    # -------------------------------------------------------------- moving on

    def _move(self, who: Subjects, now: Ints, relation: Ints, code: Ints, end: Ints) -> None:
        tells = self.words.stay[code] | (relation == 2)
        ends = np.where(self.words.stay[code], end, NAT)
        who.stay_end = np.where(tells, ends, who.stay_end)
        who.visits = who.visits + (relation == 2)
        who.dead = who.dead | self.words.death[code]
        who.now, who.relation, who.code = now, relation, code
        who.before = who.before + 1
        who.remaining = np.where(who.remaining > 0, who.remaining - 1, who.remaining)

    def _remember(
        self, who: Subjects, code: Ints, own: Ints, value: Floats, score: Floats, valued: Bools,
        number: Ints, now: Ints,
    ) -> None:  # fmt: skip
        rows = np.flatnonzero((own >= 0) & valued)
        at = own[rows]
        who.count[rows, at] += 1
        who.total[rows, at] += score[rows]
        who.score[rows, at], who.value[rows, at] = score[rows], value[rows]
        who.when[rows, at] = now[rows]
        rows = np.flatnonzero((own >= 0) & (number > 0))
        who.text[rows, own[rows]] = number[rows]

    def _shown(
        self, who: Subjects, gap: Floats, score: Floats, valued: Bools, lasting: Floats,
        lasts: Bools,
    ) -> NDArray[np.float32]:  # fmt: skip
        begun = who.before > 0
        return situation(
            now=who.now, start=who.start, birth=who.birth, stay_end=who.stay_end,
            before=who.before, moments=who.moments, gap=np.where(begun, gap, np.nan),
            relation=who.relation, score=score, valued=valued, lasting=lasting, lasts=lasts,
        )  # fmt: skip

    def _on_clock(self, time: Ints) -> Ints:
        step = self.style.tick_us
        return np.where(time == NAT, NAT, time // step * step)

    # -------------------------------------------------------------- what was before

    def recall(self, who: Subjects, line: Line) -> None:
        """Tell of subjects what their events up to now were: row i is subject i of the line."""
        n = who.number.size
        order = np.flatnonzero(self.place[line.code] >= 0)
        own, rows = self.place[line.code[order]], line.whose[order]
        value, when = line.value[order], line.time[order]
        valued = np.flatnonzero(~np.isnan(value))
        score = self.scales["value"].to_score(line.code[order], np.nan_to_num(value))
        np.add.at(who.count, (rows[valued], own[valued]), 1)
        np.add.at(who.total, (rows[valued], own[valued]), score[valued])
        # later ones are written last
        who.score[rows[valued], own[valued]] = score[valued]
        who.value[rows[valued], own[valued]] = value[valued]
        who.when[rows[valued], own[valued]] = when[valued]
        worded = np.flatnonzero(line.level[order] >= 0)
        level = self.words.first_level[line.code[order]] + line.level[order]
        who.text[rows[worded], own[worded]] = level[worded]
        last = line.starts[1:] - 1
        some = np.flatnonzero(np.diff(line.starts) > 0)
        who.now[some] = line.time[last[some]]
        who.code[some] = line.code[last[some]]
        who.relation[some] = line.relation[last[some]]
        who.stay_end[some] = stay_ends(line, self.words)[last[some]]
        who.before = np.diff(line.starts)
        later = line.whose[line.gaps > 0]
        who.moments = np.bincount(later, minlength=n).astype(np.int64)
        who.visits = np.bincount(line.whose[line.relation == 2], minlength=n).astype(np.int64)
        who.dead = np.bincount(line.whose, self.words.death[line.code], minlength=n) > 0


def _later(time: Ints, days: Floats) -> Ints:
    """Return times so many days later, NAT where there is none."""
    known = time != NAT
    return np.where(known, np.where(known, time, 0) + np.rint(days * DAY_US).astype(np.int64), NAT)
