"""The second half of a demo: labels for a few documents, models trained on them, and a judge that is asked seldom.

The judge is a function that stands for a language model. So what routing would really agree on is known here, beside
what audits say of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.demo.demo import Demo
from gneiss.demo.judge import explains
from gneiss.jobs.progress import Progress, Silent
from gneiss.model_training import Classifier, Settings, train_quality
from gneiss.model_training.document_features import (
    document_batches,
    document_features,
    numeric_annotations,
    standardise,
)
from gneiss.model_training.fusion.card import Fusion
from gneiss.model_training.fusion.examples import blocks_of
from gneiss.model_training.fusion.training import train_fusion
from gneiss.model_training.labelling.choice import choose_labels
from gneiss.model_training.labelling.next_round import next_labels
from gneiss.model_training.labelling.strategies.distances import distances
from gneiss.model_training.labels import CORESET
from gneiss.model_training.routing import Calibrated, calibrate
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.parquet import write_parquet
from gneiss.output.sources import sources
from gneiss.pipelines.decide import decide
from gneiss.report.routing import Agreement, routed_agreement
from gneiss.routing.interval import Share
from gneiss.store.place import place_of

#: Labels for the classifier, a part of which is its audit, and for fusion; documents that the judge is asked about to
#: make a policy; the share of agreement asked for.
LABELS, LABELS_AUDIT_SHARE, FUSION_LABELS, PILOT, SLA = 600, 0.2, 300, 1200, 0.9
#: Of a run's documents, on which the judge is asked whatever the router says.
AUDIT_SHARE = 0.1
SETTINGS = Settings(dimensions=8, buckets=50_000, epochs=25)
#: Annotations from which fusion learns.
BLOCKS = {
    "judged": ["judged"],
    "models": ["prose", "technology"],
    "readability": ["eflaw", "ari", "words", "mini_words", "characters_per_word", "words_per_sentence"],
    "tokens": ["tokens_per_char"],
}
_JUDGE = """\
# A function stands in for an expensive judge; costs are stated, in questions to it.
judge: {function: "gneiss.demo.judge:explains"}
judge_cost: 1.0
tiers:
  - {column: judged, cost: 0.001}
  - {column: fusion, cost: 0.002}
