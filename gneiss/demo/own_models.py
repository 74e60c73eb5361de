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

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.demo.demo import Demo
from gneiss.demo.judge import explains
from gneiss.filters.fasttext import fasttext_scores
from gneiss.jobs.progress import Progress, Silent
from gneiss.labeling.coreset import Settings as Collecting
from gneiss.labeling.coreset import choose, radius_for, stream_of
from gneiss.labeling.distances import distances
from gneiss.labeling.margin import nearest_to_half
from gneiss.model_training import Classifier, Settings, train_quality
from gneiss.model_training.fusion import train_fusion
from gneiss.model_training.fusion_card import Fusion
from gneiss.model_training.fusion_examples import blocks_of
from gneiss.model_training.routing import Calibrated, calibrate
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.parquet import write_parquet
from gneiss.output.sources import sources
from gneiss.pipelines.decide import decide
from gneiss.report.routing import Agreement, routed_agreement
from gneiss.routing.interval import Share
from gneiss.store.place import place_of

#: Documents that are labelled for the classifier, and half as many for fusion; those that the judge is asked about to
#: make a policy; the share of agreement asked for.
LABELS, PILOT, SLA = 600, 1200, 0.9
#: Of a run's documents, on which the judge is asked whatever the router says.
AUDIT_SHARE = 0.1
SETTINGS = Settings(dimensions=8, buckets=50_000, epochs=25)
#: Annotations of the demo's run by which documents are near each other, in blocks from which fusion learns.
BLOCKS = {
    "models": ["prose", "technology"],
    "readability": ["eflaw", "ari", "words", "mini_words", "characters_per_word", "words_per_sentence"],
    "tokens": ["tokens_per_char"],
}
_LABELS = pa.schema(
    {"shard": pa.string(), "row": pa.int64(), "text": pa.string(), "label": pa.string(), "why": pa.string()}
)
#: Documents from which the radius of a coreset is found.
_RADIUS_SAMPLE = 2000
_JUDGE = """\
# A function stands for a dear judge; costs are stated, in questions to it.
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


@dataclass(frozen=True, eq=False)
class Labelled:
    """What was labelled, as positions of documents, and what was trained on it.

    coreset, margin: in order of choice, for the classifier; at_random: for fusion; reach: how far each document is from
    the nearest of the coreset, float64 (documents,); random_reach: from the nearest of as many drawn at random.
    """

    coreset: Int64Array
    margin: Int64Array
    at_random: Int64Array
    reach: Float64Array
    random_reach: Float64Array
    classifier: Classifier


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

    def label(self, documents: Documents) -> Labelled:
        """Have a coreset labelled, train on it, have labelled what the model is least sure of, train again.

        Besides, as many as half of these are drawn at random and labelled, for fusion.
        """
        half, count = LABELS // 2, len(documents.texts)
        radius = radius_for(documents.features[:_RADIUS_SAMPLE], half / count, Collecting(0.0))
        coreset = choose(stream_of(documents.features), Collecting(radius, budget=half)).rows
        first = self._trained(documents, {"coreset": coreset})
        drawn = np.random.Generator(np.random.PCG64(0)).permutation(count)
        at_random = drawn[~np.isin(drawn, coreset)][:half]
        scores = fasttext_scores(documents.texts, first.path, first.positive).to_numpy(zero_copy_only=False)
        is_labelled = np.isin(np.arange(count), [*coreset, *at_random])
        margin = nearest_to_half(scores, is_labelled, LABELS - len(coreset))
        classifier = self._trained(documents, {"coreset": coreset, "margin": margin})
        self._write_labels("fusion", documents, {"random": at_random})
        reach, random_reach = (
            distances(documents.features, documents.features[rows]).min(axis=1)
            for rows in (coreset, drawn[: len(coreset)])
        )
        return Labelled(coreset, margin, at_random, reach, random_reach, classifier)

    def score(self, curated: FinishedRun, progress: Progress = Silent()) -> FinishedRun:  # noqa: B008
        """Score what the run kept by the classifier."""
        return self._decided("scored", curated, [_JUDGED], progress)

    def fuse(self, scored: FinishedRun) -> Fusion:
        """Train a fusion model of the run's annotations, the classifier's among them."""
        blocks = {"judged": ["judged"], **BLOCKS}
        labels = self._labels("fusion")
        return train_fusion(labels, scored, blocks_of(blocks, "BLOCKS"), self.folder / "models" / "fusion")

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

    def _trained(self, documents: Documents, chosen: Mapping[str, Int64Array]) -> Classifier:
        labels = self._write_labels("judged", documents, chosen)
        return train_quality(labels, self.folder / "models" / "judged", settings=SETTINGS)

    def _write_labels(self, name: str, documents: Documents, chosen: Mapping[str, Int64Array]) -> Path:
        rows = [
            {
                **dict(zip(("shard", "row"), documents.at[position], strict=True)),
                "text": documents.texts[position],
                "label": "hq" if documents.verdicts[position] else "cc",
                "why": why,
            }
            for why, positions in chosen.items()
            for position in positions.tolist()
        ]
        path = self._labels(name)
        write_parquet([pa.Table.from_pylist(rows, _LABELS)], _LABELS, place_of(path.parent), path.name)
        return path

    def _labels(self, name: str) -> Path:
        return self.folder / "labels" / f"{name}.parquet"


def documents_of(run: FinishedRun) -> Documents:
    """The kept documents of the demo's run; features are its numeric annotations, standardised."""
    names = [name for columns in BLOCKS.values() for name in columns]
    annotations = run.annotations(columns=names, kept=True)
    tables = [table for shard in run.shards for _, table in sources(run).tables(shard, ["text", "kind"])]
    read = pa.concat_tables(tables)
    features = np.stack([annotations[name].cast(pa.float64()).to_numpy() for name in names], axis=1)
    scaled = (features - np.nanmean(features, axis=0)) / np.nanstd(features, axis=0)
    return Documents(
        list(zip(annotations["shard"].to_pylist(), annotations["row"].to_pylist(), strict=True)),
        read["text"].to_pylist(),
        read["kind"].to_pylist(),
        np.nan_to_num(scaled),
    )


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
