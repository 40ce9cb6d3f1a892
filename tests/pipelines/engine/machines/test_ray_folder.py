"""Where a Ray of this machine keeps its sockets: where it always does, unless their names would be too long there."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from pipelines.engine.machines.compute import Compute
from pipelines.engine.machines.ray_folder import LIMIT, ROOM, choose_folder
from pipelines.engine.settings import ResourceSettings
from pipelines.errors import ClusterError

LONG = "/scratch/" + "x" * 111  # 120 characters


@pytest.mark.parametrize(
    "variables", [{}, {"TMPDIR": "/tmp"}, {"TMPDIR": "/" + "x" * (ROOM - 5)}, {"RAY_TMPDIR": "/tmp", "TMPDIR": LONG}]
)
def test_rays_own_choice_stays_where_it_is_short(variables: dict[str, str]) -> None:
    assert choose_folder(variables) is None


@pytest.mark.parametrize("own", [LONG, "/" + "x" * (ROOM - 4), "/" + "ü" * (ROOM // 2)])
def test_a_folder_of_its_own_where_a_socket_fits(own: str) -> None:
    folder = choose_folder({"TMPDIR": own})
    assert folder is not None
    try:
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700, "nobody else may put sockets there"
        longest = folder / "session_2026-11-25_21-44-26_123456_4194304" / "sockets" / "plasma_store.1"
        longest.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as plasma:
            plasma.bind(str(longest))  # the kernel agrees
    finally:
        shutil.rmtree(folder.parent)


def test_the_limit_is_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as fits, socket.socket(socket.AF_UNIX) as too_long:
        fits.bind("x" * LIMIT)
        with pytest.raises(OSError, match="too long"):
            too_long.bind("y" * (LIMIT + 1))


def test_without_a_short_folder_the_error_names_the_remedy(tmp_path: Path) -> None:
    nowhere = (str(tmp_path / "missing"), LONG)
    with pytest.raises(
        ClusterError, match=r"^TMPDIR is /scratch/x+, of 120 bytes: .* set RAY_TMPDIR to a folder of at"
    ):
        choose_folder({"TMPDIR": LONG}, nowhere)
    with pytest.raises(ClusterError, match="^RAY_TMPDIR is /scratch/x+, of 120 bytes"):
        choose_folder({"RAY_TMPDIR": LONG})


@pytest.mark.parametrize(("address", "own"), [(None, True), ("local", True), ("head:6379", False)])
def test_a_ray_started_here_gets_the_folder_and_a_cluster_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, address: str | None, own: bool
) -> None:
    import ray

    asked: dict[str, Any] = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", LONG)
    monkeypatch.setattr(ray, "init", lambda **given: asked.update(given))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}])
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with Compute(ResourceSettings(), address=address, device="cpu") as compute:
        compute.workers()
        folder = asked.get("_temp_dir")
        assert (folder is not None and os.path.isdir(os.path.dirname(folder))) if own else folder is None
    assert folder is None or not os.path.exists(os.path.dirname(folder)), "it goes with the Ray it was made for"
