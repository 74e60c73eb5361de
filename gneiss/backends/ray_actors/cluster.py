"""The cluster that this process drives: the one that RAY_ADDRESS or the job names, or one started on this machine."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import mkdtemp
from threading import current_thread, main_thread
from typing import Any

from gneiss.errors import MachineError

_LOOPBACK = "127.0.0.1"
_log = logging.getLogger(__name__)


def living_nodes() -> list[Mapping[str, Any]]:
    """The living nodes of the cluster that RAY_ADDRESS or the job names, or of one started on this machine.

    One that is started here listens on the loopback interface only, its files are private, and it has no dashboard:
    that would be ten more processes.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # read by `import ray`; named for its default
    import ray

    if not ray.is_initialized():
        try:
            own: Any = {} if address else {"_temp_dir": _own_folder(), "include_dashboard": False}
            with _signal_handlers_kept():
                ray.init(address=address or "local", logging_level=logging.WARNING, **own)
        except Exception as error:  # of any class: Ray raises Exception itself where a start takes it too long
            raise MachineError(f"cannot connect to Ray (RAY_ADDRESS={address or ''}): {last_line(error)}") from error
        if not address and any(node["NodeManagerAddress"] != _LOOPBACK for node in ray.nodes()):
            _log.warning("Ray was imported before gneiss, and listens on all interfaces of this machine")
    return [node for node in ray.nodes() if node["Alive"]]


def _own_folder() -> str:
    """A folder for a Ray of this process, which goes with it.

    It lies in one that only we may enter, since Ray opens its own to everybody; its sockets need a short path.
    """
    private = mkdtemp(prefix="gneiss-ray-", dir="/tmp")
    atexit.register(_leave, private)
    return f"{private}/ray"


def _leave(folder: str) -> None:
    import ray

    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def own_node() -> str:
    """The node of this process."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts: Python's handler, and one below it that prints a C++ stack."""
    if current_thread() is not main_thread():  # only there can handlers be set, and Ray sets none elsewhere
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before):
        signal.signal(signal.SIGTERM, before)


def on_node(node: str, function: Any) -> Any:
    """A remote function, to be run on this node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return function.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False))


def last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
