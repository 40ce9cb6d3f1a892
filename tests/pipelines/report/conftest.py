"""One results.json and the stage folders it tells of, for all tests that look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.report.model import Model
from pipelines.workflow.order import models_of
from tests.pipelines.report import results as written
from tests.pipelines.report.results import BAD_PATH, BLIND, SEEING


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """A whole results.json."""
    return written.all_results()


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ingest folder with 61 unreadable images, in two files."""
    folder = tmp_path_factory.mktemp("ingest")
    for part, count in ((0, 40), (1, 21)):
        rows = [{"id": f"{part}-{i}", "path": BAD_PATH, "reason": "truncated file"} for i in range(count)]
        pd.DataFrame(rows).to_parquet(folder / f"errors-{part}.parquet")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Stage folders as the pipeline leaves them; evaluations that the model without kernel skips have none."""
    found: dict[str, dict[str, Path]] = {}
    for label, rank in ((BLIND, 96), (SEEING, 768)):
        base = tmp_path_factory.mktemp("stages")
        found[label] = {
            name: base / name
            for name in (
                "kernel",
                "search",
                "kernel_noise",
                "visible_watermark",
                "payload",
                "fooling",
                "attribution",
                "adversarial",
                "corruption",
            )
        }
        written.write_kernel(found[label]["kernel"], rank)
        written.write_search(found[label]["search"])
    blind = found[BLIND]
    written.write_pictures(blind["visible_watermark"], ("original", "plain", "marked", "difference"))
    written.write_pictures(blind["kernel_noise"], ("original", "exact", "in_box_difference"))
    written.write_pictures(blind["payload"], ("original", "hidden"))
    written.write_pictures(blind["fooling"], ("image", "look", "logits_eps8", "logits_eps8_difference"))
    maps = ("image", "image_map_pixels", "steered_map_pixels", "steered", "steered_difference")
    written.write_pictures(blind["attribution"], maps)
    written.write_pictures(blind["adversarial"], ("image", "linf_eps4", "linf_eps4_difference"))
    written.write_pictures(blind["corruption"], ("original", "gaussian_noise", "jpeg_compression"))
    (blind["fooling"] / "examples" / "00.json").write_text('{"logits_eps8": "taken for <b>a tench</b>"}')
    return found


@pytest.fixture(scope="module")
def models(results: dict[str, Any], folders: dict[str, dict[str, Path]]) -> list[Model]:
    """The same, as the page reads it."""
    return models_of(results, folders)
