"""The dataset card of an output: what it is, from what, by which recipe, and the counts.

Its front matter is what the hub and the library `datasets` read: which files are the data set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from gneiss.annotation import Reports
from gneiss.curate.statistics import KEPT, QUARANTINED, Statistics
from gneiss.input.plan import Plan
from gneiss.output import layout
from gneiss.output.data_files import DataFiles
from gneiss.output.markdown import code, plain
from gneiss.recipe.files import OutputFiles
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.yaml_text import read_yaml, write_yaml
from gneiss.store.at_once import at_once, meanwhile
from gneiss.store.place import Place
from gneiss.version import __version__

#: The hub's classes of size: fewer documents than this, by name.
_SIZES = {10**power: name for power, name in zip(range(3, 13), (
    "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B",
    "100B<n<1T",
), strict=True)}  # fmt: skip

#: As many shards that could not be read are named; the statistics of the run name all.
_MOST_SHARDS = 100
_REPORT = f"- [`{layout.REPORT_FILE}`]({layout.REPORT_FILE}): what was kept and dropped, by which rule, with examples\n"
#: How a line begins that says into which files documents are laid.
#: Files that `**` does not find: hidden ones, and those in folders whose names begin with `__`.
_LEFT_OUT = re.compile(r"/(\.|__[^/]*/)")
_LAID_OUT = f"- `{layout.DATA}/` in new shards: "


def dataset_card(plan: Plan, statistics: Statistics, quarantined_shards: Mapping[str, str], output: Place) -> str:
    """The card as Markdown, with front matter in YAML; all files of the output but the card are there."""
    counts = statistics.counts
    rows = max(counts["rows"], 1)
    with meanwhile(lambda: (output / layout.REPORT_FILE).find()) as report:
        front_matter = _front_matter(plan, statistics, output)
    lines = [
        "---",
        write_yaml(front_matter) + "---",
        "",
        f"# {plan.recipe.name}, curated",
        "",
        f"Curated by gneiss {__version__} from {code(plan.revision or plan.source)} ({len(plan.input.shards)} shards)"
        f" with the recipe `{plan.recipe.name}` (sha256 `{plan.recipe.digest()}`, written out in"
        f" `{layout.RECIPE_FILE}`).",
        "",
        plain(" ".join(plan.recipe.description.split())),
        "",
        "| documents | count | share |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {counts[name]:,} | {counts[name] / rows:.2%} |" for name in ("kept", "dropped", "quarantined")),
        f"| all | {counts['rows']:,} | |",
        "",
        "| bytes of text | count |",
        "| --- | ---: |",
        f"| in the input | {counts['input_text_bytes']:,} |",
        f"| cut by dedup | {counts['dedup_bytes']:,} |",
        f"| cut from kept documents, though the surviving copy was dropped | {counts['orphaned_bytes']:,} |",
        f"| kept | {counts['kept_text_bytes']:,} |",
        "",
        "| rule | condition | not true for | alone dropped |",
        "| --- | --- | ---: | ---: |",
    ]
    for phase in plan.recipe.phases:
        for rule, outcomes in statistics.rule_counts(phase.name, phase.rules).items():
            condition = code(phase.rules[rule], in_table=True)
            lines.append(
                f"| {rule} | {condition} | {outcomes['false'] + outcomes['unknown']:,} | {outcomes['decisive']:,} |"
            )
    lines += [
        "",
        *(f"Kept in phase `{phase.name}` when {code(phase.decision.keep)}." for phase in plan.recipe.phases),
        "",
    ]
    for paragraph in said_by_annotators(plan.recipe, statistics):
        lines += [paragraph, ""]
    if quarantined_shards:
        lines += [
            "Shards that could not be read:",
            "",
            *(f"- {code(id_)}: {plain(why)}" for id_, why in islice(quarantined_shards.items(), _MOST_SHARDS)),
            *([f"- and {more:,} more"] if (more := len(quarantined_shards) - _MOST_SHARDS) > 0 else []),
            "",
        ]
    lines += [
        _data(plan.recipe.output),
        f"- `{layout.BASE}/`: one row for every input row: status, why, every score",
        f"- `{layout.QUARANTINE}/`: rows that could not be used, with the reason (if there are any)",
        f"- `{layout.OWN}/`: the recipe, receipts, statistics",
        "",
    ]
    card = "\n".join(lines)
    return card if report() is None else with_report(card)


def said_by_annotators(recipe: Recipe, statistics: Statistics) -> list[str]:
    """What annotators have to say about an output, a paragraph each."""
    values = {name: column.values for name, column in statistics.columns.items()}
    annotators = (annotator for phase in recipe.phases for annotator in phase.annotators)
    return [annotator.report(values) for annotator in annotators if isinstance(annotator, Reports)]


def with_report(card: str) -> str:
    """The card with a link to the report; one that has it stays as it is."""
    before, own, after = card.partition(f"- `{layout.OWN}/`: ")
    return card if _REPORT in card or not own else f"{before}{_REPORT}{own}{after}"


def _front_matter(plan: Plan, statistics: Statistics, output: Place) -> dict[str, Any]:
    """What is known of these keys of the hub; of a configuration, all files are the split `train`."""
    said = {key: value for key, value in plan.recipe.card.model_dump().items() if value}
    of_input = {key: value for key, value in plan.origin.card.items() if "license" not in said or key == "language"}
    known = {
        **of_input,
        **said,
        "size_categories": [size_category(statistics.counts[KEPT])],
        "source_datasets": list(plan.origin.datasets),
        "tags": ["gneiss"],
        "configs": configurations(plan.recipe.output, bool(statistics.counts[QUARANTINED]), output),
    }
    return {key: value for key, value in known.items() if value}


def size_category(documents: int) -> str:
    """The hub's class of size.

    >>> size_category(1000)
    '1K<n<10K'
    """
    return next((name for limit, name in _SIZES.items() if documents < limit), "n>1T")


def configurations(files: OutputFiles, has_quarantine: bool, output: Place) -> list[dict[str, Any]]:
    """The data sets of an output, as the hub has them: documents, and where they can be read so, annotations."""
    folders = {"default": layout.DATA}
    if DataFiles.of(files).is_parquet:  # `datasets` takes all configurations of a card for one format
        folders["annotations"] = layout.BASE
        if has_quarantine:
            folders["quarantine"] = layout.QUARANTINE
    paths = at_once(lambda folder: _paths(folder, output), folders.values())
    return [
        {"config_name": name, "data_files": [{"split": "train", "path": path}]}
        for name, path in zip(folders, paths, strict=True)
    ]


def resharded_card(card: str, output: Place, files: OutputFiles, shards: int) -> str:
    """The card of a run whose documents were laid into another output, all of whose files but the card are there."""
    marked = re.match(r"---\n(.*?\n)---\n", card, re.DOTALL)
    known = read_yaml(marked[1]) if marked else {}
    has_quarantine = next((output / layout.QUARANTINE).files(), None) is not None
    configs = configurations(files, has_quarantine, output)
    text = card[marked.end() :] if marked else f"\n{card}"
    own = text.replace(_REPORT, "").splitlines(keepends=True)  # the report stays with the run that it is about
    text = "".join(line for line in own if not line.startswith(_LAID_OUT))
    bullet = re.compile(rf"^- `{layout.DATA}/`: .*\n", re.MULTILINE)
    said = f"{_laid_out(files, shards)}; the recipe written out has this `output`, and so another sha256"
    text = bullet.sub(lambda _: f"{_data(files)}\n{_LAID_OUT}{said}\n", text, count=1)
    return f"---\n{write_yaml({**known, 'configs': configs})}---\n{text}"


def _data(files: OutputFiles) -> str:
    return (
        f"- `{layout.DATA}/`: the kept documents (`.{files.format}`), their text after dedup, all other columns as they"
        " came"
    )


def _laid_out(files: OutputFiles, shards: int) -> str:
    order = "in their order" if files.shuffle_seed is None else f"shuffled with seed {files.shuffle_seed}"
    return f"{shards:,} files of about {files.shard_bytes:,} bytes, {order}"


def _paths(folder: str, output: Place) -> str | list[str]:
    """Patterns for all files in a folder: `**` leaves out hidden files, and folders whose names begin with `__`."""
    left_out, files = list[str](), 0
    for files, stored in enumerate((output / folder).files(), 1):  # noqa: B007 - how many there are
        if _LEFT_OUT.search(file := f"{folder}/{stored.name}"):
            left_out.append(file)
    named = [re.sub(r"[*?[]", r"[\g<0>]", file) for file in sorted(left_out)]
    paths = [*([f"{folder}/**"] if len(left_out) < files or not files else []), *named]
    return paths[0] if len(paths) == 1 else paths
