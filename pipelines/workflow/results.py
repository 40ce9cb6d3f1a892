"""results.json: every figure of a run, put together from the results of its stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.engine.models import ModelFacts
from pipelines.engine.stage import Done


def model_results(facts: ModelFacts, done: Mapping[str, Done], registered: Mapping[str, Any]) -> dict[str, Any]:
    """Everything found for one model, a key for each of its stages. `done` holds them by name."""
    found = {name: dict(each.result) for name, each in done.items()}
    if "search" in found:
        found["search"].pop("split")  # thresholds of hashes
        found["search"] |= {"artifact": str(done["search"].folder / "noise.safetensors"), **registered}
    return {
        "model": {
            "name": facts.spec.name,
            "weights": facts.spec.weights,
            "weights_source": facts.source,
            "weights_sha256": facts.spec.weights_sha256,
            "seed": facts.spec.seed,
            "args": dict(facts.spec.args),
            "ema": facts.spec.ema,
            "notes": list(facts.notes),
            "preprocessing": facts.preprocessing.to_dict(),
            "preprocessing_key": facts.preprocessing.key(),
        },
        **found,
        "warnings": distinct(done.values()),
    }


def all_warnings(ingested: Mapping[str, Done], models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every warning of a run: of the images first, then each model's, with its label where there are several."""
    of_models = [
        f"{label}: {warning}" if len(models) > 1 else warning
        for label, model in models.items()
        for warning in model.get("warnings", [])
    ]
    return [*distinct(ingested.values()), *of_models]


def distinct(stages: Iterable[Done]) -> list[str]:
    """The warnings of some stages, each once."""
    return list(dict.fromkeys(warning for done in stages for warning in done.warnings))


def data_results(ingested: Mapping[str, Done], source: Mapping[str, Any]) -> dict[str, Any]:
    """What was read: counts for each preprocessing, and the source as configured."""
    each = {
        key: {n: done.result[n] for n in ("images", "errors", "reasons", "first_of_many", "contents")}
        for key, done in ingested.items()
    }
    first = next(iter(each.values()))
    return {"images": first["images"], "errors": first["errors"], "source": dict(source), "preprocessings": each}
