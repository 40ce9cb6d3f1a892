"""Starting Ray on a busy machine, where its own limits of 15 to 60 seconds pass although nothing is wrong.

And its workers, by its default, give way to every other program: beside four busy ones they would all but stand still.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

SECONDS = 600  # seconds that a busy machine is given; a process of Ray that dies ends the waiting at once
# Read by Ray's own programs as they start: how long they wait for one another. A worker that registers after its time
# is killed and restarted, again too slow.
LIMITS = {
    "RAY_gcs_server_port_wait_time_s": SECONDS,
    "RAY_worker_register_timeout_seconds": SECONDS,
    "RAY_agent_register_timeout_ms": 1000 * SECONDS,
    "RAY_health_check_timeout_ms": 60_000,  # seconds for an answer; the connection to a dead node breaks at once
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": SECONDS,
    "RAY_worker_niceness": 0,  # 15 by default: a fiftieth of what another program gets
}
# A node waits 15 seconds for its agents to say which ports they took, and dies; ports it is given need no waiting.
_AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
_PORTS = range(20_000, 32_000)  # Ray's workers take those before, Linux hands out those after


@contextmanager
def patient_start() -> Iterator[None]:
    """Within the block Ray may take as long as it needs to start; variables that are set already are kept."""
    from ray._private import ray_constants
    from ray._private.node import Node

    before = {name: os.environ.get(name) for name in LIMITS}
    dashboard, start = ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S, Node.start_ray_processes

    def start_and_wait(self: Any) -> None:
        _choose_ports(self)
        start(self)
        _wait_for(self)

    os.environ.update({name: str(value) for name, value in LIMITS.items() if before[name] is None})
    # Ray reads this one when it is imported, and has no setting at all for the 30 seconds a new node gets to report.
    ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S = int(os.environ["RAY_DASHBOARD_STARTUP_TIMEOUT_S"])
    Node.start_ray_processes = start_and_wait
    try:
        yield
    finally:
        ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S, Node.start_ray_processes = dashboard, start
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _choose_ports(node: Any) -> None:
    from ray import _raylet

    parameters = node._ray_params
    for name, port in zip(_AGENT_PORTS, free_ports(len(_AGENT_PORTS)), strict=True):
        if not getattr(parameters, name):
            setattr(parameters, name, port)
    # Ray hands this one to the agent alone: the node would look for the file in which the agent will repeat it.
    raylet: Any = _raylet  # compiled, without types
    listen = raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME
    raylet.persist_port(node._session_dir, node._node_id, listen, parameters.dashboard_agent_listen_port)


def free_ports(count: int) -> list[int]:
    """So many free ports of this machine, drawn at random below those that the kernel itself hands out.

    One of the kernel's could go to any connection before its server, which takes seconds to start, listens there.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def _wait_for(node: Any) -> None:
    """Wait until the node has reported to the head, a process of it has died, or the time is up (then Ray raises)."""
    from ray._private import services

    until = time.monotonic() + SECONDS
    while not node.dead_processes() and time.monotonic() < until:
        try:
            services.get_node(node.gcs_address, node._node_id)
            return
        except RuntimeError:
            time.sleep(0.1)
