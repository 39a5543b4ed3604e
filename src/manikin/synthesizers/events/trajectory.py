"""Trajectory: a decoder that draws patients' records event by event.

Reference  Renc et al., "Zero shot health trajectory prediction using transformer", npj Digital
           Medicine 2024 (ETHOS: a record as a sequence, rollouts); Shmatko et al., "Learning the
           natural history of human disease with generative transformers", Nature 2025 (Delphi:
           age and waiting times); Tiwald et al., arXiv:2501.12012 (TabularARGN: what remains of a
           sequence as a feature); Kingma and Welling, ICLR 2014 (a latent a subject)
Idea       a record is drawn from left to right, each event part by part: how long until it, at
           which visit, which code, which text, which value, how long it lasts; who the subject is,
           static facts and a latent trait, is told at every place, so that traits persist; with
           `prior`, codes are foretold by counts first (what comes back, what stands together,
           what follows at the next visit), and the decoder learns what counts leave over
Algorithm  1 hide codes, texts and levels of few subjects · 2 numbers as normal scores through
           edges of k subjects · 3 static facts, the number of events and the first day by a table
           synthesizer · 4 with `prior`, count codes by moments · 5 train the decoder on packed
           records with a mask between subjects, by the evidence bound; stop by held-out subjects
           · 6 draw subjects, traits of the prior, then place after place, keeping keys and values
Differs    from the papers in: an event is one place and its parts are drawn by small heads given
           each other, not a token each; values and waiting times are common values or a mixture of
           logistics on a line of normal scores, not tokens of deciles and not exponentials: where
           visits are planned, the least of exponentials would spread gaps that are alike; the
           head of values is told the last one with the code and their mean; when nobody knows how
           many events remain, as in forecasting, the end of the record is drawn; under a budget
           scales are of declared bounds, heads begin at nothing, and gradients of subjects are
           clipped and noised (DP-SGD), and nothing is counted
Use when   records are many and long, with codes and values mixed, or when what may follow a
           history is wanted (forecasting); not for small regular panels, or within seconds

A model file holds weights, frequencies and edges that k subjects share; never a row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

import manikin.synthesizers.events._trajectory_model as fitted
import manikin.synthesizers.events._trajectory_private as private
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.nn.loop import Plan, random, train
from manikin.privacy import ledger as ledgers
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Synthesizer, Watch, check_settings, report, silent
from manikin.synthesizers.events._trajectory_draw import Style
from manikin.synthesizers.events._trajectory_model import Decoding, TrajectoryModel
from manikin.synthesizers.events._trajectory_moments import Moments
from manikin.synthesizers.events._trajectory_network import NEVER, Network, Sizes
from manikin.synthesizers.events._trajectory_prior import Prior, count
from manikin.synthesizers.events._trajectory_scales import Scales, malformed
from manikin.synthesizers.events._trajectory_subjects import Once, first_times
from manikin.synthesizers.events._trajectory_tokens import (
    DAY_US,
    Slots,
    Vocabulary,
    canonical,
    fit_scales,
    slots,
)
from manikin.synthesizers.events._trajectory_training import (
    begin_at,
    lay,
    objective,
    windows,
)
from manikin.synthesizers.events.encoding import CLOCKS_US, EventEncoding

__all__ = ["Trajectory"]

ENOUGH = 30  # subjects from which on some are held out
HELD_OUT = 0.15  # share of subjects whose bound ends the training
MOST_HELD = 2000
BLIND_STEPS = 100  # most steps where there are too few subjects to hold some out
LEAST_ROOM = 32
WEIGHT_DECAY = 0.02
LOOKS = 24  # at held-out subjects in a training
Ints: TypeAlias = NDArray[np.int64]
Learnt: TypeAlias = tuple[Slots, NDArray[np.float32], Moments | None, Ints, Ints]
FACTS = 0.4  # share of a budget for what is drawn once a subject


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class Trajectory:
    """Recipe: a causal decoder of events with a latent a subject."""

    takes_budget: ClassVar[bool] = True
    table: str = "table/seqtree"  # the table synthesizer that draws static facts
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    width: int = 64  # units of a place
    depth: int = 2  # blocks of attention and gated units
    heads: int = 4  # of attention; they divide the width, each into an even number of units
    latent: int = 8  # traits of a subject
    free: float = 2.0  # nats that a subject's traits may tell of it at no cost
    mixed: int = 3  # logistics that a number's distribution mixes
    dropout: float = 0.1  # share of units left out at a step
    prior: bool = False  # whether counts foretell codes, and the decoder learns what is left
    context: int = 256  # events that the decoder sees at once
    blind: float = 0.5  # share of subjects of whom it is not told how many events remain
    steps: int = 1200  # most training steps
    batch: int = 2048  # events a step
    rate: float = 4e-3  # highest learning rate
    patience: int = 5  # looks at held-out subjects without a better bound before training ends
    minutes: float = 60.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    temperature: float = 1.0  # of draws: below 1 what is likely becomes likelier
    top_p: float = 1.0  # share of probability within which codes are drawn
    k: int = 5  # fewest subjects that share a code, text, level or edge that is told
    most_events: int = 64  # under a budget: events of a subject that count, the first ones
    clip: float = 1.0  # under a budget: norm to which each subject's gradient is clipped

    def __post_init__(self) -> None:
        check_settings(
            self, width=(4, 8192), depth=(1, 200), heads=(1, 256), latent=(1, 1024),
            free=(0, math.inf), mixed=(1, 64), dropout=(0, 0.95), context=(8, 65_536),
            blind=(0, 1), steps=(1, 10**8), batch=(1, 10**8), rate=(1e-9, 1),
            patience=(1, 10**6), minutes=(0, math.inf), temperature=(0.01, 100),
            top_p=(0.01, 1), k=(2, math.inf), most_events=(1, 65_535), clip=(1e-6, 1e6),
        )  # fmt: skip
        if self.width % (2 * self.heads):
            raise InputError(
                f"{self.width} units for {self.heads} heads",
                "a width that twice the number of heads divides",
                "choose another width, or fewer heads",
            )

    def fit(
        self, data: Events, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> TrajectoryModel:
        """Learn static facts, then the network."""
        if not isinstance(data, Events):
            raise InputError("no histories", "histories of subjects", "read them by a door")
        if budget is not None:
            return self._privately(data, budget, seed, watch)
        report(watch, 0, None, "encoding")
        encoding = EventEncoding.fit(data, k=self.k)
        schema, words = encoding.schema, Vocabulary.of(encoding.schema)
        line = canonical(data, encoding.places(data.schema), schema, words)
        tick = CLOCKS_US[schema.clock]
        scales = fit_scales(line, words, self.k, tick / DAY_US)
        births = data.births().astype("datetime64[us]").astype(np.int64)
        rng = generator(seed, "trajectory levels")
        once, flat = Once.fit(line, data.static, schema, births, self.k, rng)
        report(watch, 0, None, "fitting static facts")
        own_seed = int(generator(seed, "trajectory table").integers(2**62))
        table = fitted.drawing(self._of_tables().fit(flat, seed=own_seed, watch=watch), self.table)
        once = once.under(fitted.spelled(schema, table))
        decoding = None
        if line.code.size and words.codes:
            places = slots(line, words, scales, births, first_times(line))
            sizes, moments = self._sizes(words, scales, once), None
            network = self._network(sizes, random(seed, "trajectory"), words, self.prior)
            begin_at(network, places)
            kept, held = _held_out(line.subjects, seed)
            if network.prior is not None:
                moments = Moments.of(line, words)
                count(network.prior, moments, kept, self.k, seed)
            rows = (places, once.told(data.static), moments, kept, held)
            self._train(network, rows, seed, watch)
            decoding = Decoding(network, scales)
        return TrajectoryModel(once, table, decoding, self._style(tick), encoding.notes)

    def _privately(self, data: Events, budget: Budget, seed: int, watch: Watch) -> TrajectoryModel:
        """Learn under a budget: its noise is secret, so that no seed repeats a model."""
        recipe = self._of_tables()
        private.check(data, recipe, self.table)
        schema, words = data.schema, Vocabulary.of(data.schema)
        tick = CLOCKS_US[schema.clock]
        every = np.arange(len(schema))
        line = private.first_events(canonical(data, every, schema, words), self.most_events)
        scales = private.public_scales(schema, tick / DAY_US)
        births = data.births().astype("datetime64[us]").astype(np.int64)
        once, flat = private.once(line, data.static, schema, births, self.most_events)
        report(watch, 0, None, "fitting static facts")
        own_seed = int(generator(seed, "trajectory table").integers(2**62))
        # two budgets that add up: two trainings on samples leave nothing of one in zCDP
        share, rest = private.parted(budget, FACTS)
        table = fitted.drawing(recipe.fit(flat, seed=own_seed, budget=share), self.table)
        once = once.under(fitted.spelled(schema, table))
        places = slots(line, words, scales, births, first_times(line))
        plain = dataclasses.replace(self, dropout=0.0)  # noise enough
        sizes = self._sizes(words, scales, once)
        network = plain._network(sizes, random(seed, "trajectory"), words, False)
        private.open_heads(network, words, scales)
        how = private.Shares(
            self.steps, self.rate, self.clip, self.free, self.blind, self.most_events, self.device
        )
        told = once.told(data.static)
        own = private.train_privately(network, places, told, rest, how, seed=seed, watch=watch)
        paid = private.together(table.ledger, own, budget)
        note = f"The first {self.most_events} events of each subject count, and no other."
        decoding = Decoding(network, scales)
        return TrajectoryModel(once, table, decoding, self._style(tick), (note,), paid)

    def restore(self, schema: Any, state: State) -> TrajectoryModel:
        """Rebuild a model from its state. Raises InputError when it does not make one."""
        if not isinstance(schema, EventSchema):
            raise InputError("a schema of no histories", "that of histories", "use its own file")
        stored = state.values["trajectory"]
        flat = TableSchema.from_json(stored["schema"])
        once = Once.restore(schema, flat, stored["once"], state.arrays)
        parts = fitted.of_table(state.arrays)
        table = fitted.drawing(
            self._of_tables().restore(flat, State(parts, stored["model"])), self.table
        )
        notes = stored["notes"]
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise malformed("notes")
        decoding = None
        if stored["network"]:
            words = Vocabulary.of(schema)
            scales = {
                name: Scales.restore(state.arrays, name, kinds, logged=name != "value")
                for name, kinds in (("gap", 1), ("value", len(schema)), ("duration", len(schema)))
            }
            counted = any(name.startswith("network/prior.") for name in state.arrays)
            sizes = self._sizes(words, scales, once)
            network = self._network(sizes, random(0, "trajectory"), words, counted)
            _load(network, state.arrays)
            decoding = Decoding(network.eval(), scales)
        used = sum(name.startswith(fitted.PREFIXES) for name in state.arrays)
        if used != len(state.arrays) or (decoding is None and len(parts) + 5 != used):
            raise malformed("arrays")
        style = self._style(CLOCKS_US[schema.clock])
        paid = ledgers.from_json(stored["ledger"]) if "ledger" in stored else ()
        return TrajectoryModel(once, table, decoding, style, tuple(notes), paid)

    # -------------------------------------------------------------- parts

    def _of_tables(self) -> Synthesizer[Table]:
        if self.recipe is None:
            raise InputError(
                "a recipe of histories without the recipe of their static facts",
                "Trajectory(recipe=SeqTree()), or catalogue.build('events/trajectory')",
                "build it by its name",
            )
        return self.recipe

    def _sizes(self, words: Vocabulary, scales: Mapping[str, Scales], once: Once) -> Sizes:
        return Sizes(
            words.codes, int(words.levels.sum()), int(words.levels.max(initial=0)),
            scales["gap"].atoms.shape[1], scales["value"].atoms.shape[1],
            scales["duration"].atoms.shape[1], once.facts,
        )  # fmt: skip

    def _network(
        self, sizes: Sizes, rng: torch.Generator, words: Vocabulary, counted: bool
    ) -> Network:
        prior = Prior(sizes.codes, torch.from_numpy(words.rank)) if counted else None
        return Network(
            sizes, width=self.width, depth=self.depth, heads=self.heads, latent=self.latent,
            mixed=self.mixed, dropout=self.dropout, rng=rng, prior=prior,
        )  # fmt: skip

    def _style(self, tick_us: int) -> Style:
        return Style(self.temperature, self.top_p, self.context, tick_us)

    def _train(self, network: Network, learnt: Learnt, seed: int, watch: Watch) -> None:
        """Train on packed records; some subjects say when to stop."""
        places, facts, moments, kept, held = learnt
        longest = int(np.diff(places.starts).max())
        room = min(self.context, max(LEAST_ROOM, longest))
        found = windows(places, room)
        rows, apart = (
            lay(places, facts, found, who, room, events=self.batch, seed=seed, moments=moments)
            for who in (kept, held)
        )
        counted = max(float(rows.judged.sum()) / max(rows.n, 1), 1.0)
        steps = self.steps if held.size else min(self.steps, BLIND_STEPS)
        plan = Plan(
            steps, rate=self.rate, warm_up=min(50, steps // 10), look=max(steps // LOOKS, 10),
            patience=self.patience, seconds=60 * self.minutes, device=self.device,
            weight_decay=WEIGHT_DECAY, average=0.98,
        )  # fmt: skip
        trained = train(
            network, objective(free=self.free, counted=counted, blind=self.blind), rows, plan,
            seed=seed, held_out=apart.batches() if held.size else (), watch=watch,
        )  # fmt: skip
        if trained.why == "time" and trained.steps * rows.size < rows.n:
            raise InputError(
                f"{trained.steps} steps in {self.minutes:g} minutes, {rows.n // rows.size} needed"
                " to see every record once",
                "time for at least one pass over the records",
                "give more minutes, or fewer subjects",
            )


def _held_out(subjects: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the subjects to learn from, and those who tell when to stop."""
    n = min(int(HELD_OUT * subjects), MOST_HELD) if subjects >= ENOUGH else 0
    order = generator(seed, "trajectory held out").permutation(subjects)
    return np.sort(order[n:]), np.sort(order[:n])


def _load(network: Network, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put a stranger's weights in the network. Raises InputError when they do not fit."""
    own = {
        name.removeprefix("network/"): array
        for name, array in arrays.items()
        if name.startswith("network/")
    }
    wanted = network.state_dict()
    sound = set(wanted) == set(own) and all(
        own[name].shape == tuple(tensor.shape)
        and own[name].dtype == np.float32
        and np.isfinite(own[name]).all()
        for name, tensor in wanted.items()
    )
    if not sound:
        raise malformed("weights")
    network.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in own.items()})
    for name, kinds in network.named_buffers(recurse=False):
        if not bool((kinds <= 0).all()) or not bool((kinds > NEVER / 2).any(-1).all()):
            raise malformed(f"frequencies of '{name}'")
    if network.prior is not None and not network.prior.sound():
        raise malformed("counts of codes")
