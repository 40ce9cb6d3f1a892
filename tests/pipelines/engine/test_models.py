"""What the driver learns by loading a model, and what it refuses before any work."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf

from nullspace.errors import CannotCutError, UnknownModelError, WeightsError
from nullspace.model.vit import SplitViT
from pipelines.configs.reading import load_config
from pipelines.digits import MODEL_NAME, register
from pipelines.digits.model import weights_path
from pipelines.engine import models
from pipelines.engine.models import ModelFacts, ModelSpec, learn_facts
from pipelines.engine.settings import ModelSettings
from pipelines.workflow.plan import make_plan
from tests.pipelines import tiny


def test_the_facts_of_the_packaged_model() -> None:
    facts, model = learn_facts(ModelSettings(name=MODEL_NAME, label="digits"), seed=4)
    assert (facts.num_classes, facts.embed_dim, facts.num_patches) == (10, 96, 16)
    assert facts.spec == ModelSpec("digits", MODEL_NAME, "pretrained", 4, model.weights_sha256)
    assert facts.preprocessing.input_size == (64, 64) and facts.source.startswith("pretrained")


def test_weights_from_a_file_are_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights_path().parent)
    facts, _ = learn_facts(ModelSettings(name=MODEL_NAME, weights=weights_path().name), seed=0)
    assert facts.spec.weights_sha256 == tiny.spec().weights_sha256
    assert facts.spec.weights == str(weights_path()), "whole, as a worker has another folder"


def test_random_weights_follow_the_seed() -> None:
    hashes = [learn_facts(ModelSettings(name=MODEL_NAME, weights="random"), seed)[0].spec for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] and hashes[0].weights_sha256 != hashes[2].weights_sha256


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"name": "nullspace_digits"}, UnknownModelError, "got 'nullspace_digits'; did you mean nullspace_digits_vit?"),
        (
            {"name": "resnet18", "weights": "random"},
            CannotCutError,
            "expected a model with a patch embedding, got ResNet",
        ),
        ({"name": "vit_small_r26_s32_224", "weights": "random"}, CannotCutError, "HybridEmbed is not one linear map"),
        ({"name": MODEL_NAME, "weights": "/nowhere/x.safetensors"}, WeightsError, "/nowhere/x.safetensors"),
    ],
)
def test_models_that_cannot_be_used_are_refused(settings: dict[str, str], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        learn_facts(ModelSettings.model_validate(settings), seed=0)


def test_a_damaged_weights_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(weights_path().read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cut.safetensors"):
        learn_facts(ModelSettings(name=MODEL_NAME, weights=str(tmp_path / "cut.safetensors")), seed=0)


def test_a_model_without_classifier_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def headless(name: str, weights: str, **given: Any) -> SplitViT:
        return SplitViT.load(name, weights="random", model_args={"num_classes": 0})

    monkeypatch.setattr(models, "load_model", headless)
    with pytest.raises(CannotCutError, match=f"{MODEL_NAME} has no classifier, .*; choose one with a head"):
        learn_facts(ModelSettings(name=MODEL_NAME), seed=0)


def test_a_file_without_head_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    state = load_file(weights_path())
    torch.save({name: value for name, value in state.items() if not name.startswith("head.")}, tmp_path / "w.bin")
    with pytest.raises(CannotCutError, match=r"no classifier \(no head in the file \(head.weight\).*choose"):
        learn_facts(ModelSettings(name=MODEL_NAME, weights=str(tmp_path / "w.bin")), seed=0)


def test_a_worker_has_the_arguments_and_the_choice_of_weights(tmp_path: Path) -> None:
    register()
    made = {"num_classes": 7, "global_pool": "avg", "img_size": 48}
    plain, averaged = (timm.create_model(MODEL_NAME, **made).state_dict() for _ in range(2))
    torch.save({"state_dict": plain, "state_dict_ema": averaged}, tmp_path / "w.pth")
    given = {"name": MODEL_NAME, "weights": str(tmp_path / "w.pth"), "args": {"global_pool": "avg"}}
    taken, _ = learn_facts(ModelSettings.model_validate(given), seed=0)
    assert taken.notes == ("7 classes and 48x48 input from the file's shapes",) and taken.num_classes == 7
    assert taken.source == f"file:{tmp_path / 'w.pth'} (EMA)"
    other, model = learn_facts(ModelSettings.model_validate({**given, "ema": False, "args": made}), seed=0)
    assert other.preprocessing.input_size == (48, 48) and other.source.endswith("(without EMA)") and not other.notes
    # As it reaches a worker: through plain JSON.
    spec = ModelSpec(**json.loads(json.dumps(asdict(other.spec))))
    again = spec.load("cpu")
    assert again.weights_sha256 == model.weights_sha256 != taken.spec.weights_sha256
    assert torch.equal(again.model.state_dict()["head.weight"], plain["head.weight"])


def test_arguments_decide_what_stages_are(tmp_path: Path) -> None:
    """Pooling is in no weights, so the fingerprints of the stages must have it."""
    facts, _ = learn_facts(ModelSettings(name=MODEL_NAME), seed=0)
    other = replace(facts, spec=replace(facts.spec, args={"global_pool": "max"}))
    config = load_config("demo")
    means: Any = type("Means", (), {"compute": type("Compute", (), {"device": "cpu"})()})()
    plans = [make_plan(config, [model], "digest", means).branches["x"] for model in map(relabelled, (facts, other))]
    for name in plans[0]:
        assert plans[0][name].fingerprint != plans[1][name].fingerprint, name


def relabelled(facts: ModelFacts) -> ModelFacts:
    return replace(facts, spec=replace(facts.spec, label="x"))


def test_a_model_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    save_for_hf(timm.create_model(MODEL_NAME, num_classes=7), str(tmp_path / "my model"), safe_serialization=True)
    monkeypatch.chdir(tmp_path)
    settings = ModelSettings(name="local-dir:my model")
    assert settings.label == "local-dir_my_model"
    facts, _ = learn_facts(settings, seed=0)
    assert facts.spec.name == f"local-dir:{tmp_path / 'my model'}", "whole, as a worker has another folder"
    assert facts.num_classes == 7 and facts.spec.load("cpu").weights_sha256 == facts.spec.weights_sha256


def test_a_worker_loads_the_very_same_model_or_none() -> None:
    spec = tiny.spec()
    assert spec.load("cpu").weights_sha256 == spec.weights_sha256
    other = ModelSpec(spec.label, spec.name, "random", 0, spec.weights_sha256)
    with pytest.raises(WeightsError, match=f"the run began with weights {spec.weights_sha256[:12]}, here they are"):
        other.load("cpu")
