"""fastText classifiers: the probability of a given label, and the most probable label."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, TypeAlias

from gneiss.annotation import STRICT_KEYS, Annotate, Annotator, Column, annotate
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch, Texts

_log = logging.getLogger(__name__)

#: Replacement of line breaks, at which fastText ends a text: "space" replaces every \n by a space;
#: "join_stripped_lines" strips the text and joins its lines (those of str.splitlines) with spaces.
Newlines: TypeAlias = Literal["space", "join_stripped_lines"]
#: "library" asks fastText itself, one model after another; "ensemble" collapses all models into one table and passes
#: over the text once; "auto" does that with all models that can be collapsed, and asks fastText for the others.
Engine: TypeAlias = Literal["auto", "library", "ensemble"]

PAGES = (
    Page(
        code="GW01",
        name="quality",
        summary="Keeps text that at least one of two fastText models rates as high-quality writing.",
        why=(
            "One model was trained on instruction answers and explanations (dclm), one on synthetic "
            "textbooks and annotated web pages (cosmo). They disagree often, so one of them suffices. The "
            "score is the probability of the label hq. The published code reports the probability of the top "
            "label, which is at least one half, so its rule keeps everything."
        ),
        formula="softmax probability of the label hq, of the whole text, no lower-casing, line breaks as spaces",
        source=(
            "GneissWeb (arXiv 2502.14907), fastText quality annotators and the published recipe; dclm: "
            "mlfoundations/fasttext-oh-eli5; cosmo: ibm-granite/GneissWeb.Quality_annotator"
        ),
        cost="six models together about 90 MB/s on one core, in 0.07 to 0.7 GB of memory that workers share",
        example_kept="To solve the equation, first collect the terms in x on one side, then divide by their factor.",
        example_dropped="CHEAP tickets!! buy now buy now best price click here login free shipping order today",
        rules={"quality": "dclm > 0.002 OR cosmo > 0.03"},
        annotator="fasttext",
    ),
    Page(
        code="GW02",
        name="category",
        summary="Labels text that belongs to science, technology, education or medicine.",
        why=(
            "Good technical writing reads harder and tokenizes worse than other good writing. A document in "
            "a category therefore gets wider bounds for readability and tokens per character. The rule is "
            "not meant to drop documents; other rules read the labels."
        ),
        formula="the top label of each of four binary fastText models, against cc (any other web page)",
        source=(
            "GneissWeb (arXiv 2502.14907), category annotators and the published recipe; "
            "ibm-granite/GneissWeb.{Sci,Tech,Edu,Med}_classifier"
        ),
        cost="six models together about 90 MB/s on one core, in 0.07 to 0.7 GB of memory that workers share",
        example_kept="The enzyme binds its substrate in a cleft that closes over the transition state.",
        example_dropped="We stayed for two nights and loved the pool, the breakfast and the view of the harbour.",
        rules={
            "in_category": (
                "science_label = 'science' OR technology_label = 'technology' "
                "OR education_label = 'education' OR medical_label = 'medical'"
            )
        },
        annotator="fasttext",
    ),
)


@dataclass(frozen=True)
class FastTextModel:
    """One model: its file, the label to score, and its other labels.

    source: local path or `hf://repo@revision/file`; label, other_labels: without `__label__`, together exactly the
    labels of the model; newlines: replacement of line breaks.
    """

    __pydantic_config__ = STRICT_KEYS

    source: str
    label: str
    other_labels: tuple[str, ...] = ("cc",)
    newlines: Newlines = "space"


@dataclass(frozen=True)
class FastText(Annotator):
    """Scores and top labels of supervised fastText models.

    models: column name → model. A model NAME gives the columns NAME and NAME_label, both null if fastText predicts
    nothing, that is, if it knows neither a word of the text nor the end of a line. Engines agree to 1e-5.

    >>> FastText({"dclm": FastTextModel("dclm.bin", "hq")}).columns[1].name
    'dclm_label'
    """

    key = "fasttext"
    maps_files = True

    models: Mapping[str, FastTextModel]
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(column.name for column in self.columns).items() if count > 1]
        if repeated:
            raise RecipeError(f"fasttext: two models both give the column {repeated[0]!r}; rename one")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return tuple(
            column
            for name, model in self.models.items()
            for column in (
                Column(name, "float64", f"probability of {model.label!r} by {model.source}"),
                Column(f"{name}_label", "string", f"most probable label by {model.source}"),
            )
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The models' files, without repeats."""
        return tuple(dict.fromkeys(model.source for model in self.models.values()))

    def prepare(self, files: Mapping[str, Path], folder: Path) -> Mapping[str, Path]:
        """Once per run: collapse the models into a table in `folder`, unless it exists, and return the files to load.

        files: source → local path. Returns the same with the table in place of every model that is in it; that is
        all that workers need. Raises ModelError when a file is not a sound fastText model, has other labels than
        named, or cannot be collapsed although the engine is "ensemble".
        """
        from gneiss.filters.fasttext_models.file import plain_label, read_model
        from gneiss.filters.fasttext_models.table import build_table, is_sound, obstacle, table_name

        if self.engine == "library":
            return dict(files)
        models = {source: read_model(files[source]) for source in self.model_files}
        for model in self.models.values():
            _check_labels(files[model.source], tuple(map(plain_label, models[model.source].labels)), model)
        obstacles = {source: reason for source in self.model_files if (reason := obstacle(models[source]))}
        for source, reason in obstacles.items():
            if self.engine == "ensemble":
                raise ModelError(f"{files[source]}: cannot be part of an ensemble: {reason}; use engine: auto")
            _log.warning("%s: left to the fastText library, which is slower: %s", files[source], reason)
        collapsible = [models[source] for source in self.model_files if source not in obstacles]
        if not collapsible:
            return dict(files)
        table = folder / table_name([model.path for model in collapsible])
        if not is_sound(table):  # missing, damaged, or of another layout
            build_table(collapsible, table)
        return {source: files[source] if source in obstacles else table for source in self.model_files}

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Once per worker: open what `prepare` returned and return the function that annotates a batch.

        Without `prepare` before, the table is made here and lasts as long as the function.
        Raises ModelError as `prepare` does.
        """
        from gneiss.filters.fasttext_models.table import TABLE_SUFFIX

        if self.engine == "library" or any(files[source].suffix == TABLE_SUFFIX for source in self.model_files):
            return self._open(files)
        with TemporaryDirectory(prefix="gneiss-fasttext-") as folder:  # its pages stay mapped after it is deleted
            return self._open(self.prepare(files, Path(folder)))

    def _open(self, files: Mapping[str, Path]) -> Annotate:
        from gneiss.filters.fasttext_models.ensemble import load_ensemble
        from gneiss.filters.fasttext_models.file import read_model
        from gneiss.filters.fasttext_models.library import load_library
        from gneiss.filters.fasttext_models.table import TABLE_SUFFIX

        collapsed = [source for source in self.model_files if files[source].suffix == TABLE_SUFFIX]
        predictors = load_ensemble(files[collapsed[0]], collapsed) if collapsed else {}
        for source in self.model_files:
            if source not in predictors:
                predictors[source] = load_library(read_model(files[source]))
        for model in self.models.values():
            _check_labels(files[model.source], predictors[model.source].labels, model)

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa

            columns = {}
            for name, model in self.models.items():
                predictor = predictors[model.source]
                probabilities, top = predictor.predict(batch, model.newlines == "join_stripped_lines")
                nothing = top < 0
                columns[name] = pa.array(probabilities[:, predictor.labels.index(model.label)], mask=nothing)
                columns[f"{name}_label"] = pa.array(predictor.labels, pa.string()).take(pa.array(top, mask=nothing))
            return columns

        return compute


def fasttext_scores(texts: Texts, path: str | Path, label: str) -> pa.Array:
    """Probability of one label of one fastText model for each text; every \\n is read as a space.

    Parameters: `texts`: (documents,) strings; `path`: a supervised fastText `.bin`; `label`: without `__label__`.
    Returns float64 (documents,); null for a null text and where fastText predicts nothing.
    Raises ModelError when the file is not a sound fastText model or lacks the label.
    """
    from gneiss.filters.fasttext_models.file import plain_label, read_model

    found = tuple(map(plain_label, read_model(Path(path)).labels))
    if label not in found:
        raise ModelError(f"{path}: expected the label {label!r}, found {', '.join(found)}")
    others = tuple(name for name in found if name != label)
    return annotate(FastText({"score": FastTextModel(str(path), label, others)}), texts)["score"].combine_chunks()


def _check_labels(path: Path, found: tuple[str, ...], model: FastTextModel) -> None:
    expected = {model.label, *model.other_labels}
    if expected != set(found) or len(found) != len(set(found)):
        raise ModelError(
            f"{path}: expected the labels {', '.join(sorted(expected))}, found {', '.join(sorted(found))}; "
            "check the model's path in the recipe"
        )
