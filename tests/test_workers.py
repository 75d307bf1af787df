"""The test run itself: several workers do not fight for the cores."""

import os

import pytest
import torch


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process has all cores")
def test_a_worker_computes_in_as_many_threads_as_it_is_told():
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
