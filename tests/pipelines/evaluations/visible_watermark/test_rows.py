"""Visible marks on a few real digits: the rows, the pictures, and the figures made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.engine.stage import Done
from pipelines.evaluations.base import NO_KERNEL
from pipelines.evaluations.tallies import take_in
from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES
from pipelines.evaluations.visible_watermark.rows import CONDITIONS, EVALUATION, jpeg_condition
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings
from tests.pipelines import tiny
from tests.pipelines.evaluations.outcome_columns import CERTIFICATE, OUTCOMES


def marked(out: Path, made: dict[str, Done], **changed: Any) -> Done:
    settings = VisibleWatermarkSettings(**{"text": "NULL", "iterations": 30, "batch_images": 8, **changed})
    return tiny.evaluated(EVALUATION, out, settings, made)


def test_a_mark_is_seen_by_people_and_not_by_the_model(made: dict[str, Done], tmp_path: Path) -> None:
    done = marked(tmp_path, made, examples=3)
    found = tiny.rows(done.folder)
    quality = {"psnr", "ssim", "texture_contrast", "texture_contrast_half", "clean_texture_contrast"}
    assert set(found.columns) == {"id", "label", "condition"} | quality | CERTIFICATE | OUTCOMES
    by = {str(condition): group.sort_values("id") for condition, group in found.groupby("condition")}
    assert set(by) == {*CONDITIONS, *(f"jpeg_{quality}" for quality in JPEG_QUALITIES)}
    assert all(group["id"].tolist() == tiny.digits().ids[: tiny.COUNT] for group in by.values())
    assert by["marked"]["agree"].all()
    assert by["marked"]["squared_logit_change"].mean() < 0.05 * by["permuted"]["squared_logit_change"].mean()
    # The permutation keeps the norm of the change, so its PSNR is the same to rounding.
    assert by["permuted"]["psnr"].to_numpy() == pytest.approx(by["marked"]["psnr"].to_numpy(), abs=1e-2)
    assert by["marked"]["texture_contrast"].mean() > by["permuted"]["texture_contrast"].mean()
    assert by["plain"]["clean_texture_contrast"].tolist() == by["marked"]["clean_texture_contrast"].tolist()
    names = {
        f"{number:02d}_{kind}.png" for number in range(3) for kind in ("original", "plain", "marked", "difference")
    }
    assert {path.name for path in (tmp_path / "examples").iterdir()} == names
    figures = done.result["conditions"]
    assert figures["marked"]["n"] == 24 and figures["marked"]["unmarked"] == 0
    assert set(figures) == {*CONDITIONS, *map(jpeg_condition, JPEG_QUALITIES)}
    for name, own in found.groupby("condition"):
        assert figures[name]["psnr"] == pytest.approx(own["psnr"].mean())
        assert figures[name]["max_probability_change"] == own["probability_change"].max()


def test_an_image_the_mark_leaves_alone_has_no_psnr_mean(made: dict[str, Done], tmp_path: Path) -> None:
    done = marked(tmp_path, made, examples=0)
    assert not (tmp_path / "examples").exists()
    file = done.folder / "rows-000000.parquet"
    table = pq.read_table(file)
    at = table.column_names.index("psnr")
    pq.write_table(table.set_column(at, "psnr", [np.full(table.num_rows, np.inf)]), file)
    asked: Any = None
    tallies = EVALUATION.tallies(asked)
    take_in([file], tallies)
    found = tallies["marked"].to_dict()
    assert (found.get("psnr"), found.get("psnr_ci"), found["unmarked"]) == (None, None, 14)
    assert found["ssim"] is not None


def test_a_model_without_a_kernel_is_skipped(made: dict[str, Done], tmp_path: Path) -> None:
    trivial = {**made, "kernel": replace(made["kernel"], result={**made["kernel"].result, "nullity": 0})}
    assert marked(tmp_path, trivial).result == {"skipped": NO_KERNEL}
