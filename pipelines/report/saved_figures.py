"""Every figure of a report and its example pictures as PNG files, for MLflow."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.report.drawing import LIGHT, image_grid
from pipelines.report.model import Model


def save_figures(models: list[Model], folder: Path) -> list[Path]:
    """Write `<model>-<figure>.png` and `<model>-<stage>-examples.png`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for position, model in enumerate(models, 1):
        prefix = file_stem(model.label, position)
        for stage in model.stages:
            for figure in stage.figures:
                written.append(_write(folder / f"{prefix}-{figure.name}.png", figure.draw(LIGHT)))
            pictures = stage.view.examples()
            if pictures.rows:
                grid = image_grid(pictures.rows, pictures.columns)
                written.append(_write(folder / f"{prefix}-{stage.report.name}-examples.png", grid))
    return written


def file_stem(label: str, position: int) -> str:
    """A model's label as part of a file name; its position keeps labels apart that differ in odd characters only."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", label).strip("._")
    return clean if clean == label else f"{clean or 'model'}-{position}"


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
