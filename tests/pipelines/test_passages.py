"""The repeated passages of a file: against a plain recomputation from the spans, and as they are shown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gneiss.cli.main import main
from gneiss.dedup import duplicate_spans
from gneiss.pipelines.passages import repeated_passages
from tests import runs


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_corpus(tmp_path_factory.mktemp("passages") / "a.parquet", runs.documents(60, seed=0))


@pytest.mark.parametrize("policy", ["protect", "union", "all"])
def test_passages_are_the_pieces_of_all_cuts_counted_by_their_text(file: Path, policy: str) -> None:
    raw = runs.documents(60, seed=0)
    texts = [None if text is None or b"\xff" in text else text.decode() for text in raw]
    spans = duplicate_spans(texts, min_length=60, policy=policy).shrink(texts)
    expected: Counter[bytes] = Counter()
    for piece in spans.table.to_pylist():
        expected[(texts[piece["document"]] or "").encode()[piece["start"] : piece["end"]]] += 1
    passages = repeated_passages(file, min_length=60, policy=policy)
    assert {p.text.encode(): p.cut_copies for p in passages} == dict(expected)
    assert [p.cut_bytes for p in passages] == sorted((p.cut_bytes for p in passages), reverse=True)
    for passage in passages:
        assert f"{passage.before}{passage.text}{passage.after}" in (texts[passage.row] or "")


def test_the_largest_passages_are_shown_between_brackets_with_control_characters_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passage = "A passage that occurs \x1b[31mmore than once, [with brackets], and is longer than fifty bytes."
    texts = [f"First: {passage}end".encode(), f"Second: {passage}end".encode(), b"alone"]
    main_arguments = ["repeats", "--input", str(runs.write_corpus(tmp_path / "a.parquet", texts)), "--min-length", "50"]
    with pytest.raises(SystemExit) as ended:
        main(main_arguments)
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert "\x1b" not in printed
    assert "1 distinct passages repeat" in printed
    assert "Second[[: A passage that occurs \\u001b[31mmore than once" in printed
    assert "[with brackets]" in printed
    assert "row 1, which repeats row 0" in printed
