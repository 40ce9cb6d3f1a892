"""Corruptions of a few real digits: the rows, and the figures made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nullspace.fooling.exact import kernel_share
from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.metrics.outcomes import mean_interval, wilson_interval
from nullspace.model.images import from_uint8
from nullspace.robustness.corruptions.corruption import Corruption, corrupted
from nullspace.robustness.corruptions.names import NAMES
from pipelines.data.shards import read_shard, shard_path, shard_table
from pipelines.engine.stage import Done
from pipelines.evaluations.corruption.rows import EVALUATION, tracked
from pipelines.evaluations.corruption.settings import CorruptionSettings
from pipelines.evaluations.corruption.ways import is_whole
from pipelines.files import write_table
from tests.pipelines import tiny
from tests.pipelines.evaluations.outcome_columns import OUTCOMES

KINDS = ("impulse_noise", "pixelate")
SETTINGS = CorruptionSettings(names=KINDS, severities=(1, 4), images=20, examples=2, batch_images=8)
CELLS = [f"{name}_{severity}" for name in KINDS for severity in (1, 4)]
MEANS = [*KINDS, "severity_1", "severity_4", "mean"]


@pytest.fixture(scope="module")
def evaluated(made: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> Done:
    return tiny.evaluated(EVALUATION, tmp_path_factory.mktemp("corruption"), SETTINGS, made)


@pytest.fixture(scope="module")
def rows(evaluated: Done) -> Any:
    return tiny.rows(evaluated.folder)


def test_every_drawn_image_has_a_row_for_each_condition(rows: Any) -> None:
    controls = [f"{name}_permuted" for name in (*CELLS, *MEANS)]
    assert set(rows["condition"]) == {"clean", *CELLS, *MEANS, *controls}
    assert {len(group) for _, group in rows.groupby("condition")} == {20}
    cells = rows[rows["condition"].isin(CELLS)]
    assert not cells[[*OUTCOMES, "error", "kernel_share", "change_rms"]].isna().any(axis=None)


def test_rows_are_what_the_corruption_makes_of_the_model(rows: Any, made: dict[str, Done]) -> None:
    shard = read_shard(shard_path(made["ingest"].folder, "000000"))
    model = tiny.spec().load("cpu")
    pictures = from_uint8(corrupted(shard.images, Corruption("pixelate", 4), shard.ids, seed=tiny.SEED))
    with torch.inference_mode():
        predicted = model(pictures).argmax(dim=1)
    change = pictures - from_uint8(shard.images)
    expected = pd.DataFrame({
        "error": (predicted != shard.labels).double(),
        "change_rms": change.square().mean(dim=(1, 2, 3)).sqrt().double(),
        "kernel_share": kernel_share(model.patchify(change), patch_kernel(model)).double(),
    }, index=shard.ids)  # fmt: skip
    own = rows[rows["condition"] == "pixelate_4"].set_index("id")
    known = [id_ for id_ in shard.ids if id_ in own.index]
    assert len(known) > 5
    for name in expected:
        np.testing.assert_allclose(own.loc[known, name], expected.loc[known, name], rtol=1e-4, atol=1e-6)


def test_means_are_those_of_each_image(rows: Any) -> None:
    for condition, over in (("pixelate", ["pixelate_1", "pixelate_4"]), ("mean", CELLS), ("severity_4", CELLS[1::2])):
        mean = rows[rows["condition"] == condition].set_index("id").sort_index()
        cells = rows[rows["condition"].isin(over)].groupby("id")
        clean = rows[rows["condition"] == "clean"].set_index("id").sort_index()
        for name, source in (("error", "error"), ("kernel_share", "kernel_share"), ("agreement", "agree")):
            expected = cells[source].apply(lambda values: values.astype(float).mean())
            np.testing.assert_allclose(mean[name].astype(float), expected, rtol=1e-12)
        np.testing.assert_allclose(mean["excess_error"], mean["error"] - clean["error"], atol=1e-12)


def test_figures_have_intervals_over_images(evaluated: Done, rows: Any) -> None:
    found = evaluated.result["conditions"]
    assert {each["n"] for each in found.values()} == {20}
    cell, own = found["impulse_noise_4"], rows[rows["condition"] == "impulse_noise_4"]
    assert cell["error"] == own["error"].mean() and cell["labelled"] == 20
    assert cell["error_ci"] == list(wilson_interval(int(own["error"].sum()), 20))
    mean, own = found["mean"], rows[rows["condition"] == "mean"]
    for name, least in (("error", 0), ("agreement", 0), ("kernel_share", 0), ("excess_error", -1)):
        assert mean[name] == pytest.approx(own[name].astype(float).mean())
        assert mean[f"{name}_ci"] == pytest.approx(np.clip(mean_interval(own[name].astype(float)), least, 1))
    assert "mce" not in mean, "two of 15"
    assert evaluated.result["white_share"] == 672 / 768


def test_a_change_in_random_order_is_in_the_kernel_as_white_noise_is(evaluated: Done) -> None:
    found = evaluated.result["conditions"]
    share = found["mean_permuted"]["kernel_share"]
    assert share == pytest.approx(evaluated.result["white_share"], abs=0.06)
    assert found["pixelate"]["change_rms"] == pytest.approx(found["pixelate_permuted"]["change_rms"], rel=0.5)


def test_rows_depend_neither_on_the_cut_nor_on_the_batch(rows: Any, tmp_path: Path) -> None:
    made = tiny.inputs(tmp_path, (5, 0, 12, 7), batch_images=5)
    settings = SETTINGS.model_copy(update={"batch_images": 5})
    other = tiny.rows(tiny.evaluated(EVALUATION, tmp_path / "corruption", settings, made).folder)
    keys = ["condition", "id"]
    one, two = (each.sort_values(keys).reset_index(drop=True) for each in (rows, other))
    pd.testing.assert_frame_equal(one[[*keys, "error", "agreement"]], two[[*keys, "error", "agreement"]])
    np.testing.assert_allclose(one["kernel_share"], two["kernel_share"], rtol=1e-4)


def test_images_without_labels_have_no_error(made: dict[str, Done], tmp_path: Path) -> None:
    folder = tmp_path / "ingest"
    folder.mkdir()
    shard = read_shard(shard_path(made["ingest"].folder, "000000"))
    table = shard_table(shard.ids, shard.images.numpy(), [-1] * len(shard.ids))
    write_table(shard_path(folder, "000000"), table)
    ids = tiny.IdDigest().add(shard.ids).to_dict()
    unlabelled = made | {"ingest": tiny.finished(folder, ids=ids, images=len(shard.ids))}
    settings = CorruptionSettings(names=("pixelate",), severities=(1,), controls=False, examples=0, images=None)
    found = tiny.evaluated(EVALUATION, tmp_path / "out", settings, unlabelled).result["conditions"]
    assert set(found) == {"clean", "pixelate_1", "pixelate", "severity_1", "mean"}
    assert found["mean"]["n"] == 14 and found["mean"]["labelled"] == 0
    assert not [name for each in found.values() for name in each if "error" in name]


def test_a_trivial_kernel_has_no_share(made: dict[str, Done], tmp_path: Path) -> None:
    trivial = {**made, "kernel": replace(made["kernel"], result={**made["kernel"].result, "nullity": 0})}
    settings = CorruptionSettings(names=("fog",), severities=(2,), images=3, controls=False, examples=0)
    found = tiny.evaluated(EVALUATION, tmp_path, settings, trivial).result
    assert found["white_share"] == 0 and "kernel_share" not in found["conditions"]["mean"]
    assert found["conditions"]["mean"]["n"] == 3


def test_pictures_are_of_the_middle_severity(evaluated: Done) -> None:
    names = {"original", *KINDS}
    expected = {f"{number:02d}_{name}.png" for number in range(2) for name in names}
    assert {path.name for path in evaluated.folder.glob("examples/*")} == expected


def test_only_means_become_metrics() -> None:
    assert tracked("conditions.mean.error") and tracked("conditions.severity_3.agreement_ci.low")
    assert tracked("conditions.jpeg_compression_permuted.kernel_share")
    assert not tracked("conditions.jpeg_compression_3.error") and not tracked("conditions.fog_1_permuted.agreement")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"names": ["rain"]}, "unknown corruption 'rain'; known are gaussian_noise"),
        ({"names": ["fog", "fog"]}, "expected each once, got fog, fog"),
        ({"severities": [0]}, "expected severities of 1 to 5, got 0"),
        ({"images": 1}, "greater than or equal to 2"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CorruptionSettings.model_validate(settings)


def test_the_default_is_all_of_imagenet_c() -> None:
    assert is_whole(CorruptionSettings()) and CorruptionSettings().names == NAMES
    assert not is_whole(CorruptionSettings(severities=(1, 2)))
