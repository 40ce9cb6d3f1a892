"""Explanations of a few real digits: rows, pictures, and the figures made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nullspace.attribution.compare import spearman
from nullspace.attribution.maps import map_named
from nullspace.model.images import from_uint8
from pipelines.data.shards import read_shard, shard_path, shard_sizes
from pipelines.engine.stage import Done
from pipelines.evaluations.attribution.rows import EVALUATION
from pipelines.evaluations.attribution.settings import AttributionSettings
from pipelines.evaluations.attribution.ways import ways_of
from pipelines.evaluations.base import Asked
from pipelines.evaluations.drawn import draw
from pipelines.tracking.stage_runs import flat_metrics
from tests.pipelines import tiny
from tests.pipelines.evaluations.outcome_columns import OUTCOMES

GRADIENT, ATTENTION = "gradient", "gradient_weighted_attention"
SETTINGS = AttributionSettings(
    images=12, maps=(GRADIENT, "input_times_gradient", ATTENTION), epsilon=(16, 64), relative_norm=(0.5,), steps=15,
    batch_images=5, examples=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def explained(made: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> Done:
    return tiny.evaluated(EVALUATION, tmp_path_factory.mktemp("attribution"), SETTINGS, made)


@pytest.fixture(scope="module")
def found(explained: Done) -> dict[str, Any]:
    return explained.result["conditions"]


def test_every_drawn_image_has_a_row_in_every_condition(explained: Done, made: dict[str, Done]) -> None:
    rows = tiny.rows(explained.folder)
    drawn = draw(made["ingest"].folder, 12, "attribution", tiny.SEED)
    by = dict(list(rows.groupby("condition")))
    assert (
        set(by)
        == {way.name for way in ways_of(SETTINGS, kernel=True, learned=True)}
        == set(explained.result["conditions"])
    )
    assert all(set(group["id"]) == drawn and len(group) == 12 for group in by.values())
    assert set(rows.columns) >= OUTCOMES


def test_noise_in_the_kernel_leaves_every_map_over_tokens(found: dict[str, Any]) -> None:
    steered, permuted = found["steered"], found["steered_permuted"]
    assert steered["agreement"] == 1
    for name in SETTINGS.maps:
        assert steered[f"spearman_{name}"] >= 0.99 and steered[f"top_{name}"] >= 0.95
        assert permuted[f"spearman_{name}"] < 0.95
    assert steered["pixels_top"] < 0.5, "pixel by pixel it is another map"
    # cut along the patches nothing shows; across them the noise does
    clean = found["clean"]
    curves = {way: f"deletion_{way}_{ATTENTION}" for way in ("along", "across")}
    assert abs(steered[curves["along"]] - clean[curves["along"]]) < 1e-3
    assert abs(steered[curves["across"]] - clean[curves["across"]]) > 3e-3


def test_search_moves_a_map_and_holds_the_prediction(found: dict[str, Any]) -> None:
    for epsilon in SETTINGS.epsilon:
        moved, signs = (found[f"away_{ATTENTION}_eps{epsilon:g}{end}"] for end in ("", "_signs"))
        assert moved["agreement"] == 1 and moved["mse_probabilities"] <= 0.01
        assert moved[f"spearman_{ATTENTION}"] < signs[f"spearman_{ATTENTION}"] - 0.2
    token = found[f"away_{ATTENTION}_norm0.5"]
    assert token["agreement"] == 1 and token[f"spearman_{ATTENTION}"] < 0.5
    towards = found[f"towards_{ATTENTION}_eps64"]
    assert towards["spearman_goal"] > found[f"towards_{ATTENTION}_eps64_permuted"]["spearman_goal"] + 0.2


def test_maps_that_mean_nothing_are_shown_beside(found: dict[str, Any]) -> None:
    assert abs(found["random_map"][f"spearman_{ATTENTION}"]) < 0.5
    assert found["random_weights"]["agreement"] < 0.9
    assert found["clean"][f"deletion_along_{ATTENTION}"] < found["random_map"]["deletion_along_random"]
    assert "spearman_gradient" not in found["clean"]


def test_figures_are_those_of_the_rows_and_rows_those_of_the_model(explained: Done, made: dict[str, Done]) -> None:
    rows = tiny.rows(explained.folder)
    own = rows[rows["condition"] == "random_map"].set_index("id")
    figures = explained.result["conditions"]["random_map"]
    assert figures["spearman_gradient"] == pytest.approx(own["spearman_gradient"].mean())
    low, high = figures["spearman_gradient_ci"]
    assert low < figures["spearman_gradient"] < high
    ingest = made["ingest"].folder
    shard = read_shard(shard_path(ingest, next(iter(shard_sizes(ingest)))))
    at = next(place for place, id_ in enumerate(shard.ids) if id_ in own.index)
    model = tiny.spec().load("cpu")
    image = from_uint8(shard.images[at : at + 1])
    classes = model(image).argmax(dim=1)
    clean = map_named(GRADIENT)(model, image, classes)
    noised = rows[(rows["condition"] == "learned") & (rows["id"] == shard.ids[at])].iloc[0]
    with tiny.noise().apply(model):
        after = map_named(GRADIENT)(model, image, classes)
    assert noised["spearman_gradient"] == pytest.approx(float(spearman(clean, after)), abs=0.02)


def test_only_images_the_learned_noise_has_not_seen_count(found: dict[str, Any], explained: Done) -> None:
    rows = tiny.rows(explained.folder)
    learned = rows[rows["condition"] == "learned"]
    assert found["learned"]["n"] == (learned["split"] == "test").sum() < len(learned)
    assert found["clean"]["n"] == len(learned)


def test_pictures_and_maps_are_kept(explained: Done) -> None:
    names = {path.name for path in (explained.folder / "examples").glob("*.png")}
    wanted = {"image", "steered", f"away_{ATTENTION}_eps64", f"towards_{ATTENTION}_eps64"}
    assert names >= {f"00_{name}.png" for name in wanted}
    assert names >= {f"00_{name}_map_{ATTENTION}.png" for name in wanted - {"steered"}}
    assert names >= {"00_steered_map_pixels.png", "00_image_map_pixels.png", "00_steered_difference.png"}


def test_a_map_the_model_has_not_got_is_left_out_and_said(
    made: dict[str, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(model: Any, names: Any) -> dict[str, str]:
        return {ATTENTION: "no attention here"}

    for module in ("rows",):
        monkeypatch.setattr(f"pipelines.evaluations.attribution.{module}.reasons_against", without)
    few = SETTINGS.model_copy(update={"images": 4, "learned": False, "examples": 0})
    found = tiny.evaluated(EVALUATION, tmp_path / "out", few, made).result
    assert found["warnings"] == [f"attribution: {ATTENTION} is left out: no attention here"]
    assert found["conditions"]["steered"]["spearman_gradient"] > 0.99
    assert f"spearman_{ATTENTION}" not in found["conditions"]["steered"]
    assert not found["conditions"][f"away_{ATTENTION}_eps16"]


def test_a_model_that_sees_one_class_alone_is_skipped(made: dict[str, Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.evaluations.attribution.rows.predictions_of", lambda *_: {"a": 1, "b": 1})
    asked: Asked[Any] = Asked(SETTINGS, tiny.spec(), tiny.SEED, made)
    assert "into one class" in str(EVALUATION.verdict(asked).skipped)
    everything = dict.fromkeys(SETTINGS.maps, "no attention here")
    monkeypatch.setattr("pipelines.evaluations.attribution.rows.reasons_against", lambda *_: everything)
    assert "none of the maps" in str(EVALUATION.verdict(replace(asked)).skipped)


def test_few_of_the_figures_become_metrics(explained: Done) -> None:
    figures = dict(flat_metrics(explained.result))
    metrics = {place: value for place, value in figures.items() if EVALUATION.tracked(place)}
    assert f"conditions.away_{ATTENTION}_eps16.spearman_{ATTENTION}" in metrics
    assert len(metrics) < 200 and not any(".ssim_" in name for name in metrics)
    assert all(np.isfinite(value) for value in metrics.values())
