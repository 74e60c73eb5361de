"""Read an MDS folder with mosaicml-streaming, and write what it gives with its writer: FROM TO COLUMNS (JSON)."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def stand_in(name: str, **names: object) -> ModuleType:
    """An empty module: streaming imports torchvision for data sets of pictures, which are not read here."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__.update(names)
    sys.modules[name] = module
    return module


def main(source: str, target: str, columns: str) -> None:
    """Copy."""
    if find_spec("torchvision") is None:
        functional = stand_in("torchvision.transforms.functional", to_tensor=None)
        transforms = stand_in("torchvision.transforms", functional=functional)
        datasets = stand_in("torchvision.datasets", VisionDataset=object)
        stand_in("torchvision", transforms=transforms, datasets=datasets)
    from streaming import MDSWriter, StreamingDataset

    samples = StreamingDataset(local=source, batch_size=1, shuffle=False, validate_hash="xxh64")
    written = 0
    with MDSWriter(columns=json.loads(columns), out=target, hashes=["xxh64"], size_limit=30_000) as writer:
        for sample in samples:
            writer.write(sample)
            written += 1
    print(written)


if __name__ == "__main__":
    main(*sys.argv[1:])
