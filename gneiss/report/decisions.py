"""An output's decisions by other rules: how much would be kept, counted exactly from stored annotations.

A document's fate depends on the truth of each rule only. So documents are counted by their pattern of truth, in one
pass for any number of settings, and each pattern is decided once, by the code that decides in a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from gneiss.arrays import BoolArray, Int8Array, Int64Array
from gneiss.curate.statistics import QUARANTINED
from gneiss.errors import InputError, RecipeError, did_you_mean
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.columns import BASE_COLUMNS
from gneiss.recipe.expression import Expression, quoted
from gneiss.recipe.recipe import MOST_PHASES, Recipe
from gneiss.recipe.rule import (
    UNKNOWN,
    Rules,
    as_read,
    expressions,
    kept_patterns,
    locked_connection,
    truths,
    understood,
)
from gneiss.report.counting import token_column
from gneiss.report.counting_kernel import add_amounts, coded, numbered
from gneiss.report.documents import open_documents

if TYPE_CHECKING:
    import duckdb

#: The rules of every phase.
Setting: TypeAlias = tuple[Rules, ...]
#: The index of a phase, and an SQL condition over what it has.
Condition: TypeAlias = tuple[int, str]
BATCH_ROWS = 250_000
#: Columns of a batch beside those that rules read; no annotation can have a name with a blank.
_LAST, _GROUP, _BYTES, _TOKENS = "last phase", "group of the document", "bytes of text", "tokens of the text"
_VERDICT = "verdict of "
# Unknown, not true, true.
_STATES = 3
#: Codes are renumbered when there can be more than this.
_MOST_CODES = 1 << 20
#: Settings that differ in more conditions are counted each by itself.
_MOST_OTHERS = 6


#: What becomes of a document. Unknown: it reaches a phase that it did not reach in the run.
FATES = ("kept", "dropped", "unknown", "quarantined")


@dataclass(frozen=True)
class Amount:
    """Documents, bytes of their text after all edits, and tokens: 0 where the run counted none."""

    documents: int = 0
    text_bytes: int = 0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.documents + other.documents, self.text_bytes + other.text_bytes, self.tokens + other.tokens)


@dataclass(frozen=True)
class Decided:
    """What a setting keeps, by group of documents. unknown: what reaches a phase that it did not reach in the run."""

    kept: Mapping[str | None, Amount]
    dropped: Mapping[str | None, Amount]
    unknown: Mapping[str | None, Amount]

    @property
    def all(self) -> Amount:
        """All documents but the quarantined ones."""
        return sum((total(amounts) for amounts in (self.kept, self.dropped, self.unknown)), Amount())


def total(groups: Mapping[str | None, Amount]) -> Amount:
    """The amount of all groups."""
    return sum(groups.values(), Amount())


@dataclass(frozen=True)
class Reading:
    """What of a run its decisions need.

    columns: of the view of the run's documents, by the names that rules call them by; phases: names of those of the
    run; readable: what rules of each phase can read; tokens: the annotation that counts them; by: the column by which
    documents are grouped; verdicts: rules whose condition reads what a later phase overwrites, so that their verdict in
    the run stands for it, by phase.
    """

    run: FinishedRun
    layers: tuple[str, ...]
    columns: Mapping[str, str]
    phases: tuple[str, ...]
    readable: tuple[frozenset[str], ...]
    tokens: str | None
    by: str | None
    verdicts: Mapping[int, frozenset[str]]

    def batches(self) -> Iterator[Batch]:
        """All rows of the run. Raises InputError."""
        named = [f"{quoted(column)} AS {quoted(name)}" for name, column in self.columns.items()]
        verdicts = (rule for verdict in self.verdicts.values() for rule in sorted(verdict))
        listed = ", ".join(f"'{name}'" for name in self.phases)
        selected = [
            *named,
            *(f"NOT list_contains(failed, '{rule}') AS {quoted(_verdict(rule))}" for rule in verdicts),
            f"CASE WHEN status = '{QUARANTINED}' THEN -1 WHEN dropped_in IS NULL THEN {len(self.phases) - 1}"
            f" ELSE list_position([{listed}], dropped_in) - 1 END::BIGINT AS {quoted(_LAST)}",
            f"{quoted(self.by) if self.by else 'NULL'}::VARCHAR AS {quoted(_GROUP)}",
            f"coalesce(text_bytes, 0)::BIGINT AS {quoted(_BYTES)}",
            f"coalesce({quoted(self.tokens) if self.tokens else '0'}, 0)::BIGINT AS {quoted(_TOKENS)}",
        ]
        with open_documents(self.run, self.layers) as connection:
            found = connection.sql(f"SELECT {', '.join(selected)} FROM documents")
            waiting: list[pa.RecordBatch] = []  # DuckDB gives a row group at a time
            for batch in chain(found.to_arrow_reader(BATCH_ROWS), [None]):
                if waiting and (batch is None or sum(map(len, waiting)) + len(batch) > BATCH_ROWS):
                    yield Batch(pa.Table.from_batches(waiting).combine_chunks(), self.readable)
                    waiting = []
                if batch is not None:
                    waiting.append(batch)

    def setting(self, recipe: Recipe) -> Setting:
        """The rules of a recipe, as they are evaluated over batches."""
        return tuple(self._evaluated(index, phase.decision) for index, phase in enumerate(recipe.phases))

    def _evaluated(self, index: int, rules: Rules) -> Rules:
        stored = {rule: quoted(_verdict(rule)) for rule in self.verdicts.get(index, ())}
        return replace(rules, conditions={**rules.conditions, **stored})


def _verdict(rule: str) -> str:
    return f"{_VERDICT}{rule}"


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a run. readable: the columns that rules of each phase can read.

    states: of conditions that were evaluated before: 0 unknown, 1 not true, 2 true, int8 (rows,).
    """

    table: pa.Table
    readable: tuple[frozenset[str], ...]
    states: dict[Condition, Int8Array] = field(default_factory=dict)

    @cached_property
    def groups(self) -> tuple[Int64Array, list[str | None]]:
        """The group of each row, by its number in a list, int64 (rows,)."""
        groups = self.table[_GROUP].combine_chunks().dictionary_encode(null_encoding="encode")
        return groups.indices.to_numpy().astype(np.int64), groups.dictionary.to_pylist()

    def grouped(self, values: pa.ChunkedArray) -> Batch:
        """The same rows in other groups, strings (rows,)."""
        at = self.table.column_names.index(_GROUP)
        return replace(self, table=self.table.set_column(at, _GROUP, values.combine_chunks()))

    def of_conditions(self, conditions: Sequence[Condition]) -> Int8Array:
        """The states of conditions, int8 (conditions, rows)."""
        found = np.empty((len(conditions), self.table.num_rows), np.int8)
        for truth, condition in zip(found, conditions, strict=True):
            truth[:] = self.states[condition]
        return found

    def as_read(self, phase: int, aliases: Mapping[str, str]) -> pa.Table:
        """The columns that rules of a phase can read, as they read them."""
        verdicts = [name for name in self.table.column_names if name.startswith(_VERDICT)]
        own = [name for name in self.table.column_names if name in self.readable[phase]]
        return as_read(self.table.select([*own, *verdicts]), aliases)


