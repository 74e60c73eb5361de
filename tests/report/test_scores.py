"""Distributions, breakdowns, correlations, drift, warnings and cuts are what DuckDB says of the annotation files."""

from __future__ import annotations

import numpy as np
import pytest

from gneiss.errors import InputError
from gneiss.output.finished_run import FinishedRun
from gneiss.output.sources import sources
from gneiss.report import (
    breakdown,
    correlations,
    distribution,
    drift,
    first_copies,
    labels,
    outcomes,
    passages,
    quantiles,
    warnings,
)
from tests import runs
from tests.report.test_tables import query


def test_distributions_count_every_document(any_run: FinishedRun) -> None:
    for annotation in ("eflaw", "text_bytes"):
        found = distribution(any_run, annotation, bins=7)
        kept, everyone = query(
            any_run,
            f"SELECT count(*) FILTER (WHERE status = 'kept'), count(*) FROM rows WHERE {annotation} IS NOT NULL",
        )[0]
        assert (sum(found["kept"].to_pylist()), sum(found["dropped"].to_pylist())) == (kept, everyone - kept)
        assert found["low"].to_pylist()[1:] == found["high"].to_pylist()[:-1]
    with pytest.raises(InputError, match="no numeric annotation 'eflow'; did you mean 'eflaw'"):
        distribution(any_run, "eflow")


def test_quantiles_are_those_of_the_files(any_run: FinishedRun) -> None:
    medians = {row["annotation"]: row for row in quantiles(any_run).to_pylist()}
    exact, missing = query(any_run, "SELECT quantile_disc(eflaw, 0.5), count(*) - count(eflaw) FROM rows")[0]
    assert medians["eflaw"]["p50"] == pytest.approx(exact, rel=0.016)
    assert medians["eflaw"]["missing"] == missing


def test_labels_are_counted(uninterrupted: FinishedRun) -> None:
    found = {(row["value"], row["documents"], row["kept"]) for row in labels(uninterrupted).to_pylist()}
    counted = "SELECT prose_label, count(*), count(*) FILTER (WHERE status = 'kept') FROM rows"
    assert found == set(query(uninterrupted, f"{counted} WHERE prose_label IS NOT NULL GROUP BY 1"))


@pytest.mark.parametrize("most", [1, 50])
def test_a_breakdown_by_an_annotation_or_shard_adds_up(wide: FinishedRun, most: int) -> None:
    for by, value in (("dropped_in", "dropped_in"), ("sentences", "sentences::VARCHAR")):
        found = breakdown(wide, by, most=most).to_pylist()
        expected = query(
            wide,
            f"SELECT {value}, count(*) AS n, sum(text_bytes)::BIGINT, count(*) FILTER (WHERE status = 'kept') FROM rows"
            " GROUP BY 1 ORDER BY n DESC, 1",
        )
        listed = [(row["value"], row["documents"], row["bytes"], row["documents_kept"]) for row in found]
        assert listed[:most] == expected[:most]
        assert sum(row["documents"] for row in found) == 180
        assert [row["value"] for row in found[most:]] == ["(other)"] * (len(expected) > most)
    shards = {row["value"]: row["documents"] for row in breakdown(wide, "shard").to_pylist()}
    assert shards == {shard.id: shard.rows for shard in wide.shards}


def test_a_breakdown_by_a_column_of_the_input(wide: FinishedRun, material: runs.Material) -> None:
    found = breakdown(wide, "token_count", input=material.input).to_pylist()
    assert [(row["value"], row["documents"], row["documents_kept"]) for row in found] == [("7", 180, wide.documents)]
    hosts = breakdown(wide, "domain", input=material.input).to_pylist()
    assert [(row["value"], row["documents"]) for row in hosts] == [("x", 180)]
    kept = breakdown(wide, "domain").to_pylist()
    assert [(row["value"], row["documents"]) for row in kept] == [("x", wide.documents)]
    with pytest.raises(InputError, match=r"no annotation or column 'urls'; .* has; did you mean 'url'"):
        breakdown(wide, "urls")
    with pytest.raises(InputError, match=r"as .* has; name what was given to the run"):
        breakdown(wide, "url", input=material.input / "deep")


def test_correlations_are_of_ranks(any_run: FinishedRun) -> None:
    (found,) = correlations(any_run, ["eflaw", "text_bytes"]).to_pylist()
    both = "status <> 'quarantined' AND eflaw IS NOT NULL"
    expected, documents = query(
        any_run,
        "SELECT corr(a, b), count(*) FROM (SELECT"
        " rank() OVER (ORDER BY eflaw) + (count(*) OVER (PARTITION BY eflaw) - 1) / 2 AS a,"
        " rank() OVER (ORDER BY text_bytes) + (count(*) OVER (PARTITION BY text_bytes) - 1) / 2 AS b"
        f" FROM rows WHERE {both})",
    )[0]
    assert found["documents"] == documents
    assert found["correlation"] == pytest.approx(expected)


def test_drift_is_the_distance_of_means(any_run: FinishedRun) -> None:
    found = drift(any_run, ["eflaw"]).to_pylist()
    mean, deviation = query(any_run, "SELECT avg(eflaw), stddev_pop(eflaw) FROM rows")[0]
    assert [row["shard"] for row in found] == [shard.id for shard in any_run.shards]
    assert [row["kept"] for row in found] == [shard.kept for shard in any_run.shards]
    rows = any_run.annotations(columns=["eflaw"]).to_pylist()
    for row in found:
        values = [
            document["eflaw"]
            for document in rows
            if document["shard"] == row["shard"] and document["eflaw"] is not None
        ]
        assert row["eflaw"] == pytest.approx((np.mean(values) - mean) / deviation, abs=1e-9)


def test_what_decides_nothing_is_said(wide: FinishedRun) -> None:
    found = {row["what"]: row["why"] for row in warnings(outcomes(wide)).to_pylist()}
    assert found["there"].startswith("true for all") or "without it" in found["there"]


def test_cuts_are_counted_where_their_first_copies_lie(any_run: FinishedRun) -> None:
    cut = query(any_run, "SELECT sum(dedup_bytes)::BIGINT FROM rows")[0][0]
    places = first_copies(any_run).to_pylist()
    assert sum(row["cut_bytes"] for row in places) == cut > 0
    most = passages(any_run, most=10**6).to_pylist()
    assert sum(row["cut_bytes"] for row in most) == cut
    assert [row["cut_bytes"] for row in most] == sorted((row["cut_bytes"] for row in most), reverse=True)
    pieces = "SELECT unnest(dedup_cuts, recursive := true) FROM rows"
    elsewhere = query(any_run, f'SELECT sum("end" - start) FROM ({pieces}) WHERE source_shard IS NOT NULL')[0][0]
    assert (elsewhere or 0) == sum(row["cut_bytes"] for row in places if row["place"] == "another shard")
    assert passages(any_run, most=2).num_rows == 2


def test_texts_of_passages_are_read_from_the_input(wide: FinishedRun, material: runs.Material) -> None:
    texts = sources(wide, material.input)
    assert passages(wide)["text"].null_count == passages(wide).num_rows
    for row in passages(wide, input=material.input).to_pylist():
        for shard, number, start in (("source_shard", "source_row", "source_start"), ("shard", "row", "start")):
            ((_, _, text),) = texts.values("text", {row[shard]: [row[number]]})
            raw = text.as_py()
            whole = raw if isinstance(raw, bytes) else raw.encode()
            passage = whole[row[start] : row[start] + row["size_bytes"]].decode(errors="ignore")
            assert row["text"] == passage[:300] != ""
