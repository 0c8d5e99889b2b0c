"""Where the runs of a sweep are computed: processes of this machine, SLURM (through submitit), or a Ray cluster.

All launchers take jobs and give their outcomes as they come, in any order. Jobs write into folders, so machines other than
this one must see the same folders under the same names.
"""

import contextlib
import gc
import os
import queue
import shutil
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

Execute = Callable[[Sequence[str]], int]
"""Runs one command, such as `kinema.cli.main`, and returns its status. A function of a module, for it is sent to others."""

DONE = "done"
"""File that a run folder holds once its run has ended well."""
_STOPPED = (130, 143)  # by Ctrl-C, or by SIGTERM as before the end of a SLURM job: its checkpoint is worth keeping


class LauncherError(RuntimeError):
    """The place where runs shall be computed is not there; the text says what to install or to start."""


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        arguments: Of the command.
        folder: Of the run, removed before it starts.
        log: File that gets what the run prints.
        resume: Arguments to go on with a run that was stopped; tried first, in the folder as it is.
    """

    arguments: tuple[str, ...]
    folder: Path
    log: Path
    resume: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended: status 0, or what it said last.

    Args:
        status: Of the command.
        said: Its last word.
        ended: False for a job that was stopped, or that another sweep computes: its folder stays, and it goes on later.
    """

    status: int
    said: str = ""
    ended: bool = True