def reading(run: FinishedRun, recipe: Recipe, *, tokens: str | None = None, by: str | None = None) -> Reading:
    """What of a run is read to decide by the rules of a recipe, which computes what the run's recipe does.

    Parameters: `tokens`: the annotation that counts tokens, by default that of the first annotator `tokens`; `by`: an
    annotation, column of a layer, or `shard`. Raises RecipeError for another recipe, or a rule that the annotations
    cannot tell; InputError for a column that there is not.
    """
    earlier = run.recipe
    _refuse_other_annotations(recipe, earlier, run)
    layers = tuple(recipe.layers)
    run.layers(layers)
    there = run.columns(run.shards[0], layers) if run.shards else {}
    own = {key: name for name, key in there.items()}
    columns = {name: name for name in there if name in {column.name for column in earlier.columns}}
    for layer, layer_names in recipe.layers.items():
        for name in layer_names:
            if (layer, name) not in own:
                known = [known for holder, known in own if holder == layer]
                raise RecipeError(f"layers: no column {name!r} in the layer {layer!r}{did_you_mean(name, known)}")
            columns[f"{layer}.{name}"] = own[layer, name]
    read = [expressions(phase.decision, recipe.readable(index)) for index, phase in enumerate(recipe.phases)]
    if by is not None and by not in ("shard", *there):
        raise InputError(f"{run.folder}: no annotation {by!r}{did_you_mean(by, ['shard', *there])}")
    if tokens is not None and tokens not in there:
        raise InputError(f"{run.folder}: no annotation {tokens!r}{did_you_mean(tokens, there)}")
    return Reading(
        run,
        layers,
        {
            name: column
            for name, column in columns.items()
            if any(name in rule.reads for of in read for rule in of.values())
        },
        tuple(phase.name for phase in earlier.phases),
        tuple(frozenset(recipe.readable(index)) for index in range(len(recipe.phases))),
        tokens or token_column(earlier),
        by,
        _overwritten(recipe, earlier, read),
    )


