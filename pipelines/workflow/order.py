"""The order of the page: the report of each stage, and results.json as page and terminal read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipelines.evaluations.adversarial.report import REPORT as ADVERSARIAL
from pipelines.evaluations.attribution.report import REPORT as ATTRIBUTION
from pipelines.evaluations.corruption.report import REPORT as CORRUPTION
from pipelines.evaluations.fooling.report import REPORT as FOOLING
from pipelines.evaluations.kernel_noise.report import REPORT as KERNEL_NOISE
from pipelines.evaluations.learned_noise.report import REPORT as LEARNED_NOISE
from pipelines.evaluations.payload.report import REPORT as PAYLOAD
from pipelines.evaluations.transfer.report import REPORT as TRANSFER
from pipelines.evaluations.visible_watermark.report import REPORT as VISIBLE_WATERMARK
from pipelines.report.model import Model, ReportedStage
from pipelines.report.outcomes import JsonObject
from pipelines.report.view import Result, StageView
from pipelines.stages.kernel.report import REPORT as KERNEL
from pipelines.stages.search.report import REPORT as SEARCH

REPORTS = (
    KERNEL, KERNEL_NOISE, SEARCH, LEARNED_NOISE, TRANSFER, FOOLING, ATTRIBUTION, ADVERSARIAL,
    CORRUPTION, VISIBLE_WATERMARK, PAYLOAD,
)  # fmt: skip


def models_of(results: JsonObject, folders: Mapping[str, Mapping[str, Path]] | None = None) -> list[Model]:
    """The models of results.json, each with what its stages found, in the order of the page; stages not run are absent.

    `folders` are those of finished stages, by label and name: without them there are no figures and pictures.
    """
    found = []
    for label, said in (results.get("models") or {}).items():
        where = (folders or {}).get(label, {})
        stages = [
            ReportedStage(report, StageView(label, Result(said[report.name]), where.get(report.name)))
            for report in REPORTS
            if report.name in said
        ]
        found.append(Model(label, Result(said), stages, Result(results.get("run") or {})))
    return found
