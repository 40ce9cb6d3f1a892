"""What a run already holds, so that a resumed run writes nothing twice; and values in the form MLflow takes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

NONFINITE = "nullspace.nonfinite."  # tag prefix: where NaN and infinite metrics are kept


@dataclass
class Ledger:
    """Parameters, metric points and non-finite metrics of one run; `steps[key] is None` means not yet asked for."""

    params: dict[str, str] = field(default_factory=dict)
    steps: dict[str, dict[int, float] | None] = field(default_factory=dict)
    nonfinite: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of_run(cls, run: Any) -> Ledger:
        """The ledger of an MLflow `Run` found in the store."""
        tags = {k[len(NONFINITE) :]: v for k, v in run.data.tags.items() if k.startswith(NONFINITE)}
        return cls(
            params=dict(run.data.params),
            steps=dict.fromkeys(run.data.metrics),
            nonfinite={key: json.loads(value) for key, value in tags.items()},
        )

    def is_new(self, key: str, step: int | None, value: float) -> bool:
        """Whether a point is still to be written.

        A curve point (`step` given) is written once and never again. A summary (no step) is written again when its
        value changed: MLflow cannot overwrite, but shows the newest.
        """
        known = self.steps.get(key) or {}
        at = step or 0
        return at not in known if step is not None else known.get(at) != value

    def note_nonfinite(self, key: str, step: int | None, value: float) -> str:
        """Count a NaN or infinity and return the whole record as JSON: count, first and last (step, value).

        Steps only grow, so a step not past the last one was counted before: by a failed write, or before a resume.
        """
        point = [step, str(value)]
        record = self.nonfinite.setdefault(key, {"count": 0, "first": point, "last": point})
        last = record["last"][0]
        recorded_before = point == record["last"] if step is None or last is None else step <= last
        if record["count"] == 0 or not recorded_before:
            record.update(count=record["count"] + 1, last=point)
        return json.dumps(record)


def number(key: str, value: Any) -> float:
    """A metric value as a float: numbers, booleans, 0-d arrays and tensors.

    Raises TypeError naming the metric for everything else.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"metric {key!r}: expected one number, got {type(value).__name__} {value!r}") from error


def is_finite(value: float) -> bool:
    """Whether MLflow can store and draw the value (it turns infinity into 1.8e308 and NaN into a flagged 0)."""
    return math.isfinite(value)


def in_chunks(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """Lists of at most `size` items, in order."""
    everything = list(items)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]
