"""The trials of a search as tables: one row per trial, one per report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.wording import last_line

SEARCHED = ("relative_norm", "learning_rate", "steps")
REPORTED = ("loss", "radius", "scale", "probability_change", "agreement", "capped", "best_step")


def trial_tables(results: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of trials.parquet and curves.parquet from what Tune returns."""
    trials, curves = [], []
    for result in results:
        metrics = result.metrics or {}
        trial_id = metrics.get("trial_id") or Path(result.path).name
        config = {name: (result.config or {}).get(name) for name in SEARCHED}
        trials.append(
            {
                "trial_id": trial_id,
                **config,
                "step": metrics.get("step"),
                **{name: metrics.get(name) for name in REPORTED},
                "seconds": metrics.get("time_total_s"),
                "status": "FAILED" if result.error else ("FINISHED" if _whole(metrics, config) else "STOPPED"),
                "error": str(result.error) if result.error else None,
            }
        )
        frame = result.metrics_dataframe
        # A trial that was killed goes on at its last checkpoint and may report a step again.
        for row in [] if frame is None else frame.drop_duplicates("step", keep="last").to_dict("records"):
            curves.append({"trial_id": trial_id, "step": int(row["step"]), **{name: row[name] for name in REPORTED}})
    return trials, sorted(curves, key=lambda row: (row["trial_id"], row["step"]))


def _whole(metrics: dict[str, Any], config: dict[str, Any]) -> bool:
    return metrics.get("step") is not None and metrics["step"] >= config["steps"]


def all_failed(trials: list[dict[str, Any]], folder: Path) -> str:
    """What to say when no trial came to an end."""
    errors = sorted({last_line(trial["error"]) for trial in trials})
    return f"all {len(trials)} trials failed: {'; '.join(errors[:3])}. Their logs are in {folder}"
