"""The same work for many parts, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from data_prep.errors import DataError
from data_prep.progress import progress


def each(
    function: Callable[..., None], calls: Sequence[tuple], *, workers: int, label: str, sizes: Sequence[int] | None = None
) -> None:
    """Calls the function with each tuple of arguments; the order doesn't matter, and results go to files.

    Args:
        function: A module's function (it is sent to other processes by name).
        calls: The arguments of each call.
        workers: Processes.
        label: What the progress display calls it.
        sizes: Bytes of each call, for the display.

    Raises:
        DataError: A worker was killed; or what the function raises.
    """
    weights = [max(1, size) for size in sizes] if sizes else [1] * len(calls)
    with progress(sum(weights) or None, unit="bytes" if sizes else "parts", label=label) as shown:
        if workers <= 1 or len(calls) < 2:
            for call, weight in zip(calls, weights):
                function(*call)
                shown.advance(weight)
            return
        with ProcessPoolExecutor(min(workers, len(calls)), multiprocessing.get_context("spawn")) as pool:
            futures = [pool.submit(function, *call) for call in calls]
            try:
                for future, weight in zip(futures, weights):
                    future.result()
                    shown.advance(weight)
            except BrokenProcessPool as error:
                raise DataError(f"{label}: a worker was killed (short of memory?); run again: what was done is kept") from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
