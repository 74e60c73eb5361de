"""Sessions: loaded encoders, from the windows of texts to the features of each; ONNX Runtime on a processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gneiss.arrays import Float32Array, Int64Array
from gneiss.errors import ModelError, first_line
from gneiss.filters.encoder_models.settings import Pooling

#: Decimals of a score from features in float32: kinds of processors, and what is computed beside, differ behind them.
DIGITS = 4


class Session(Protocol):
    """A loaded encoder.

    batch_tokens: how many tokens it is given at once, at most, windows padded to the longest; one window at least.
    digits: decimals of a score, behind which its features may differ by what is computed beside.
    """

    @property
    def batch_tokens(self) -> int: ...

    @property
    def digits(self) -> int: ...

    def run(self, windows: Sequence[Int64Array]) -> Float32Array:
        """Features of windows, float32 (windows, width). Raises OutOfMemoryError where fewer windows may do."""


class OutOfMemoryError(Exception):
    """A device has no memory for so many windows at once."""


@dataclass(frozen=True, eq=False)
class OnnxSession:
    """ONNX Runtime, one window after another on one thread: what else is scored changes no bit of a window's features.

    name: of the file, for messages; failures: what ONNX Runtime raises; pooling: of a model that has an output for
    every token.
    """

    name: str
    runtime: Any
    failures: tuple[type[Exception], ...]
    inputs: tuple[str, ...]
    pooling: Pooling

    @property
    def batch_tokens(self) -> int:
        """Those of one window: several at once are no faster on a processor."""
        return 1

    @property
    def digits(self) -> int:
        """See Session."""
        return DIGITS

    def run(self, windows: Sequence[Int64Array]) -> Float32Array:
        """Features of windows, float32 (windows, width). Raises ModelError where the model fails on one."""
        try:
            return np.stack([self._features(ids) for ids in windows])
        except self.failures as error:
            raise ModelError(
                f"{self.name}: ONNX Runtime fails on a window; are weights and tokenizer of one model?"
                f" {first_line(error)}"
            ) from error

    def _features(self, ids: Int64Array) -> Float32Array:
        if self.inputs == ("ids",):
            found: Float32Array = self.runtime.run(None, {"ids": ids})[0]
            return found
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        output = self.runtime.run(None, {name: given[name][None] for name in self.inputs})[0][0]
        if output.ndim == 2:
            output = output.mean(axis=0) if self.pooling == "mean" else output[0]
        return output.astype(np.float32, copy=False)  # type: ignore[no-any-return]


#: What ONNX files of encoders take.
_KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


def onnx_session(model: bytes | Path, pooling: Pooling) -> OnnxSession:
    """Load an ONNX file, or its bytes. Raises ModelError: onnxruntime is not installed, or this is no encoder."""
    runtime = onnxruntime()
    name = "encoder" if isinstance(model, bytes) else str(model)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # windows have many lengths
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    try:
        content = model if isinstance(model, bytes) else model.read_bytes()
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise ModelError(f"{name}: cannot read: {error.strerror}") from error
    except _failures(runtime) as error:
        raise ModelError(f"{name}: ONNX Runtime cannot load it: {first_line(error)}") from error
    inputs = tuple(value.name for value in session.get_inputs())
    if inputs != ("ids",) and not {"input_ids"} <= set(inputs) <= _KNOWN_INPUTS:
        raise ModelError(f"{name}: expected the inputs {', '.join(sorted(_KNOWN_INPUTS))}, found {', '.join(inputs)}")
    return OnnxSession(name, session, _failures(runtime), inputs, pooling)


def onnxruntime() -> Any:
    """The package. Raises ModelError, with the extra that installs it, where it is not there."""
    try:
        import onnxruntime as package
    except ImportError as error:
        raise ModelError(
            "encoder: it needs the package onnxruntime, which is not installed: `pip install"
            " 'gneiss-curation[encoder]'`"
        ) from error
    return package


def _failures(runtime: Any) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises about a file."""
    state = runtime.capi.onnxruntime_pybind11_state
    return tuple(
        getattr(state, name)
        for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    )
