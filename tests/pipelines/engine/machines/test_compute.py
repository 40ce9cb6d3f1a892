"""How many workers a stage gets, on machines made up by the test; Ray is not started."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
import torch

from nullspace.errors import DeviceError
from pipelines.engine.machines import compute as module
from pipelines.engine.machines.compute import Compute
from pipelines.engine.machines.lanes import Share
from pipelines.engine.settings import ResourceSettings
from pipelines.engine.workers.shard_workers import Workers
from pipelines.errors import ClusterError


def compute(
    monkeypatch: pytest.MonkeyPatch,
    have: dict[str, float],
    *,
    device: str = "cpu",
    address: str | None = "head:6379",
    **given: Any,
) -> Compute:
    monkeypatch.setattr(Compute, "_nodes", lambda self: [have])
    return Compute(ResourceSettings(**given), address=address, device=device)


@pytest.mark.parametrize(
    ("have", "given", "device", "expected"),
    [
        ({"CPU": 4}, {}, "cpu", Workers(4, 1, 0)),
        ({"CPU": 4, "GPU": 2}, {}, "cpu", Workers(4, 1, 0)),
        ({"CPU": 4, "GPU": 2}, {}, "cuda", Workers(2, 1, 1)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_worker": 0.25}, "cuda", Workers(8, 1, 0.25)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_worker": 0}, "cuda", Workers(16, 1, 0)),
        ({"CPU": 5}, {"cpus_per_worker": 2}, "cpu", Workers(2, 2, 0)),
        ({"CPU": 2}, {"cpus_per_worker": 0.5}, "cpu", Workers(4, 0.5, 0)),
        ({"CPU": 8}, {"workers": 3}, "cpu", Workers(3, 1, 0)),
        ({"CPU": 2}, {"workers": 9}, "cpu", Workers(2, 1, 0)),
    ],
)
def test_a_stage_gets_what_was_asked_for_as_far_as_it_is_there(
    monkeypatch: pytest.MonkeyPatch, have: dict[str, float], given: dict[str, Any], device: str, expected: Workers
) -> None:
    assert compute(monkeypatch, have, device=device, **given).workers() == expected


@pytest.mark.parametrize(
    ("have", "given", "device", "message"),
    [
        (
            {"CPU": 2},
            {"cpus_per_worker": 4},
            "cpu",
            "needs 4 CPU and 0 GPU of one node, the cluster has 2 CPU and 0 GPU; lower res",
        ),
        (
            {"CPU": 2},
            {},
            "cuda",
            "needs 1 CPU and 1 GPU of one node, the cluster has 2 CPU and 0 GPU.*choose another --device",
        ),
        (
            {"CPU": 8, "GPU": 1},
            {"gpus_per_worker": 2},
            "cuda:0",
            "needs 1 CPU and 2 GPU of one node, the cluster has 8 CPU and 1",
        ),
        ({}, {}, "cpu", "the cluster has 0 CPU and 0 GPU"),
    ],
)
def test_a_cluster_that_holds_no_worker_is_refused_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch, have: dict[str, float], given: dict[str, Any], device: str, message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        compute(monkeypatch, have, device=device, **given).workers()


def test_the_device_follows_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compute(monkeypatch, {"CPU": 4, "GPU": 1}, device="auto").device == "cuda", "the driver itself needs none"
    assert compute(monkeypatch, {"CPU": 4, "GPU": 1}, device="cpu").device == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert compute(monkeypatch, {"CPU": 4}, device="auto").device == "cpu", "the driver's MPS is not the nodes'"
    assert compute(monkeypatch, {"CPU": 4}, device="auto", address=None).device == "mps"


def test_one_machine_refuses_an_impossible_device_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(DeviceError, match="expected a device of this machine .* got 'cuda:99'"):
        compute(monkeypatch, {"CPU": 4}, device="cuda:99", address=None)
    assert compute(monkeypatch, {"CPU": 4}, device="cuda:99").wanted == "cuda:99", "on a cluster the workers decide"


def test_the_address_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    assert compute(monkeypatch, {}, address=None).address == "other:6379"
    assert compute(monkeypatch, {}).address == "head:6379"


def test_a_head_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**given: Any) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(module, "_silence_ray_data", lambda: pytest.fail("nothing was started"))
    with Compute(ResourceSettings(), address="head:6379", device="cpu") as unreachable:
        message = "cannot reach Ray at head:6379: no answer; start it with cluster/start-node.sh"
        with pytest.raises(ClusterError, match=message):
            unreachable.workers()


def test_an_error_names_the_remedy_where_ray_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def too_slow(**given: Any) -> None:
        raise Exception("The current node timed out during startup")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", too_slow)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with Compute(ResourceSettings(), address=None, device="cpu") as busy:
        message = "cannot start Ray on this machine: The current node timed out during startup; see whether it is busy"
        with pytest.raises(ClusterError, match=message):
            busy.workers()


def test_the_answer_to_sigterm_outlives_the_start_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def ours(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "init", lambda **given: signal.signal(signal.SIGTERM, lambda *_: None))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}])
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    before = signal.signal(signal.SIGTERM, ours)
    try:
        with Compute(ResourceSettings(), address="head:6379", device="cpu") as started:
            started.workers()
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_worker_is_not_spread_over_two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = compute(monkeypatch, {}, cpus_per_worker=2)
    monkeypatch.setattr(Compute, "_nodes", lambda self: [{}, {"CPU": 3.0}, {"CPU": 3.0}])
    assert machines.workers().count == 2
    monkeypatch.setattr(Compute, "_nodes", lambda self: [{"CPU": 1.0}, {"CPU": 1.0}])
    with pytest.raises(ClusterError, match="has 1 CPU and 0 GPU, 1 CPU and 0 GPU"):
        machines.workers()


@pytest.mark.parametrize(
    ("have", "given", "models", "lanes"),
    [
        ({"CPU": 2}, {}, 1, 1),
        ({"CPU": 2}, {}, 5, 2),
        ({"CPU": 8}, {}, 3, 3),
        ({"CPU": 8}, {"workers": 3}, 5, 2),
        ({"CPU": 8}, {"workers": 9}, 5, 1),
        ({"CPU": 8}, {"models_at_once": 1}, 5, 1),
        ({"CPU": 8}, {"models_at_once": 4}, 5, 4),
    ],
)
def test_models_are_worked_on_side_by_side_as_far_as_the_cluster_goes(
    monkeypatch: pytest.MonkeyPatch, have: dict[str, float], given: dict[str, Any], models: int, lanes: int
) -> None:
    assert compute(monkeypatch, have, **given).lanes(models) == lanes


def test_a_share_holds_at_least_one_worker_and_at_most_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compute(monkeypatch, {"CPU": 5}).workers(Share(0, 2)).count == 3
    assert compute(monkeypatch, {"CPU": 5}).workers(Share(1, 2)).count == 2
    assert compute(monkeypatch, {"CPU": 1}).workers(Share(1, 2)).count == 1
    assert compute(monkeypatch, {"CPU": 5}, workers=2).workers(Share(0, 2)).count == 2


def test_more_trials_at_once_than_the_cluster_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small = compute(monkeypatch, {"CPU": 2})
    small.check(2)
    small.check(None)
    with pytest.raises(ClusterError, match=r"max_concurrent = 3, but the cluster holds 2 at once"):
        small.check(3)


def test_without_workers_the_run_does_the_work_itself_but_not_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "_cpus", lambda: 4)
    monkeypatch.setattr(Compute, "_start", lambda self: pytest.fail("nothing needs Ray yet"))
    with Compute(ResourceSettings(workers=0, cpus_per_worker=2), address=None, device="cpu") as alone:
        assert alone.workers() == Workers(1, 2, 0, here=True)
        assert alone.lanes(5) == 1 and alone.room() == 2
    assert compute(monkeypatch, {"CPU": 8}, workers=0).workers() == Workers(1, 1, 0)


def test_ray_started_aside_lives_as_long_as_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux ends the processes of a thread that ends."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    began: list[threading.Thread] = []
    monkeypatch.setattr(Compute, "_start", lambda self: began.append(threading.current_thread()))
    with Compute(ResourceSettings(workers=0), address=None, device="cpu") as alone:
        alone.start_soon()
        alone.start()
        alone.start()
        assert len(began) == 1 and began[0] is not threading.main_thread() and began[0].is_alive()
    began[0].join(10)
    assert not began[0].is_alive()


def test_an_error_of_the_early_start_is_raised_where_ray_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Compute) -> None:
        raise ClusterError("cannot start Ray on this machine")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(Compute, "_start", fail)
    with Compute(ResourceSettings(workers=0), address=None, device="cpu") as alone:
        alone.start_soon()
        with pytest.raises(ClusterError, match="cannot start Ray"):
            alone.start()


def test_log_lines_during_the_start_of_ray_come_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    with module._native_stderr_away():
        os.write(2, b"[I] logging.cc:303: Set ray log level from environment variable\n")
        os.write(2, b"running  ingest\n")
        assert not capfd.readouterr().err
    assert capfd.readouterr().err == "running  ingest\n"
