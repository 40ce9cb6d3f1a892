"""Shared by the benchmarks: where they ran, how their rows are printed and written, and the real images."""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nullspace.metrics.outcomes import wilson_interval
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
    print(f"\n### {name}\n\n{_where()}\n\n{_table(rows)}", flush=True)


def write(out: Path, title: str, rows: Sequence[Mapping[str, Any]], *, facts: Mapping[str, Any] | None = None) -> None:
    """Write rows, what they have in common and the environment to `out`.md, which people read, and `out`.json."""
    script, facts = Path(sys.argv[0]).name, facts or {}
    parts = [f"# {title}", f"Made by `{script}`, which says what rows and columns are.", _where()]
    parts += ["\n".join(f"- {key}: {_shown(value)}" for key, value in facts.items())] if facts else []
    out.with_suffix(".md").write_text("\n\n".join([*parts, _table(rows)]) + "\n", encoding="utf-8")
    said = {"environment": environment(), **facts, "rows": [dict(row) for row in rows]}
    out.with_suffix(".json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def share(hits: Tensor) -> str:
    """The share of `hits` (n,) in per cent, with Wilson's 95 % interval."""
    count, n = int(hits.sum()), len(hits)
    low, high = wilson_interval(count, n)
    return f"{100 * count / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def assets_parser(description: str | None, *, out: str) -> argparse.ArgumentParser:
    """Options of a benchmark on real images: --assets, --device, and --out, by default `out`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", default=os.environ.get("NULLSPACE_ASSETS"), help="folder of weights and images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(out), help="name of the files without ending")
    return parser


def with_assets(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments of the command line; without assets the program says so and ends."""
    arguments = parser.parse_args()
    arguments.assets = _existing(arguments.assets)
    if arguments.assets is None:
        raise SystemExit(0)
    return arguments


def assets_folder(description: str | None) -> Path | None:
    """Folder of real weights and images: --assets or NULLSPACE_ASSETS; None, and a line that says so, without."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--assets", default=os.environ.get("NULLSPACE_ASSETS"), help="folder of weights and images")
    return _existing(parser.parse_args().assets)


def _existing(given: str | Path | None) -> Path | None:
    if given and Path(given).is_dir():
        return Path(given)
    print(f"skipped: no real weights and images at {given!r}; give --assets FOLDER or set NULLSPACE_ASSETS")
    return None


def deit_tiny(assets: Path) -> SplitViT:
    """deit_tiny with the weights of the assets, on the CPU."""
    return SplitViT.load(DEIT, weights=assets / DEIT / "model.safetensors")


def asset_images(assets: Path, model: SplitViT, count: int, *, start: int = 0, seed: int = 0) -> Tensor:
    """Images (count,3,H,W) in [0,1] from a seeded order of the folder: different `start`, different images."""
    transform = model.preprocessing.transform()
    chosen = _asset_files(assets, count, start, seed)
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in chosen]) / 255


def asset_labels(assets: Path, count: int, *, start: int = 0, seed: int = 0) -> Tensor:
    """Classes (count,) of the same images."""
    with (assets / "imagenet_val_600" / "labels.csv").open(encoding="utf-8") as table:
        labels = {row["file"]: int(row["label"]) for row in csv.DictReader(table)}
    return torch.tensor([labels[path.name] for path in _asset_files(assets, count, start, seed)])


def _asset_files(assets: Path, count: int, start: int, seed: int) -> list[Path]:
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    return [files[index] for index in order[start : start + count]]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _where() -> str:
    return "_" + ", ".join(f"{key} {value}" for key, value in environment().items()) + "_"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_shown(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
