"""Ray's own limits give way while it is started, and only then; Ray is not started."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private import ray_constants, services
from ray._private.node import Node

from pipelines.engine.machines import ray_start
from pipelines.engine.machines.ray_start import LIMITS, free_ports, patient_start


def node(*, answers_at: int = 0, dies_at: int = 10**9) -> Any:
    """A node that reports at the n-th question, or has a dead process by then."""
    asked: list[int] = []

    def get_node(*_: object) -> None:
        asked.append(1)
        if len(asked) < answers_at:
            raise RuntimeError("not yet")

    dead = lambda: ["raylet"] if len(asked) >= dies_at else []  # noqa: E731
    return SimpleNamespace(gcs_address="", _node_id="", asked=asked, get_node=get_node, dead_processes=dead)


@pytest.mark.parametrize(("made", "asked"), [(node(answers_at=4), 4), (node(answers_at=10**9, dies_at=2), 2)])
def test_a_node_is_waited_for_until_it_reports_or_dies(made: Any, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "get_node", made.get_node)
    monkeypatch.setattr(ray_start.time, "sleep", lambda _: None)
    ray_start._wait_for(made)
    assert len(made.asked) == asked


def test_within_it_the_limits_are_wide_and_afterwards_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_health_check_timeout_ms", "7")
    before = dict(os.environ), ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S, Node.start_ray_processes
    with patient_start():
        assert dict(os.environ)["RAY_worker_register_timeout_seconds"] == "600"
        assert dict(os.environ)["RAY_health_check_timeout_ms"] == "7", "what the user says is kept"
        assert ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S == 600
        assert Node.start_ray_processes is not before[2]
    assert (dict(os.environ), ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S, Node.start_ray_processes) == before


def test_ports_are_free_and_none_is_given_twice() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20 and all(20_000 <= port < 32_000 for port in found)