def decided(batches: Iterable[Batch], settings: Sequence[Setting]) -> list[Decided]:
    """What each setting keeps of some rows; all settings have the same rules, with other conditions or `keep`."""
    conditions = [conditions_of(of) for of in settings]
    shared = [
        condition
        for condition in dict.fromkeys(chain.from_iterable(conditions))
        if all(condition in of for of in conditions)
    ]
    others = [[condition for condition in of if condition not in shared] for of in conditions]
    kinds = [_Kinds(shared)] * len(settings)
    if max(map(len, others), default=0) > _MOST_OTHERS:
        kinds, others = [_Kinds(of) for of in conditions], [[] for _ in settings]
    counts = [np.zeros((0, 3), np.int64) for _ in settings]
    with locked_connection() as connection:
        for batch in _ahead(_with_truths(batches, settings)):
            found = {kind: kind.of(batch) for kind in dict.fromkeys(kinds)}
            sizes = [batch.table[name].to_numpy() for name in (_BYTES, _TOKENS)]
            for number, (kind, own) in enumerate(zip(kinds, others, strict=True)):
                code = coded(found[kind], _STATES, batch.of_conditions(own))
                grown = np.zeros((len(kind.known) * _STATES ** len(own), 3), np.int64)
                grown[: len(counts[number])] = counts[number]
                add_amounts(grown, code, *sizes)
                counts[number] = grown
        counted = [_Counted.of(*parts) for parts in zip(kinds, others, counts, strict=True)]
        return list(map(_decided, counted, _fates(connection, settings, counted)))


def conditions_of(setting: Setting) -> list[Condition]:
    """All conditions of a setting, each once."""
    found = ((index, condition) for index, rules in enumerate(setting) for condition in rules.conditions.values())
    return list(dict.fromkeys(found))


def _with_truths(batches: Iterable[Batch], settings: Sequence[Setting]) -> Iterator[Batch]:
    """Batches with the states of all conditions; those of a phase that are new are evaluated in one query."""
    wanted = [
        sorted({condition for rules in of for condition in rules.conditions.values()})
        for of in zip(*settings, strict=True)
    ]
    known: dict[Condition, Expression] = {}
    with locked_connection() as connection:
        for batch in batches:
            for index, conditions in enumerate(wanted):
                if new := [condition for condition in conditions if (index, condition) not in batch.states]:
                    table = batch.as_read(index, settings[0][index].aliases)
                    for condition in new:
                        known[index, condition] = known.get((index, condition)) or understood(
                            connection, condition, table
                        )
                    found = truths(connection, table, [known[index, condition] for condition in new])
                    states = np.maximum(found, UNKNOWN) - UNKNOWN
                    batch.states.update(((index, condition), states[:, i]) for i, condition in enumerate(new))
            yield batch


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches, of which the next one is made ready by another thread meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = thread.submit(next, batches, None)
            yield batch


