"""Read token arrays with OLMo-core: LENGTH DTYPE END FILE... Prints documents and instances as JSON."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def stand_in(name: str, **names: object) -> ModuleType:
    """An empty module: OLMo-core imports cached_path for files in clouds, which are not read here."""
    module = ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
    return module


def main(length: str, dtype: str, end: str, *paths: str) -> None:
    """Read."""
    if find_spec("cached_path") is None:
        client = type("Client", (), {"recoverable_errors": ()})
        schemes = stand_in("cached_path.schemes", S3Client=client, SchemeClient=client, add_scheme_client=print)
        stand_in("cached_path", cached_path=lambda path, **_: Path(path), schemes=schemes)
    import numpy as np
    from olmo_core.data import NumpyFSLDataset
    from olmo_core.data.utils import iter_document_indices

    type_, eos = getattr(np, dtype), int(end)
    dataset = NumpyFSLDataset(
        *paths, sequence_length=int(length), pad_token_id=0, eos_token_id=eos, vocab_size=eos + 1, dtype=type_
    )
    told = [list(iter_document_indices(path, use_array_if_local=False, dtype=type_)) for path in paths]
    seen = [[(int(a), int(b)) for a, b in iter_document_indices(p, eos_token_id=eos, dtype=type_)] for p in paths]
    instances = [dataset[i]["input_ids"].tolist() for i in range(len(dataset))]
    print(json.dumps({"told": told, "seen": seen, "instances": instances}))


if __name__ == "__main__":
    main(*sys.argv[1:])