class Launcher(Protocol):
    """Computes jobs."""

    def outcomes(self, execute: Execute, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """The place of each job among `jobs`, and its outcome, as they end."""
        ...


def run_job(execute: Execute, job: Job, threads: int | None = None) -> Outcome:
    """Run a job in this process; its output goes to its log.

    One that another process is computing is left to it, and one that is done since is not computed again.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder.with_name(f".{job.folder.name}.lock"), timeout=0):
            return Outcome(0) if (job.folder / DONE).is_file() else _computed(execute, job)
    except Timeout:
        return Outcome(1, "another sweep computes it", ended=False)


def _computed(execute: Execute, job: Job) -> Outcome:
    status = 1
    for arguments in (job.resume, job.arguments):
        if arguments is None:
            continue
        if arguments is job.arguments:
            shutil.rmtree(job.folder, ignore_errors=True)
        gc.collect()  # Lightning ties network and trainer into a circle, and those of earlier runs would lie about
        with job.log.open("w", encoding="utf-8") as log, _output_to(log):
            try:
                status = execute(arguments)
            except BaseException:  # whatever it is, the other runs go on
                traceback.print_exc()
                status = 1
        if status == 0:
            (job.folder / DONE).touch()
            return Outcome(0)
        if status in _STOPPED:
            return Outcome(status, _last_word(job.log), ended=False)
    return Outcome(status, _last_word(job.log))


def _last_word(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("kinema: ")]
    return (told or lines or ["nothing was said"])[-1].removeprefix("kinema: ")


@contextlib.contextmanager
def _output_to(log: Any) -> Iterator[None]:
    """Also what libraries print from C."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield
    finally:
        log.flush()
        for copy, place in zip(kept, (1, 2), strict=True):
            os.dup2(copy, place)
            os.close(copy)


class Local:
    """Processes of this machine, each of which computes one run after another and so imports everything once.

    A process that dies, by lack of memory or a fault of a library, costs the run that it had; another takes its place.

    Args:
        workers: Runs at a time; the processors divided by `threads` when None.
        threads: Of each. One is best for small networks: two runs of one thread end sooner than one of two after the other.
    """

    def __init__(self, workers: int | None = None, threads: int = 1) -> None:
        if threads < 1 or (workers is not None and workers < 1):
            raise LauncherError(f"workers={workers} and threads={threads}: give at least 1 of each")
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers, self.threads = workers or max(1, processors // threads), threads

    def outcomes(self, execute: Execute, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        ended: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        slots = min(self.workers, len(jobs))
        for place in [*range(len(jobs)), *[None] * slots]:
            waiting.put(place)
        pools: list[ProcessPoolExecutor] = []
        threads = [
            threading.Thread(target=self._serve, args=(execute, jobs, waiting, ended, pools), daemon=True)
            for _ in range(slots)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in jobs:
                yield ended.get()
        finally:
            while not waiting.empty():
                waiting.get()
            for pool in pools:
                for process in list((pool._processes or {}).values()):
                    process.terminate()

    def _serve(self, execute: Execute, jobs: Sequence[Job], waiting: Any, ended: Any, pools: list[Any]) -> None:
        pool = self._pool(pools)
        while (place := waiting.get()) is not None:
            try:
                ended.put((place, pool.submit(run_job, execute, jobs[place], self.threads).result()))
            except BrokenProcessPool:
                ended.put((place, Outcome(-1, "the process that computed it died, perhaps for lack of memory")))
                pool = self._pool(pools)
            except BaseException as error:  # a thread that dies would leave its caller waiting for ever
                ended.put((place, Outcome(-1, f"{type(error).__name__}: {error}")))

    def _pool(self, pools: list[ProcessPoolExecutor]) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_start_worker, initargs=(self.threads, os.getpid())
        )
        pools.append(pool)
        return pool


def _start_worker(threads: int, parent: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # nobody waits for the result any more

    threading.Thread(target=watch, daemon=True).start()


class Slurm:
    """Jobs of a SLURM cluster, through submitit (`pip install "kinema[slurm]"`).

    Args:
        logs: Folder for submitit's own files, seen by all machines.
        cluster: "slurm"; "local" for processes of this machine, to try things out.
        threads: Processors of each job.
        parameters: Of `submitit.AutoExecutor.update_parameters`, such as timeout_min or slurm_partition.
    """

    def __init__(self, logs: Path, *, cluster: str = "slurm", threads: int = 1, **parameters: Any) -> None:
        try:
            import submitit  # pyrefly: ignore[missing-import]
        except ImportError as error:
            raise LauncherError(
                'submitit is not installed; pip install "kinema[slurm]", or in a clone pip install -e ".[slurm]"'
            ) from error
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise LauncherError("there is no sbatch here; start the sweep where SLURM is, or with --launcher local")
        self.threads = threads
        self.executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        self.executor.update_parameters(**{"cpus_per_task": threads, "timeout_min": 24 * 60, **parameters})

    def outcomes(self, execute: Execute, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        given = [execute] * len(jobs)
        running = dict(enumerate(self.executor.map_array(run_job, given, jobs, [self.threads] * len(jobs))))
        try:
            while running:
                for place in [place for place, job in running.items() if job.done()]:
                    yield place, self._outcome(running.pop(place))
                time.sleep(0.5)
        finally:
            for job in running.values():
                job.cancel(check=False)

    @staticmethod
    def _outcome(job: Any) -> Outcome:
        error = job.exception()
        return job.result() if error is None else Outcome(-1, " ".join(str(error).split())[-300:])


class RayCluster:
    """Tasks of a Ray cluster (`pip install "kinema[ray]"`).

    Args:
        address: Of the cluster, such as "10.0.0.1:6379"; that of the environment variable RAY_ADDRESS when None.
        threads: Processors of each task.
    """

    def __init__(self, address: str | None = None, *, threads: int = 1) -> None:
        try:
            import ray  # pyrefly: ignore[missing-import]
        except ImportError as error:
            raise LauncherError(
                'Ray is not installed; pip install "kinema[ray]", or in a clone pip install -e ".[ray]"'
            ) from error
        address = address or os.environ.get("RAY_ADDRESS")
        if not address:
            raise LauncherError("no Ray cluster is named; give --address HOST:PORT, or set RAY_ADDRESS")
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
            ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise LauncherError(
                f"no Ray cluster answers at {address}; give HOST:PORT of one, or start it with 'ray start --head'"
            ) from error
        self.threads = threads

    def outcomes(self, execute: Execute, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        import ray  # pyrefly: ignore[missing-import]

        # Retried on another machine when one is lost; the run folder goes with it only if it is shared.
        task: Any = ray.remote(run_job).options(num_cpus=self.threads, max_retries=2)
        running = {task.remote(execute, job, self.threads): place for place, job in enumerate(jobs)}
        try:
            while running:
                (ready, *_), _ = ray.wait(list(running), num_returns=1)
                place = running.pop(ready)
                try:
                    yield place, ray.get(ready)
                except ray.exceptions.RayError as error:
                    yield place, Outcome(-1, " ".join(str(error).split())[-300:])
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
