"""What classes are called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.digits import MODEL_NAME
from pipelines.engine.class_names import class_names
from pipelines.errors import ConfigError


def model(num_classes: int, name: str = "some_vit") -> Any:
    return SimpleNamespace(name=name, num_classes=num_classes)


def test_imagenet_by_the_number_of_classes_in_the_order_of_the_models() -> None:
    names = class_names(model(1000))
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")
    assert len(set(names.names)) == 1000  # both cranes and both maillots can be distinguished
    assert {names[134], names[517]} == {"crane (134)", "crane (517)"}
    assert len(set(class_names(model(21843)).names)) == 21843


def test_class_names_of_the_demo_are_digits_and_of_an_unknown_model_numbers() -> None:
    assert [class_names(model(10, MODEL_NAME))[each] for each in (0, 9)] == ["0", "9"]
    assert class_names(model(10))[7] == "class 7"


def test_data_name_their_classes_and_wnids_are_translated() -> None:
    assert class_names(model(2), ["cat", "dog"])[1] == "dog"
    assert class_names(model(2), ["n01440764", "other"]).names == ("tench", "other")
    with pytest.raises(ConfigError, match="names of the 10 classes of some_vit, got 2: cat, dog"):
        class_names(model(10), ["cat", "dog"])