"""
#: Entries of the recipe's last phase.
_JUDGED = "      - fasttext: {models: {judged: {source: models/judged/quality.bin, label: hq, other_labels: [cc]}}}\n"
_FUSION = "      - fusion: {model: models/fusion/fusion.safetensors}\n"
_ROUTE = "      - route: {policy: models/policy/}\n    rules: {routed: route_decision}\n"
#: Who decides: by `route_tier`, and at last the judge for an audit.
_DECIDERS = ("judged", "fusion", "judge", "judge, for an audit")


@dataclass(frozen=True, eq=False)
class Documents:
    """Kept documents of a run, in order: shard and row, text, kind; features, float64 (documents, features)."""

    at: Sequence[tuple[str, int]]
    texts: Sequence[str]
    kinds: Sequence[str]
    features: Float64Array

    @cached_property
    def verdicts(self) -> BoolArray:
        """What the judge would say of each, (documents,)."""
        return np.array(explains(self.texts), np.bool_)

    def row(self, position: int) -> dict[str, str | int]:
        """Where a document is, and its text."""
        shard, row = self.at[position]
        return {"shard": shard, "row": row, "text": self.texts[position]}

    def reach(self, positions: Int64Array) -> Float64Array:
        """How far each document is from the nearest of some, float64 (documents,)."""
        found: Float64Array = distances(self.features, self.features[positions]).min(axis=1)
        return found


@dataclass(frozen=True, eq=False)
class Labelled:
    """What was labelled, and the classifier that was trained on it.

    labels: why a document was chosen → how many; reach: how far each document is from the nearest of the coreset,
    float64 (documents,); random_reach: from the nearest of as many drawn at random.
    """

    labels: Mapping[str, int]
    reach: Float64Array
    random_reach: Float64Array
    classifier: Classifier[Settings]


@dataclass(frozen=True, eq=False)
class Routed:
    """What routing did in a run. audits: what they say; known: the agreement that all the same decisions really had.

    deciders: kind of document → tier or judge → documents that it decided; cost: of a document, audits included.
    """

    audits: Agreement
    known: Share
    deciders: Mapping[str, Mapping[str, int]]
    cost: float


@dataclass(frozen=True)
class OwnModels:
    """The models of a demo in its folder, made in this order by its steps.

    labels/, models/judged/, models/fusion/, models/policy/, and the outputs scored/, fused/ and routed/ with their
    recipes.
    """

    demo: Demo

    @property
    def folder(self) -> Path:
        """The folder of the demo."""
        return self.demo.folder

    @property
    def picture(self) -> Path:
        """Agreement, cost and coverage."""
        return self.folder / "models.png"

    def label(self, curated: FinishedRun, documents: Documents) -> Labelled:
        """Have a coreset and an audit labelled, train, have labelled what the model is least sure of, train again.

        Besides, other documents at random, for fusion: it must not learn from what the classifier has learned from.
        """
        queue = self.folder / "labels" / "queue"
        choose_labels(curated.folder, queue, budget=LABELS, audit_share=LABELS_AUDIT_SHARE)
        first = self._trained(queue)
        next_labels(curated.folder, queue, model=first.path, budget=LABELS - _queued(queue).num_rows)
        classifier = self._trained(queue)
        queued = _queued(queue)
        at = {place: position for position, place in enumerate(documents.at)}
        why = queued["why"].to_pylist()
        positions = [at[place] for place in _places(queued)]
        coreset = np.array([position for position, own in zip(positions, why, strict=True) if own == CORESET])
        drawn = np.random.Generator(np.random.PCG64(0)).permutation(len(documents.at))
        at_random = drawn[~np.isin(drawn, positions)][:FUSION_LABELS]
        self._write_labels("fusion", pa.Table.from_pylist([documents.row(position) for position in at_random.tolist()]))
        return Labelled(
            {own: why.count(own) for own in dict.fromkeys(why)} | {"random": len(at_random)},
            documents.reach(coreset),
            documents.reach(drawn[: len(coreset)]),
            classifier,
        )

    def score(self, curated: FinishedRun, progress: Progress = Silent()) -> FinishedRun:  # noqa: B008
        """Score what the run kept by the classifier."""
        return self._decided("scored", curated, [_JUDGED], progress)

    def fuse(self, scored: FinishedRun) -> Fusion:
        """Train a fusion model of the run's annotations, the classifier's among them."""
        return train_fusion(
            self._labels("fusion"), scored, blocks_of(BLOCKS, "BLOCKS"), self.folder / "models" / "fusion"
        )

    def calibrate(self, scored: FinishedRun, progress: Progress = Silent()) -> Calibrated:  # noqa: B008
        """Compute the fused score, and ask the judge about a sample of documents."""
        fused = self._decided("fused", scored, [_JUDGED, _FUSION], progress)
        judge = self.folder / "judge.yaml"
        judge.write_text(_JUDGE, "utf-8")
        policy = self.folder / "models" / "policy"
        return calibrate(fused.folder, judge, policy, sla=SLA, sample=PILOT, audit_share=AUDIT_SHARE)

    def route(self, progress: Progress = Silent()) -> FinishedRun:  # noqa: B008
        """Run the recipe that routes; other annotations are taken from where they are."""
        return self._decided("routed", open_run(self.folder / "fused"), [_JUDGED, _FUSION, _ROUTE], progress)

    def _decided(self, name: str, run: FinishedRun, entries: Sequence[str], progress: Progress) -> FinishedRun:
        """A run of the demo's recipe with one phase more."""
        recipe = self.folder / f"{name}.yaml"
        phase = "  - name: judged\n    annotate:\n" + "".join(entries)
        recipe.write_text(self.demo.recipe.read_text("utf-8") + phase, "utf-8")
        return decide(recipe, run, self.folder / name, backend="local", progress=progress)

    def _trained(self, queue: Path) -> Classifier[Settings]:
        labels = self._write_labels("judged", _queued(queue))
        return train_quality(labels, self.folder / "models" / "judged", settings=SETTINGS)

    def _write_labels(self, name: str, documents: pa.Table) -> Path:
        """Documents with a text, as the judge labels them."""
        labels = ["hq" if keep else "cc" for keep in explains(documents["text"].to_pylist())]
        labelled = documents.append_column("label", pa.array(labels))
        path = self._labels(name)
        write_parquet([labelled], labelled.schema, place_of(path.parent), path.name)
        return path

    def _labels(self, name: str) -> Path:
        return self.folder / "labels" / f"{name}.parquet"


def documents_of(run: FinishedRun) -> Documents:
    """The kept documents of the demo's run, with the features by which `choose_labels` chooses."""
    of, names = sources(run), numeric_annotations(run)
    at: list[tuple[str, int]] = []
    texts: list[str] = []
    features: list[Float64Array] = []
    for shard, rows, batch in document_batches(of, names):
        at += [(shard, row) for row in rows.tolist()]
        texts += batch.texts()
        features.append(document_features(batch, names, 0))
    whole = np.concatenate(features)
    standardise(whole)
    kinds = [kind for shard in run.shards for _, table in of.tables(shard, ["kind"]) for kind in table[0].to_pylist()]
    return Documents(at, texts, kinds, whole)


def _queued(queue: Path) -> pa.Table:
    """All rounds of a queue."""
    rounds = [pq.read_table(file).replace_schema_metadata() for file in sorted(queue.glob("*.parquet"))]
    return pa.concat_tables(rounds)


def _places(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True))


def measured(run: FinishedRun, documents: Documents) -> Routed:
    """What routing did in a run; documents: those that its last phase saw, in order."""
    names = ["route_tier", "route_decision", "route_audited", "route_agrees", "route_cost"]
    found = run.annotations(columns=names)
    found = found.filter(found["route_tier"].is_valid())
    hits, cost = 0, 0.0
    deciders: dict[str, dict[str, int]] = {}
    for row, verdict, kind in zip(found.to_pylist(), documents.verdicts.tolist(), documents.kinds, strict=True):
        hits += row["route_agrees"] if row["route_audited"] else row["route_decision"] == verdict
        of_kind = deciders.setdefault(kind, dict.fromkeys(_DECIDERS, 0))
        of_kind[_DECIDERS[-1 if row["route_audited"] else row["route_tier"]]] += 1
        cost += row["route_cost"]
    return Routed(routed_agreement(run), Share(hits, len(found)), deciders, cost / len(found))
