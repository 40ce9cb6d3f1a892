"""Where and with what a result was made: a plain dictionary for MLflow, results.json and reports."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("nullspace-vit", "torch", "torchvision", "timm", "numpy", "scipy", "safetensors", "ray", "mlflow", "optuna")


def environment(device: str | None = None) -> dict[str, Any]:
    """Git commit, versions, host, device and Python of this process.

    Args:
        device: the device the work runs on (`cpu`, `cuda:0`, `mps`); None leaves its description out and torch alone.

    Returns JSON-ready nested dictionary; what is not known is None.
    """
    return {
        "git": git_state(Path(__file__).resolve()),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "versions": {name: installed_version(name) for name in PACKAGES},
        "host": _host(),
        "device": None if device is None else _device(device),
    }


def git_state(file: Path) -> dict[str, Any]:
    """Commit of the repository that holds `file`, and whether it has uncommitted changes.

    Installed without its repository, the commit comes from NULLSPACE_GIT_COMMIT (an image recipe sets it), or is None.
    A file that is not tracked belongs to no commit, even when it lies inside another repository (as in a venv).
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return {"commit": os.environ.get("NULLSPACE_GIT_COMMIT"), "dirty": None}
    status = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return {"commit": _git(file.parent, "rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def version_lines() -> Iterator[str]:
    """Versions and commit of this program, and of what its results depend on; nothing heavy is imported."""
    git = git_state(Path(__file__).resolve())
    commit = (git["commit"] or "unknown") + (", with uncommitted changes" if git["dirty"] else "")
    found = {"nullspace": installed_version("nullspace-vit"), "commit": commit, "python": platform.python_version()}
    found |= {name: installed_version(name) for name in ("torch", "timm", "ray", "mlflow")}
    for name, installed in found.items():
        yield f"{name:10} {installed or 'not installed'}"


def run_tags(facts: dict[str, Any]) -> dict[str, str]:
    """The tags MLflow's pages show in their own columns (source, commit, user)."""
    tags = {"mlflow.source.name": "nullspace", "mlflow.source.type": "LOCAL", "mlflow.user": facts["host"]["user"]}
    if facts["git"]["commit"]:
        tags["mlflow.source.git.commit"] = facts["git"]["commit"]
    return tags


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git here, or a repository on a disk that does not answer
    return done.stdout.strip() if done.returncode == 0 else None


def _host() -> dict[str, Any]:
    return {
        "name": socket.gethostname(),
        "user": user(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
    }


def user() -> str:
    """Name of the account this process runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"  # a container may run under a number that no account has


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None  # Windows


def _device(name: str) -> dict[str, Any]:
    import torch  # costs seconds; a caller with a device has imported it already

    facts: dict[str, Any] = {"name": name, "kind": torch.device(name).type, "description": platform.processor() or None}
    if facts["kind"] == "cuda":
        properties = torch.cuda.get_device_properties(name)
        facts.update(
            description=properties.name,
            memory_gib=round(properties.total_memory / 2**30, 1),
            count=torch.cuda.device_count(),
            cuda=torch.version.cuda,
        )
    return facts