class _Kinds:
    """Kinds of documents, numbered as they are met: group, last phase, and the states of conditions."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self.conditions = conditions
        self.known: dict[tuple[str | None, tuple[int, ...]], int] = {}

    def of(self, batch: Batch) -> Int64Array:
        """The kind of each row of a batch, int64 (rows,)."""
        groups, names = batch.groups
        last = batch.table[_LAST].to_numpy()
        states = batch.of_conditions(self.conditions)
        code, size = groups * (1 + MOST_PHASES) + last + 1, len(names) * (1 + MOST_PHASES)
        done = 0
        while done < len(states):
            if size * _STATES > _MOST_CODES:
                code, first = numbered(code, size)
                size = len(first)
            end, size = done + 1, size * _STATES
            while end < len(states) and size * _STATES <= _MOST_CODES:
                end, size = end + 1, size * _STATES
            code, done = coded(code, _STATES, states[done:end]), end
        code, first = numbered(code, size)
        there = np.stack([array[first] for array in (groups, last, *states)], axis=1).tolist()
        kinds = ((names[group], tuple(truths)) for group, *truths in there)
        kind: Int64Array = np.array([self.known.setdefault(pair, len(self.known)) for pair in kinds], np.int64)[code]
        return kind


@dataclass(frozen=True, eq=False)
class _Counted:
    """Kinds of documents under a setting: group, last phase, states of conditions; and their amounts, (kinds, 3)."""

    groups: Sequence[str | None]
    last: Int64Array
    states: Mapping[Condition, Int64Array]
    amounts: Int64Array

    @classmethod
    def of(cls, kinds: _Kinds, own: Sequence[Condition], counts: Int64Array) -> _Counted:
        """From the counts (kinds and states of conditions of its own, 3) of documents, bytes and tokens."""
        codes = np.flatnonzero(counts[:, 0])
        kind, rest = np.divmod(codes, _STATES ** len(own))
        states: dict[Condition, Int64Array] = {}
        for condition in reversed(own):
            rest, states[condition] = np.divmod(rest, _STATES)
        known = list(kinds.known)
        numbers = np.array([code for _, code in known], np.int64).reshape(len(known), 1 + len(kinds.conditions))[kind]
        states |= {condition: numbers[:, 1 + i] for i, condition in enumerate(kinds.conditions)}
        return cls([known[code][0] for code in kind.tolist()], numbers[:, 0], states, counts[codes])

    def pattern(self, phase: int, rules: Rules) -> Int8Array:
        """The truth of the rules of a phase, int8 (kinds, rules)."""
        states = [self.states[phase, condition] for condition in rules.conditions.values()]
        return (np.array(states, np.int8).reshape(len(states), len(self.last)) + UNKNOWN).astype(np.int8).T


def fates(batches: Iterable[Batch], settings: Sequence[Setting]) -> Iterator[list[Int8Array]]:
    """For each batch what each setting does with each row: an index in FATES, int8 (rows,)."""
    kinds = [_Kinds(conditions_of(of)) for of in settings]
    with locked_connection() as connection:
        for batch in _with_truths(batches, settings):
            found = [of_setting.of(batch) for of_setting in kinds]
            counted = [
                _Counted.of(of_setting, (), np.ones((len(of_setting.known), 3), np.int64)) for of_setting in kinds
            ]
            yield [fate[kind] for fate, kind in zip(_fates(connection, settings, counted), found, strict=True)]


def _fates(
    connection: duckdb.DuckDBPyConnection, settings: Sequence[Setting], counted: Sequence[_Counted]
) -> list[Int8Array]:
    """The fate of each kind by each setting, int8 (kinds,); settings that decide alike are decided together."""
    alive = [one.last >= 0 for one in counted]
    unknown = [np.zeros(len(one.last), np.bool_) for one in counted]
    for index, of_phase in enumerate(zip(*settings, strict=True)):
        alike: dict[tuple[str, ...], list[int]] = {}
        for number, rules in enumerate(of_phase):
            alike.setdefault((rules.keep, *rules.conditions), []).append(number)
        for (keep, *names), numbers in alike.items():
            patterns = [counted[number].pattern(index, of_phase[number]) for number in numbers]
            kept = kept_patterns(connection, keep, names, np.concatenate(patterns))
            ends = np.cumsum([len(pattern) for pattern in patterns])[:-1]
            for number, keeps in zip(numbers, np.split(kept, ends), strict=True):
                reached = counted[number].last >= index
                unknown[number] |= alive[number] & ~reached
                alive[number] = alive[number] & reached & keeps
    return [
        np.select([one.last < 0, is_unknown, keeps], [3, 2, 0], 1).astype(np.int8)
        for one, keeps, is_unknown in zip(counted, alive, unknown, strict=True)
    ]


def _decided(counted: _Counted, fate: Int8Array) -> Decided:
    return Decided(*(_by_group(counted, fate == number) for number in range(3)))


def _by_group(counted: _Counted, chosen: BoolArray) -> dict[str | None, Amount]:
    found: dict[str | None, Amount] = {}
    for at in np.flatnonzero(chosen).tolist():
        group = counted.groups[at]
        found[group] = found.get(group, Amount()) + Amount(*counted.amounts[at].tolist())
    return found


def _refuse_other_annotations(recipe: Recipe, earlier: Recipe, run: FinishedRun) -> None:
    """Refuse a recipe that computes other annotations than a run has, or in other phases."""
    names = [phase.name for phase in earlier.phases]
    if [phase.name for phase in recipe.phases] != names:
        raise RecipeError(f"phases: those of {run.folder} are {', '.join(names)}; only rules and `keep` can differ")
    for mine, theirs in zip(recipe.phases, earlier.phases, strict=True):
        for what in ("steps", "editors", "annotators"):
            if getattr(mine, what) != getattr(theirs, what):
                raise RecipeError(
                    f"phase {mine.name}: its {what} are not those of {run.folder}, whose annotations are read; only"
                    " rules and `keep` can differ: `gneiss decide` computes what else there is"
                )


def _overwritten(
    recipe: Recipe, earlier: Recipe, read: Sequence[Mapping[str, Expression]]
) -> dict[int, frozenset[str]]:
    """By phase the rules that read what later phases overwrite: their verdicts in the run stand for them."""
    base = {column.name for column in BASE_COLUMNS}
    found: dict[int, frozenset[str]] = {}
    for index, rules in enumerate(read):
        later = earlier.phases[index + 1 :]
        if not any(phase.steps or phase.editors for phase in later):
            break
        found[index] = frozenset(name for name, rule in rules.items() if rule.reads & base)
        for name in sorted(found[index]):
            if earlier.phases[index].rules.get(name) != recipe.phases[index].rules[name]:
                raise RecipeError(
                    f"rule {name!r}: it reads {min(read[index][name].reads & base)}, of which the annotations have the"
                    " value after later edits; `gneiss decide` computes it"
                )
    return found
