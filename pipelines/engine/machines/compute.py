"""Ray: one local instance by default, a cluster when an address is given. Started when the first stage needs it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nullspace.model.device import choose_device
from pipelines.engine.machines.lanes import WHOLE, Share
from pipelines.engine.machines.ray_folder import choose_folder
from pipelines.engine.machines.ray_start import patient_start
from pipelines.engine.settings import ResourceSettings
from pipelines.engine.workers.shard_workers import Workers
from pipelines.errors import ClusterError

_ANNOUNCED = b"Set ray log level"
_GRACE_SECONDS = 20  # seconds that a starting Ray has until it can be stopped
_LOCAL_OBJECT_STORE = 512 * 1024**2  # shard names and counts pass through it, never images


class Compute:
    """The machines a run works on. Use as a context manager: what it started, it stops."""

    def __init__(self, resources: ResourceSettings, *, address: str | None, device: str) -> None:
        self.resources, self.wanted = resources, device
        self.address = address or os.environ.get("RAY_ADDRESS")
        if not self.address:
            choose_device(device)  # a device that is not there is refused before any work
        self._started = False
        self._starter: _Starter | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Compute:
        return self

    def __exit__(self, *_: object) -> None:
        if self._starter is not None:
            self._starter.ready.wait(_GRACE_SECONDS)
        if self._started:
            import ray

            ray.shutdown()
        if self._starter is not None:
            self._starter.over.set()
        if self._folder is not None:
            shutil.rmtree(self._folder.parent, ignore_errors=True)

    @property
    def here(self) -> bool:
        """Whether the run itself works on the images: only on its own machine, a cluster's head may have no GPU."""
        return self.resources.workers == 0 and not self.address

    @property
    def device(self) -> str:
        """Device of the workers: what was asked for, else a GPU when Ray has one to give, else MPS or the CPU."""
        if self.wanted != "auto":
            return self.wanted
        if self._has_gpus():
            return "cuda"
        local = choose_device("auto").type
        return local if not self.address and local == "mps" else "cpu"

    def lanes(self, models: int) -> int:
        """How many of so many models can be worked on side by side, each with as many workers as are configured."""
        if self.here:
            return 1
        fits = self.room() // (self.resources.workers or 1)
        return max(1, min(models, fits, self.resources.models_at_once or models))

    def workers(self, share: Share = WHOLE) -> Workers:
        """Actors for one stage of one model: as configured, else what its share of the cluster holds."""
        if self.here:
            return Workers(1, self.resources.cpus_per_worker, self._gpus(), here=True)
        fits = max(1, share.part(self.room()))
        wanted = fits if self.resources.workers is None else max(1, self.resources.workers)
        return Workers(min(wanted, fits), self.resources.cpus_per_worker, self._gpus())

    def check(self, trials: int | None) -> None:
        """Refuse, before any work, what the cluster cannot hold: one worker, or so many trials at once."""
        room = self.room()
        if trials and trials > room:
            raise ClusterError(
                f"search.max_concurrent = {trials}, but the cluster holds {room} at once: a trial keeps its "
                f"{self.resources.cpus_per_worker:g} CPU and {self._gpus():g} GPU to its end, and the others would "
                "only wait; lower it, leave it out (then as many as fit), or lower resources.cpus_per_worker or "
                "gpus_per_worker"
            )

    def room(self) -> int:
        """How many workers the cluster holds. Raises ClusterError when it holds none."""
        nodes, gpus = self._nodes(), self._gpus()
        fits = sum(_workers_on(node, self.resources.cpus_per_worker, gpus) for node in nodes)
        if fits < 1:
            largest = ", ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes)
            raise ClusterError(
                f"a worker needs {self.resources.cpus_per_worker:g} CPU and {gpus:g} GPU of one node, the cluster has "
                f"{largest or 'no node'}; lower resources.cpus_per_worker or gpus_per_worker, or choose another "
                "--device"
            )
        return fits

    def _gpus(self) -> float:
        """Of each worker."""
        return self.resources.gpus_per_worker if self.device.startswith("cuda") else 0.0

    def _has_gpus(self) -> bool:
        # Asking Ray means starting it; a single machine can be asked directly.
        if self.address:
            return any(node.get("GPU") for node in self._nodes())
        return torch.cuda.is_available()

    def _nodes(self) -> list[dict[str, float]]:
        """The total resources of each living node."""
        if self.here:  # known without Ray, which then may start later
            return [{"CPU": float(_cpus()), "GPU": float(torch.cuda.device_count())}]
        self.start()
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def start_soon(self) -> None:
        """Start Ray in a thread, beside what needs none of it yet; `start` waits for it."""
        if self._starter is None and not self._started:
            self._starter = _Starter(self._start)
            self._starter.start()

    def start(self) -> None:
        """Start Ray unless it runs. Raises ClusterError where that fails."""
        if self.here:
            self.start_soon()
        if self._starter is None:
            self._start()
            return
        while not self._starter.ready.wait(0.1):  # short waits, which Ctrl-C ends also in a thread
            pass
        if self._starter.failure is not None:
            raise self._starter.failure

    def _start(self) -> None:
        import ray

        if ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            with _native_stderr_away(), _sigterm_kept(), patient_start():
                self._init(quiet)
        except ClusterError:
            raise
        except Exception as error:
            raise ClusterError(self._unreachable(error)) from error
        self._started = True
        _silence_ray_data()

    def _unreachable(self, error: Exception) -> str:
        if self.address and self.address != "local":
            return (
                f"cannot reach Ray at {self.address}: {error}; start it with cluster/start-node.sh, or leave --address "
                "out to work on this machine"
            )
        return (
            f"cannot start Ray on this machine: {str(error).rstrip('.')}; see whether it is busy or short of memory or "
            "disk, then repeat the command: finished stages are kept"
        )

    def _init(self, quiet: dict[str, Any]) -> None:
        import ray

        if self.address and self.address != "local":
            ray.init(address=self.address, **quiet)
            return
        quiet["include_dashboard"] = False
        self._folder = self._folder or choose_folder(os.environ)
        if self._folder is not None:
            quiet["_temp_dir"] = str(self._folder)
        ray.init(address="local", num_cpus=_cpus(), object_store_memory=_LOCAL_OBJECT_STORE, **quiet)


