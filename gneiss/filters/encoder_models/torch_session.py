"""A BERT on a GPU by torch: windows of like length padded together, in float16 where the device has it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gneiss.arrays import Float32Array, Int64Array
from gneiss.filters.encoder_models.bert import Bert
from gneiss.filters.encoder_models.session import OutOfMemoryError
from gneiss.filters.encoder_models.settings import Pooling

#: Windows that a GPU is given at once; where they do not fit, it gets half as many.
_BATCH_WINDOWS = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TorchSession:
    """A BERT on a device. arrays: by name, on the device."""

    bert: Bert
    pooling: Pooling
    device: str
    arrays: dict[str, Any]
    batch_windows: int = _BATCH_WINDOWS

    def run(self, windows: Sequence[Int64Array]) -> Float32Array:
        """Features of windows, float32 (windows, width). Raises OutOfMemoryError."""
        import torch

        ids = np.zeros((len(windows), max(map(len, windows))), np.int64)
        is_token = np.zeros(ids.shape, np.bool_)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = window
            is_token[row, : len(window)] = True
        try:
            with torch.inference_mode():
                given = (torch.from_numpy(array).to(self.device) for array in (ids, is_token))
                found: Float32Array = self._features(*given).float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(str(error).splitlines()[0]) from error
        return found

    def _features(self, ids: Any, is_token: Any) -> Any:
        """Features, (windows, width), of padded windows, (windows, tokens)."""
        import torch
        from torch.nn import functional

        from gneiss.filters.encoder_models.torch_bert import TorchBert

        bert = TorchBert(self.bert.config, self.arrays)
        x = bert.embedded(ids)
        for layer in range(bert.config.layers):
            x = bert.layer(x, is_token, layer, bert.linear(layer))
        if self.pooling == "mean":
            weights = is_token[:, :, None].float()
            return (x.float() * weights).sum(dim=1) / weights.sum(dim=1)
        if self.pooling == "cls":
            return x[:, 0]
        return torch.tanh(functional.linear(x[:, 0], *(self.arrays[f"pooler.dense.{of}"] for of in ("weight", "bias"))))


def torch_session(bert: Bert, pooling: Pooling, device: str) -> TorchSession:
    """A BERT on a device of torch, `cuda` or `cpu`; in float16 on the first."""
    import torch

    precision = torch.float16 if device == "cuda" else torch.float32
    arrays = {name: torch.from_numpy(array).to(device, precision) for name, array in bert.arrays.items()}
    return TorchSession(bert, pooling, device, arrays)


def has_gpu() -> bool:
    """Whether torch is installed and sees a GPU; if not, a warning says what is missing."""
    try:
        import torch
    except ImportError:
        _log.warning("encoder: device gpu: torch is not installed (extra `train`); scored on the processor")
        return False
    if not torch.cuda.is_available():
        _log.warning("encoder: device gpu: torch sees none on this machine; scored on the processor")
        return False
    return True
