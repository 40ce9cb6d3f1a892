"""A view of MLflow's table of runs, kept with the experiment: a row for each model, its headline figures as columns.

It is a tag of the experiment in the form MLflow's own button `Views` writes; the table shows no figures by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

VIEW = "nullspace-models"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
FILTER = "tags.`nullspace.kind` = 'model'"
# Sorted by anything but time MLflow shows the rows themselves, not folded away under the runs above them.
_SORTED_BY = "metrics.`relative_norm`"
_COLUMNS = (
    "params.`model`",
    "metrics.`clean_accuracy`",
    "metrics.`kernel.nullity`",
    "metrics.`kernel_noise.exact.agreement`",
    "metrics.`relative_norm`",
    "metrics.`learned_noise.learned.agreement`",
    "metrics.`learned_noise.permuted.agreement`",
    "metrics.`visible_watermark.marked.psnr`",
    "metrics.`visible_watermark.marked.agreement`",
    "metrics.`payload.jpeg_75.word_accuracy`",
    "attributes.`Dataset`",
    "attributes.`Models`",
)


def models_view(columns: Sequence[str] = _COLUMNS) -> str:
    """The tag's value: name, times, and the state of the table as JSON."""
    now = int(time.time() * 1000)
    shown = {"searchFilter": FILTER, "orderByKey": _SORTED_BY, "orderByAsc": False}
    state = {**shown, "selectedColumns": list(columns)}
    return json.dumps({"name": "Models compared", "createdAt": now, "updatedAt": now, "state": json.dumps(state)})
