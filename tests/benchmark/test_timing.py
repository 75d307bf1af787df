"""Interleaved latency with a clock of our own, and the choice of timer."""

from pathlib import Path

import pytest
import torch

from yolospine_ultra.benchmark.timing import (
    WARM_UP,
    CpuTimer,
    CudaTimer,
    cuda_peak,
    interleaved_latency,
    peak_rss,
    timer_for,
)


class FakeTimer:
    """Takes the number a call returns for its milliseconds."""

    def measure(self, call):
        return call()


def test_models_take_turns_and_the_median_is_of_all_calls():
    order = []

    def model(name, times):
        values = iter(times)

        def call(image):
            order.append(name)
            return next(values)

        return call

    # warm-up calls take long and must not count
    a = model("a", [1000] * WARM_UP + [1, 2, 3, 4, 5, 60])
    b = model("b", [1000] * WARM_UP + [10] * 6)
    found = interleaved_latency({"a": a, "b": b}, [Path("x"), Path("y")], 3, FakeTimer())
    assert order[2 * WARM_UP :] == ["a", "b", "a", "b", "b", "a", "b", "a", "a", "b", "a", "b"]
    assert found["a"].median_ms == 3.5 and found["a"].rounds_ms == (1.5, 3.5, 32.5) and found["a"].calls == 6
    assert found["b"].q1_ms == found["b"].q3_ms == 10


def test_nothing_to_time():
    with pytest.raises(ValueError, match="expected at least one"):
        interleaved_latency({}, [], 1, FakeTimer())


def test_the_clock_of_the_cpu_and_its_memory():
    assert timer_for("cpu").measure(lambda: sum(range(100_000))) > 0
    assert isinstance(timer_for("cpu"), CpuTimer) and cuda_peak("cpu") is None
    assert 50 < peak_rss() < 1e6


def test_only_the_timer_is_swapped_for_a_gpu():
    timer = timer_for("1,2")
    assert isinstance(timer, CudaTimer) and timer.device == torch.device("cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_events_measure_work_on_the_gpu():
    x = torch.rand(2000, 2000, device="cuda:0")
    assert timer_for("0").measure(lambda: x @ x) > 0 and cuda_peak("0") > 10
