"""Features of texts by an encoder: the mean over a text's windows; heads read them, and nothing else of a text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gneiss.arrays import Float32Array, Int64Array
from gneiss.errors import ModelError
from gneiss.filters.encoder_models.bert import Bert, bert_onnx, check_pooler, read_bert, read_config
from gneiss.filters.encoder_models.session import OutOfMemoryError, Session, onnx_session
from gneiss.filters.encoder_models.settings import Execution, FeatureSettings
from gneiss.filters.encoder_models.windows import Windows, load_windows

#: What most encoders of an ONNX file were trained with, where their configuration does not say.
_POSITIONS = 512


@dataclass(frozen=True)
class EncoderFiles:
    """An encoder: its config.json, its tokenizer.json, and its weights, in safetensors (of BERT) or as an ONNX file."""

    config: Path
    tokenizer: Path
    weights: Path

    @classmethod
    def of(cls, folder: Path, weights: str = "model.safetensors") -> EncoderFiles:
        """Those of a folder, as Hugging Face lays it out."""
        return cls(folder / "config.json", folder / "tokenizer.json", folder / weights)

    @property
    def is_onnx(self) -> bool:
        """Whether the weights are an ONNX file."""
        return self.weights.suffix == ".onnx"

    def weights_sha256(self) -> str:
        """The sha256 of the weights, in hexadecimal. Raises ModelError."""
        try:
            with self.weights.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"{self.weights}: cannot read: {error.strerror}") from error


@dataclass(frozen=True, eq=False)
class Features:
    """A loaded encoder, as a function of texts. width: features of a text."""

    windows: Windows
    session: Session
    width: int

    def __call__(self, texts: Sequence[str]) -> Float32Array:
        """Features of each text, float32 (texts, width); NaN for a text without tokens.

        Windows of like length are computed together, as many as the session takes at once; where its device has no
        memory for these, half as many, from there on.
        """
        of_texts = [self.windows.of(text) for text in texts]
        flat = [window for windows in of_texts for window in windows]
        order = sorted(range(len(flat)), key=lambda number: len(flat[number]))
        computed = np.empty((len(flat), self.width), np.float32)
        lengths = [len(flat[number]) for number in order]
        most_tokens, at = self.session.batch_tokens, 0
        while at < len(order):
            end = _batch_end(lengths, at, most_tokens)
            try:
                computed[order[at:end]] = self.session.run([flat[number] for number in order[at:end]])
            except OutOfMemoryError as error:
                if end - at == 1:
                    raise ModelError(
                        f"encoder: no memory for a window of {lengths[at]} tokens: {error}; lower window_tokens, or let"
                        " fewer workers share the device"
                    ) from error
                most_tokens = (end - at) // 2 * lengths[end - 1]
            else:
                at = end
        ends = np.cumsum([len(windows) for windows in of_texts])
        return _means(computed, ends)


def _batch_end(lengths: Sequence[int], start: int, most_tokens: int) -> int:
    """Where a batch from `start` ends whose windows, padded, have so many tokens at most. lengths: ascending."""
    end = start + 1
    while end < len(lengths) and (end + 1 - start) * lengths[end] <= most_tokens:
        end += 1
    return end


def _means(windows: Float32Array, ends: Int64Array) -> Float32Array:
    """The mean over consecutive windows up to each end, float32 (texts, width); NaN over none."""
    found = np.full((len(ends), windows.shape[1]), np.nan, np.float32)
    start = 0
    for text, end in enumerate(ends.tolist()):
        if end > start:
            total = windows[start].astype(np.float64)
            for window in windows[start + 1 : end]:
                total += window
            found[text] = total / (end - start)
        start = end
    return found


def load_features(
    files: EncoderFiles,
    settings: FeatureSettings,
    execution: Execution = Execution(),  # noqa: B008 - a frozen value
) -> Features:
    """Load an encoder. Raises ModelError: it is none, its files do not fit each other, or a package is missing."""
    if files.is_onnx:
        return _of_onnx(files, settings)
    bert = read_bert(files.config, files.weights)
    _check_positions(files, settings, bert.config.positions)
    if settings.pooling == "pooler":
        check_pooler(bert, files.weights)
    windows = load_windows(files.tokenizer, bert.config.vocabulary, settings.windows, settings.window_tokens)
    return Features(windows, _session_of(bert, settings, execution), bert.config.width)


def _session_of(bert: Bert, settings: FeatureSettings, execution: Execution) -> Session:
    """On a GPU where one is asked for and there; else on the processor."""
    from gneiss.filters.encoder_models.torch_session import gpu_session, has_gpu, torch_session

    if execution.device == "gpu" and has_gpu():
        return gpu_session(bert, settings, execution.gpu_precision)
    if execution.engine == "torch":
        return torch_session(bert, settings.pooling)
    return onnx_session(bert_onnx(bert, settings.pooling, settings.precision), settings.pooling)


def _of_onnx(files: EncoderFiles, settings: FeatureSettings) -> Features:
    config = read_config(files.config)
    vocabulary, positions = config.get("vocab_size"), config.get("max_position_embeddings", _POSITIONS)
    if not isinstance(vocabulary, int) or not isinstance(positions, int):
        raise ModelError(f"{files.config}: expected whole numbers vocab_size and max_position_embeddings")
    _check_positions(files, settings, positions)
    windows = load_windows(files.tokenizer, vocabulary, settings.windows, settings.window_tokens)
    session = onnx_session(files.weights, settings.pooling)
    tried = session.run([np.array([*windows.before, *windows.after] or [0], np.int64)])
    if tried.ndim != 2:
        raise ModelError(f"{files.weights}: expected numbers for a text, or for each token, found {tried.shape[1:]}")
    if not np.isfinite(tried).all():
        raise ModelError(f"{files.weights}: NaN or infinite numbers for a text; fetch or export the model again")
    return Features(windows, session, tried.shape[1])


def _check_positions(files: EncoderFiles, settings: FeatureSettings, positions: int) -> None:
    if settings.window_tokens > positions:
        raise ModelError(
            f"{files.config}: the encoder reads at most {positions} tokens, found window_tokens:"
            f" {settings.window_tokens}; lower it"
        )
