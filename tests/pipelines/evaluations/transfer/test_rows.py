"""The noise of the digits model on itself, on a twin, and on models that see otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.engine.models import ModelSpec, learn_facts
from pipelines.engine.settings import ModelSettings
from pipelines.engine.stage import Done
from pipelines.evaluations.transfer.matrix import matrices
from pipelines.evaluations.transfer.report import REPORT, sentence
from pipelines.evaluations.transfer.rows import EVALUATION
from pipelines.evaluations.transfer.settings import TransferSettings
from pipelines.report.view import Result, StageView
from pipelines.wording import MISSING
from tests.pipelines import tiny

SETTINGS = TransferSettings(images=20, rms=0.5, batch_images=8)


def stranger() -> ModelSpec:
    """A model with weights of its own, another input size and tokens of another shape."""
    args: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2}
    settings = ModelSettings(name="vit_tiny_patch16_224", label="stranger", weights="random", args=args)
    return learn_facts(settings, seed=1)[0].spec


@pytest.fixture(scope="module")
def asked(made: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> Done:
    others = {"twin": replace(tiny.spec(), label="twin"), "stranger": stranger()}
    return tiny.evaluated(EVALUATION, tmp_path_factory.mktemp("transfer"), SETTINGS, made, others=others)


def test_kernel_noise_is_invisible_where_it_belongs_and_seen_elsewhere(asked: Done) -> None:
    found = asked.result["conditions"]
    for name in ("kernel_own", "kernel_on_twin"):
        assert found[name]["agreement"] == 1 and found[name]["max_probability_change"] < 1e-2
        assert found[name]["mse_logits"] < 1e-2 * found[f"{name}_permuted"]["mse_logits"]
    assert found["kernel_own"]["n"] == found["kernel_on_stranger"]["n"] == 20
    moved, permuted = (found[f"kernel_on_stranger{end}"]["mse_logits"] for end in ("", "_permuted"))
    assert moved > 0.05 * permuted, "a kernel is a blind spot of its own weights"


def test_learned_noise_counts_unseen_images_and_needs_tokens_of_its_shape(asked: Done, made: dict[str, Done]) -> None:
    found = asked.result["conditions"]
    assert found["learned_on_twin"] == found["learned_own"] and 0 < found["learned_own"]["n"] < 20
    assert not found["learned_on_stranger"]
    assert set(tiny.rows(asked.folder)["condition"]) == {name for name, figures in found.items() if figures}


def test_the_report_names_who_notices_most_and_who_could_not_be_asked(asked: Done) -> None:
    view = StageView("digits", Result(asked.result))
    least = min(("twin", "stranger"), key=lambda label: asked.result["conditions"][f"kernel_on_{label}"]["agreement"])
    assert f"of the predictions of {least}, 100 % " in sentence(view.result)
    section = REPORT.section(view)
    assert dict(section.facts)["Learned noise not shown to"].startswith("stranger:")
    assert [len(table.rows) for table in section.tables] == [9, 6]
    assert [table.muted.count(True) for table in section.tables] == [6, 4]
    assert [figure.name for figure in REPORT.figures(view)] == ["transfer-kernel", "transfer-learned"]
    titles = [each.title for each in REPORT.outcomes(view)]
    assert "kernel noise, on stranger" in titles and "learned noise, on stranger" not in titles


def test_the_matrix_has_a_row_for_each_noise_and_its_control_and_a_column_for_each_model(asked: Done) -> None:
    twin = {**asked.result, "others": ["digits", "stranger"], "conditions": {
        name.replace("_on_twin", "_on_digits"): each for name, each in asked.result["conditions"].items()
    }}  # fmt: skip
    views = [StageView("digits", Result(asked.result)), StageView("twin", Result(twin))]
    kernel, learned = matrices(views)
    assert kernel.columns == learned.columns == ["Noise of", "on digits", "on twin", "on stranger"]
    assert [row[0].text for row in kernel.rows] == ["digits", "digits, permuted", "twin", "twin, permuted"]
    assert kernel.muted == [False, True, False, True]
    texts = [[cell.text for cell in row[1:]] for row in kernel.rows]
    assert texts[0][:2] == texts[2][:2] == ["100 %", "100 %"] and texts[0][2] == texts[2][2]
    assert all("n = 20" in cell.detail for row in kernel.rows for cell in row[1:])
    assert [row[3].text for row in learned.rows] == [MISSING] * 4, "tokens of another shape"


def test_alone_a_model_has_nobody_to_ask(made: dict[str, Done], tmp_path: Path) -> None:
    done = tiny.evaluated(EVALUATION, tmp_path, SETTINGS, made)
    assert "no other model" in done.result["skipped"]
