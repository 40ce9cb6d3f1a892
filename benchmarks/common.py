"""Shared by the benchmarks: where they ran, how their rows are printed, and the real images."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nullspace.model.vit import SplitViT
from nullspace.noise.artifact import library_versions

DEIT = "deit_tiny_patch16_224"


def environment() -> dict[str, Any]:
    """What a timing depends on: machine, threads, versions."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **library_versions(),
    }


def report(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a Markdown table under `name` and the environment."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    print(f"\n### {name}\n")
    print("_" + ", ".join(f"{key} {value}" for key, value in environment().items()) + "_\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(_shown(row.get(column, "")) for column in columns) + " |", flush=True)


def assets_folder(description: str | None) -> Path | None:
    """Folder of real weights and images: --assets or NULLSPACE_ASSETS; None, and a line that says so, without."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--assets", default=os.environ.get("NULLSPACE_ASSETS"), help="folder of weights and images")
    given = parser.parse_args().assets
    if given and Path(given).is_dir():
        return Path(given)
    print(f"skipped: no real weights and images at {given!r}; give --assets FOLDER or set NULLSPACE_ASSETS")
    return None


def deit_tiny(assets: Path) -> SplitViT:
    """deit_tiny with the weights of the assets, on the CPU."""
    return SplitViT.load(DEIT, weights=assets / DEIT / "model.safetensors")


def asset_images(assets: Path, model: SplitViT, count: int, *, start: int = 0, seed: int = 0) -> Tensor:
    """Images (count,3,H,W) in [0,1] from a seeded order of the folder: different `start`, different images."""
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    transform = model.preprocessing.transform()
    chosen = [files[index] for index in order[start : start + count]]
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in chosen]) / 255


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
