"""What waits for a store, several at once and in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

#: Requests that wait at once: more than a network's round trip takes turns of a file's parsing.
AT_ONCE = 16
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def at_once(function: Callable[[_Item], _Result], items: Iterable[_Item], most: int = AT_ONCE) -> Iterator[_Result]:
    """Apply a function to items in threads; results in the order of the items, of which few are ahead of the reader.

    What a call raises is raised in its turn, and nothing is begun after that. Context variables are as they are here.

    >>> list(at_once(str.upper, "abc"))
    ['A', 'B', 'C']
    """
    left = iter(items)
    first = list(islice(left, 2 * most))
    if len(first) < 2:  # a thread would cost more than it saves
        yield from map(function, first)
        return
    pool = ThreadPoolExecutor(most)

    def begin(item: _Item) -> Future[_Result]:
        return pool.submit(copy_context().run, function, item)

    try:
        waiting = deque(map(begin, first))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(map(begin, islice(left, 1)))
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def meanwhile(function: Callable[[], _Result]) -> Iterator[Callable[[], _Result]]:
    """Call a function in a thread while the block goes on. Yields what waits for its result, or raises what it raised.

    Context variables are as they are here. The block ends when the call has.

    >>> with meanwhile(lambda: 6 * 7) as answer:
    ...     question = "six by nine"
    ...     print(question, answer())
    six by nine 42
    """
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(copy_context().run, function).result
