"""The dataset card of a mixed corpus: of which runs it is, and what it has of each source and bucket."""

from __future__ import annotations

from collections.abc import Iterator

from gneiss.curate.statistics import Statistics
from gneiss.mixture.mixing import Mixing
from gneiss.mixture.plan import MixturePlan
from gneiss.output import layout
from gneiss.output.dataset_card import configurations, size_category
from gneiss.output.markdown import code
from gneiss.recipe.files import OutputFiles
from gneiss.recipe.yaml_text import write_yaml
from gneiss.version import __version__


def mixture_card(plan: MixturePlan, mixing: Mixing, statistics: Statistics) -> str:
    """The card as Markdown, with front matter in YAML; all files of the output but the card are there."""
    counts = statistics.counts
    front_matter = {
        "size_categories": [size_category(counts["kept"])],
        "tags": ["gneiss"],
        "configs": configurations(OutputFiles(), False, mixing.output),
    }
    apart = " Each bucket has a folder of its own, with each document once." if mixing.is_apart else ""
    lines = [
        "---",
        f"{write_yaml(front_matter)}---",
        "",
        "# A mixture",
        "",
        f"Mixed by gneiss {__version__} to a budget of {plan.budget:,} tokens, with the seed {plan.seed}; the plan is"
        f" written out in `{layout.MIXTURE_FILE}`. {counts['kept']:,} documents, {counts['kept_text_bytes']:,} bytes of"
        f" text.{apart}",
        "",
        "| source | run | tokens are |",
        "| --- | --- | --- |",
        *(
            f"| {code(source.name, in_table=True)} | `{source.run.digest}` | {code(source.tokenizer, in_table=True)} |"
            for source in mixing.sources
        ),
        "",
        "| source | bucket | documents | tokens | in the mixture: documents | tokens | repeated |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *_rows(plan),
        "",
        f"- `{layout.DATA}/`: the documents (`.parquet`), shuffled",
        f"- `{layout.BASE}/`: one row for each: source, bucket, copy, where it was, the scores that all runs have",
        f"- `{layout.OWN}/`: the recipe, receipts, statistics",
        "",
    ]
    return "\n".join(lines)


def _rows(plan: MixturePlan) -> Iterator[str]:
    for part in plan.parts:
        source, bucket = code(part.cell.source, in_table=True), code(part.cell.bucket, in_table=True)
        yield (
            f"| {source} | {bucket} | {part.cell.documents:,} | {part.cell.tokens:,} | {part.documents:,} |"
            f" {part.tokens:,} | ×{part.repetitions:.2f} |"
        )
