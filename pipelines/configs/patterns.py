"""Models named by pattern, as in a shell: `vit_small_*` stands for every timm model of such a name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_WILDCARD = re.compile(r"[*?\[]")


def expanded(models: Any) -> Any:
    """The list of models with every pattern replaced by the models it stands for, and names alone as sections.

    Raises ValueError for a pattern that no model matches, or that says what only one model can be.
    """
    return [each for model in models for each in _models(model)] if isinstance(models, list) else models


def _models(model: Any) -> Iterator[Any]:
    section = {"name": model} if isinstance(model, str) else model
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(name, str) or not _WILDCARD.search(name) or ":" in name:
        yield section
        return
    weights = section.get("weights", "pretrained")
    if weights not in ("pretrained", "random"):
        raise ValueError(f"{name!r} is a pattern, and weights {weights!r} are those of one model; name that model")
    if section.get("label"):
        raise ValueError(f"{name!r} is a pattern, and label {section['label']!r} can name one model only; leave it out")
    for found in _matching(name, pretrained=weights == "pretrained"):
        yield {**section, "name": found}


def _matching(pattern: str, *, pretrained: bool) -> list[str]:
    import timm  # not before: configs are read for their help, too

    found = timm.list_models(pattern, pretrained=pretrained)
    if not found:
        kind = "pretrained weights" if pretrained else "models"
        raise ValueError(f"no {kind} of timm {timm.__version__} match {pattern!r}; see timm.list_models({pattern!r})")
    return list(found)