class _Starter(threading.Thread):
    """Starts Ray, and lives as long as Ray must: on Linux its processes end with the thread that started them."""

    def __init__(self, begin: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.begin, self.failure = begin, None
        self.ready, self.over = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            self.begin()
        except BaseException as error:  # noqa: BLE001  raised where Ray is needed
            self.failure = error
        finally:
            self.ready.set()
        self.over.wait()


def _cpus() -> int:
    """Cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _workers_on(node: dict[str, float], cpus: float, gpus: float) -> int:
    """How many workers a node holds; a worker cannot be spread over two nodes."""
    shares = [node.get("CPU", 0) / cpus, *([node.get("GPU", 0) / gpus] if gpus else [])]
    return int(min(shares) + 1e-9)  # 1 / 0.1 is a little less than 10


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray replaces two of our signal handlers by its own; with those a run would end without telling MLflow."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _native_stderr_away() -> Iterator[None]:
    """Ray's C++ part announces its log level on file descriptor 2 while it starts; failures come as exceptions.

    What other threads of this process write meanwhile comes afterwards.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            aside.seek(0)
            for line in aside:
                if _ANNOUNCED not in line:
                    os.write(2, line)


def _silence_ray_data() -> None:
    """The pipeline has progress of its own; Ray Data's bars and notes would interleave with it."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.tune"):
        # Errors that end a stage or a trial are raised or recorded, and printed by us in one line.
        logging.getLogger(name).setLevel(logging.CRITICAL)
