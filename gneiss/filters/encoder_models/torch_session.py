"""A BERT by torch: on a GPU, windows of like length padded together and in mixed precision; or on a processor."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gneiss.arrays import Float32Array, Int64Array
from gneiss.errors import ModelError, first_line
from gneiss.filters.encoder_models.batch_size import fastest_batch
from gneiss.filters.encoder_models.bert import Bert
from gneiss.filters.encoder_models.session import DIGITS, OutOfMemoryError
from gneiss.filters.encoder_models.settings import FeatureSettings, GpuPrecision, Pooling

#: Decimals of a score by the precision of products: what stands beside a text moves less than half of the last one.
_DIGITS = {"float32": DIGITS, "float16": 3, "bfloat16": 2}
#: How a GPU says that it has no memory, where torch has no exception of its own for that.
_NO_MEMORY = ("out of memory", "ALLOC_FAILED")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TorchSession:
    """A BERT on a device. arrays: by name, on the device: matrices in the precision of products, others in float32.

    batch_tokens: see Session; on a processor a window is computed alone, in one thread.
    """

    bert: Bert
    pooling: Pooling
    device: str
    precision: GpuPrecision
    arrays: dict[str, Any]
    batch_tokens: int = 1

    @property
    def digits(self) -> int:
        """See Session."""
        return _DIGITS[self.precision]

    def run(self, windows: Sequence[Int64Array]) -> Float32Array:
        """Features of windows, float32 (windows, width). Raises OutOfMemoryError, and ModelError for an overflow."""
        import torch

        ids = np.zeros((len(windows), max(map(len, windows))), np.int64)
        is_token = np.zeros(ids.shape, np.bool_)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = window
            is_token[row, : len(window)] = True
        with self._computing():
            found = in_memory(
                lambda: self._features(*(torch.from_numpy(array).to(self.device) for array in (ids, is_token)))
            )
        if not np.isfinite(found).all():
            raise ModelError(
                f"encoder: numbers past what {self.precision} holds; use gpu_precision: bfloat16, or float32"
            )
        return found

    def _computing(self) -> AbstractContextManager[object]:
        from gneiss.filters.encoder_models.torch_bert import one_thread

        return one_thread() if self.device == "cpu" else nullcontext()

    def _features(self, ids: Any, is_token: Any) -> Float32Array:
        """Features, (windows, width), of padded windows, (windows, tokens)."""
        import torch
        from torch.nn import functional

        from gneiss.filters.encoder_models.torch_bert import TorchBert

        bert = TorchBert(self.bert.config, self.arrays)
        kind = torch.device(self.device).type
        is_mixed = self.precision != "float32"
        with torch.inference_mode(), torch.autocast(kind, getattr(torch, self.precision), enabled=is_mixed):
            x = bert.embedded(ids)
            for layer in range(bert.config.layers):
                x = bert.layer(x, is_token, layer, bert.linear(layer))
            if self.pooling == "mean":
                weights = is_token[:, :, None].float()
                x = (x.float() * weights).sum(dim=1) / weights.sum(dim=1)
            else:
                x = x[:, 0]
            if self.pooling == "pooler":
                of = (self.arrays[f"pooler.dense.{part}"] for part in ("weight", "bias"))
                x = torch.tanh(functional.linear(x, *of).float())
            found: Float32Array = x.float().cpu().numpy()
        return found


def in_memory(compute: Callable[[], Float32Array]) -> Float32Array:
    """What is computed. Raises OutOfMemoryError where a device has no memory for it."""
    import torch

    try:
        return compute()
    except RuntimeError as error:  # of which torch.OutOfMemoryError is one
        reason = first_line(error)
        if not isinstance(error, torch.OutOfMemoryError) and not any(said in reason for said in _NO_MEMORY):
            raise
    torch.cuda.empty_cache()  # not in the handler, in which what was computed so far still lives
    raise OutOfMemoryError(reason)


def torch_session(
    bert: Bert, pooling: Pooling, device: str = "cpu", precision: GpuPrecision = "float32", batch_tokens: int = 1
) -> TorchSession:
    """A BERT on a device of torch, `cpu` or `cuda:NUMBER`; batch_tokens: see Session.

    Raises ModelError: torch is not installed, or the device has no memory for the weights.
    """
    torch = require_torch()
    types = {True: getattr(torch, precision), False: torch.float32}
    try:
        arrays = {
            name: torch.from_numpy(array).to(device, types[array.ndim == 2 and "embeddings" not in name])
            for name, array in bert.arrays.items()
        }
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"encoder: {device} has no memory for the weights: {first_line(error)}; let fewer workers share it"
        ) from error
    return TorchSession(bert, pooling, device, precision, arrays, batch_tokens)


def gpu_session(bert: Bert, settings: FeatureSettings, precision: GpuPrecision) -> TorchSession:
    """A BERT on a GPU, in batches that this worker measured to be fastest. Workers of a machine take turns at its GPUs.

    Raises ModelError where it has no memory for the weights.
    """
    import torch

    device = f"cuda:{os.getpid() % torch.cuda.device_count()}"
    session = torch_session(bert, settings.pooling, device, precision)
    windows = fastest_batch(lambda windows: seconds_of(session, windows, settings.window_tokens))
    _log.info("encoder: %s computes %d windows of %d tokens at once", device, windows, settings.window_tokens)
    return replace(session, batch_tokens=windows * settings.window_tokens)


def seconds_of(session: TorchSession, windows: int, tokens: int) -> float:
    """How long so many windows of so many tokens take. Raises OutOfMemoryError."""
    given = [np.zeros(tokens, np.int64)] * windows
    session.run(given)  # the first of a size also finds its kernels
    start = time.perf_counter()
    session.run(given)
    return time.perf_counter() - start


def require_torch() -> Any:
    """The package. Raises ModelError, with the extra that installs it, where it is not there."""
    try:
        import torch
    except ImportError as error:
        raise ModelError(
            "encoder: engine torch: it needs the package torch, which is not installed: `pip install"
            " 'gneiss-curation[train]'`"
        ) from error
    return torch


def has_gpu() -> bool:
    """Whether torch is installed and sees a GPU; if not, a warning says what is missing."""
    try:
        import torch
    except ImportError:
        _log.warning("encoder: device gpu: torch is not installed (extra `train`); scoring on the CPU")
        return False
    if not torch.cuda.is_available():
        _log.warning("encoder: device gpu: torch sees none on this machine; scoring on the CPU")
        return False
    return True
