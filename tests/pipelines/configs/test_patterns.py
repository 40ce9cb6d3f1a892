"""Models named by pattern."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import yaml

from pipelines.configs.reading import load_config
from pipelines.errors import ConfigError


def config(folder: Path, *models: object) -> Path:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "source": {"kind": "digits"}, "models": list(models)}))
    return file


def test_a_pattern_stands_for_every_model_that_matches(tmp_path: Path) -> None:
    found = load_config(config(tmp_path, "deit_*_patch16_224.fb_in1k", {"name": "vit_tiny_*", "weights": "random"}))
    names = [model.name for model in found.models]
    assert names == [
        *timm.list_models("deit_*_patch16_224.fb_in1k", pretrained=True),
        *timm.list_models("vit_tiny_*"),
    ]
    assert len(set(names)) == len(names) > 6 and names[0].endswith(".fb_in1k")
    assert {model.weights for model in found.models if model.name.startswith("vit_tiny")} == {"random"}


def test_a_name_alone_is_a_model(tmp_path: Path) -> None:
    (model,) = load_config(config(tmp_path, "deit_tiny_patch16_224")).models
    assert (model.name, model.label, model.weights) == ("deit_tiny_patch16_224", "deit_tiny_patch16_224", "pretrained")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("vit_smal_*", "no pretrained weights of timm .* match 'vit_smal_\\*'"),
        ({"name": "nothing*", "weights": "random"}, "no models of timm .* match 'nothing\\*'"),
        ({"name": "vit_*", "weights": "mine.safetensors"}, "is a pattern, and weights 'mine.safetensors'"),
        ({"name": "vit_*", "label": "mine"}, "is a pattern, and label 'mine' can name one model only"),
    ],
)
def test_what_a_pattern_cannot_mean_is_refused(tmp_path: Path, model: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(config(tmp_path, model))


def test_the_shipped_zoo_has_twelve_models_by_pattern() -> None:
    models = load_config("zoo").models
    assert len(models) == 12 and all("*" not in model.name for model in models)
