"""A sweep's jobs on a Ray cluster.

Every node needs this package and the data at the same paths, and sees the sweep's folder (a shared file system): a job
writes its records there itself, as it does on one machine. A job whose worker dies is given to another one by Ray; its
process ends with the worker. A job sees the GPUs that Ray gives it, counted from 0: `--device 0` means one GPU each.
Nodes that differ in versions or hardware refuse their jobs, as records of different environments are never mixed.
Written for this project.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from yolospine_ultra.benchmark.plan import Job
from yolospine_ultra.benchmark.processes import EnvironmentDiffersError, run_job
from yolospine_ultra.benchmark.records import Record, Sweep

RETRIES = 3  # of a job whose worker died


def _needs(sweep: Sweep) -> dict[str, int]:
    """What a job takes of a node, in Ray's names of resources."""
    device = sweep.budget["device"]
    return {"CPU": sweep.budget["threads"], "GPU": 0 if device == "cpu" else len(device.split(","))}


def _run_remote(folder: str, sweep: Sweep, job: Job) -> list[Record] | str:
    """A job on a node; its records, or why the node does not take part."""
    if not (Path(folder) / "sweep.json").is_file():
        return f"A node of the cluster does not see {folder}; put --out on a file system that all nodes share."
    try:
        return run_job(Path(folder), sweep, job)
    except EnvironmentDiffersError as error:
        return str(error)


class RayCluster:
    """A connection to a cluster; the context starts a local one where the address is "local".

    Args:
        address: "auto" or "host:port" of a running cluster, or "local".

    Raises:
        ImportError: Ray is missing.
        ConnectionError: no cluster at the address.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise ImportError("--ray needs Ray: pip install 'yolospine_ultra[ray]'") from error
        self.ray, self.address = ray, address

    def __enter__(self) -> RayCluster:
        # the jobs are processes of their own, and their logs are files: nothing of theirs belongs on this terminal
        self.ray.init(
            address=self.address, log_to_driver=False, include_dashboard=False if self.address == "local" else None
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()

    def parallel(self, sweep: Sweep) -> int:
        """How many jobs run at a time."""
        have, need = self.ray.cluster_resources(), _needs(sweep)
        return max(1, int(min(have.get(kind, 0) // amount for kind, amount in need.items() if amount)))

    def run(self, folder: Path, sweep: Sweep, jobs: Sequence[Job]) -> Iterator[tuple[Job, list[Record]]]:
        """Run jobs; yields each with its records when it has ended.

        Raises:
            EnvironmentDiffersError: a node does not take part; jobs that run are stopped.
        """
        need = _needs(sweep)
        task = self.ray.remote(max_retries=RETRIES, num_cpus=need["CPU"], num_gpus=need["GPU"])(_run_remote)
        waiting = {task.remote(str(folder), sweep, job): job for job in jobs}
        try:
            while waiting:
                (ended,), _ = self.ray.wait(list(waiting), num_returns=1)
                outcome = self.ray.get(ended)
                if isinstance(outcome, str):
                    raise EnvironmentDiffersError(outcome)
                yield waiting.pop(ended), outcome
        finally:
            for left in waiting:
                self.ray.cancel(left, force=True)
