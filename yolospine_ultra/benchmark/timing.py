"""Time and memory, measured in the same way on CPU and GPU: only the timer is swapped.

Latency is that of the whole predict call, from image file to findings. The models take turns (interleaved rounds), so
that whatever else the machine does falls on all of them alike; the median of all calls is what is reported.
Written for this project.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

MIB = 2**20
WARM_UP = 3  # calls of each model that are not counted


class CpuTimer:
    """Milliseconds of a call by the clock."""

    def measure(self, call: Callable[[], object]) -> float:
        """Run `call`; how long it took."""
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1000


class CudaTimer:
    """Milliseconds of a call between two events on the GPU's stream, which waits for all of the call's work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def measure(self, call: Callable[[], object]) -> float:
        """Run `call`; how long it took."""
        with torch.cuda.device(self.device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end)


def timer_for(device: str) -> CpuTimer | CudaTimer:
    """The timer of a device as `family.Budget` names it; the first GPU of several."""
    return CpuTimer() if device == "cpu" else CudaTimer(torch.device(f"cuda:{device.split(',')[0]}"))


@dataclass(frozen=True)
class Latency:
    """Times of a model's predict calls, milliseconds.

    Attributes:
        median_ms, q1_ms, q3_ms: of all calls.
        rounds_ms: median of each round.
        calls: how many were counted.
    """

    median_ms: float
    q1_ms: float
    q3_ms: float
    rounds_ms: tuple[float, ...]
    calls: int


def interleaved_latency(
    models: Mapping[str, Callable[[Path], object]],
    images: Sequence[Path],
    rounds: int,
    timer: CpuTimer | CudaTimer,
) -> dict[str, Latency]:
    """Latency of several models whose calls take turns.

    Args:
        models: by name, a call that takes an image file.
        images: files, each of which every model takes in every round.
        rounds: how many; the model that begins changes with each.
        timer: of the device.

    Raises:
        ValueError: no image, or no round.
    """
    if not images or rounds < 1:
        raise ValueError(f"{len(images)} images in {rounds} rounds; expected at least one of each.")
    for call in models.values():
        for i in range(WARM_UP):
            call(images[i % len(images)])
    names = list(models)
    taken: dict[str, list[list[float]]] = {n: [] for n in names}
    gc.disable()  # no collection in the middle of a call
    try:
        for r in range(rounds):
            gc.collect()
            turn = names[r % len(names) :] + names[: r % len(names)]
            for n in names:
                taken[n].append([])
            for image in images:
                for n in turn:
                    taken[n][r].append(timer.measure(lambda n=n, image=image: models[n](image)))
    finally:
        gc.enable()
    return {n: _summarise(times) for n, times in taken.items()}


def _summarise(times: list[list[float]]) -> Latency:
    """Quartiles of all calls, and the median of each round."""
    every = np.concatenate(times)
    q1, median, q3 = np.percentile(every, [25, 50, 75]).tolist()
    return Latency(median, q1, q3, tuple(float(np.median(t)) for t in times), len(every))


def peak_rss() -> float:
    """Most memory this process has had, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024  # bytes there, KiB elsewhere


def reset_cuda_peak(device: str) -> None:
    """Begin to measure the allocator's peak anew."""
    if device != "cpu":
        torch.cuda.init()  # the allocator's statistics exist only then
        torch.cuda.reset_peak_memory_stats(int(device.split(",")[0]))


def cuda_peak(device: str) -> float | None:
    """Most the allocator of a device has given out since `reset_cuda_peak`, MiB; None without a GPU."""
    return None if device == "cpu" else torch.cuda.max_memory_allocated(int(device.split(",")[0])) / MIB
