"""Several processes that train one model together, as torchrun starts them. Needs torch where there are several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from gneiss.errors import MachineError


@contextmanager
def joined(device: str) -> Iterator[bool]:
    """Within it the processes of torchrun are one group; whether this is the first, or the only one.

    Parameters: `device`: `cpu`, by gloo, or `cuda`, by NCCL, one GPU for each process of a machine.
    Raises MachineError for a machine with fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    import torch
    import torch.distributed as dist

    is_gpu = torch.device(device).type == "cuda"
    if is_gpu:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise MachineError(
                f"process {local} of this machine: expected a GPU for each, found {torch.cuda.device_count()}; start"
                " as many processes with torchrun"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if is_gpu else "gloo")
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process writes what all have found."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return True
    from gneiss.reweight.distributed import place

    return place()[0] == 0


def check_agreement(has_result: bool, device: str) -> None:
    """Raise MachineError where some processes find a result that others do not; every one calls it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    import torch

    from gneiss.reweight.distributed import place, sum_over_ranks

    found = int(sum_over_ranks(torch.tensor(int(has_result), device=device)))
    if found not in (0, place()[1]):
        raise MachineError(
            f"{found} of {place()[1]} processes find a model that was trained before: expected an output that all see,"
            " on storage that all machines share"
        )
