"""One model on the page: headlines, a section for each stage, which model it was, how to load its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from pipelines import digits, wording
from pipelines.redact import redact
from pipelines.report.outcomes import Share
from pipelines.report.parts import Cell, ModelArticle, ReportFigure, Section, Table, Tile
from pipelines.report.view import NamedOutcome, Result, StageReport, StageView

_NOTHING = Cell(wording.MISSING)


@dataclass(frozen=True)
class ReportedStage:
    """A stage of a model, and its report."""

    report: StageReport
    view: StageView

    @property
    def skipped(self) -> str | None:
        return self.view.result.skipped

    def section(self) -> Section:
        if self.skipped:
            return Section(self.report.title, missing=self.skipped)
        section = self.report.section(self.view)
        titles = {**self.report.picture_titles, **section.picture_titles}
        return replace(section, figures=self.figures, picture_titles=titles)

    def tile(self) -> Tile | None:
        if self.report.tile is None:
            return None
        if self.skipped:
            return Tile(self.report.title, wording.MISSING, "", f"{self.skipped[:1].upper()}{self.skipped[1:]}.")
        return self.report.tile(self.view)

    def outcomes(self) -> list[NamedOutcome]:
        return [] if self.skipped else self.report.outcomes(self.view)

    def lines(self) -> list[str]:
        return [self.skipped] if self.skipped else self.report.lines(self.view)

    @cached_property
    def figures(self) -> list[ReportFigure]:
        """Drawn once for each theme, for page and folder of figures: drawing is most of what a report costs."""
        found = [] if self.skipped else self.report.figures(self.view)
        return [replace(figure, draw=cache(figure.draw)) for figure in found]

    def cell(self, title: str) -> Cell:
        """Its cell in a column of the comparison."""
        return _NOTHING if self.skipped else self.report.columns[title](self.view)

    def titles(self) -> list[str]:
        """The columns of the comparison that it has something to say in, be it why there is nothing."""
        return [title for title in self.report.columns if self.skipped or self.cell(title) != _NOTHING]


@dataclass(frozen=True)
class Model:
    """A model of results.json: `results` is all that stands there of it, `run` what stands there of the run."""

    label: str
    results: Result
    stages: list[ReportedStage]
    run: Result

    def article(self, position: int) -> ModelArticle:
        """Everything the page says of it."""
        tiles = [tile for tile in (stage.tile() for stage in self.stages) if tile is not None]
        sections = [*(stage.section() for stage in self.stages), self._section()]
        return ModelArticle(self.label, f"model-{position}", self._subtitle(), tiles, sections)

    def cells(self, columns: list[str]) -> list[Cell]:
        """Its row of the comparison."""
        known = {title: stage for stage in self.stages for title in stage.report.columns}
        return [known[title].cell(title) if title in known else _NOTHING for title in columns]

    def _subtitle(self) -> str:
        name = self.results.below("model").text("name")
        words = [name] if name not in ("", self.label) else []
        clean = self.results.below("reference").below("clean_accuracy")
        if (accuracy := clean.value("accuracy")) is not None:
            low, high = clean.content.get("ci") or (None, None)
            share = Share(accuracy, low, high)
            words.append(f"clean accuracy {share.both}, n = {clean.number('n')}")
        return " · ".join(words)

    def _section(self) -> Section:
        """Which model it was, exactly, and how to load its noise."""
        model = self.results.below("model")
        known: list[tuple[str, object]] = [
            ("timm name", model.text("name") or self.label),
            ("Weights", model.content.get("weights_source")),
            *(("About them", note) for note in model.content.get("notes") or []),
            ("SHA-256 of the weights", model.content.get("weights_sha256")),
            *((f"Argument {name}", value) for name, value in model.below("args").items()),
            *((name.replace("_", " "), value) for name, value in model.below("preprocessing").items()),
        ]
        facts = [(title, redact(str(value))) for title, value in known if value is not None]
        return Section("Model, and how to load its noise", facts=facts, code=self.snippet())

    def snippet(self) -> str:
        """Python that applies the noise: through the registry, and without MLflow."""
        noise, model = self.results.below("search"), self.results.below("model")
        lines: list[str] = []
        if noise.text("registered_model"):
            uri, store = f"models:/{noise.text('registered_model')}@champion", redact(self.run.text("tracking_uri"))
            lines += ["import mlflow", ""] + ([f"mlflow.set_tracking_uri({store!r})"] if store else [])
            lines += [
                f"model = mlflow.pyfunc.load_model({uri!r})",
                "model.predict(images)  # uint8 (B,H,W,3): clean and noised",
                "",
            ]
        if noise.text("artifact"):
            path, name = redact(str(Path(noise.text("artifact")))), model.text("name") or self.label
            lines += ["from nullspace import NullNoise, SplitViT"]
            if name == digits.MODEL_NAME:
                lines += ["from pipelines import digits", "", "digits.register()  # makes the name known to timm"]
            else:
                lines.append("")
            lines += [f"vit = SplitViT.load({name!r}, {load_arguments(model)})", f"noise = NullNoise.load({path!r})"]
            lines += ["with noise.apply(vit):", "    logits = vit(images)  # float (B,3,H,W) in [0,1]"]
        return "\n".join(lines).strip()


def load_arguments(model: Result) -> str:
    """Arguments of `SplitViT.load` that bring back the model of the results."""
    given: dict[str, object] = {"weights": redact(model.text("weights") or "pretrained")}
    if given["weights"] == "random":
        given["seed"] = model.content.get("seed", 0)
    if model.below("args"):
        given["model_args"] = model.content["args"]
    if not model.content.get("ema", True):
        given["ema"] = False
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def columns_of(models: list[Model]) -> list[str]:
    """Titles of the comparison's columns, in the order of the page; what was asked of no model has none."""
    return list(dict.fromkeys(title for model in models for stage in model.stages for title in stage.titles()))


def across(models: Sequence[Model]) -> list[Table]:
    """The tables that stages have about several models at once, in the order of the page; none of a single model."""
    if len(models) < 2:
        return []
    found: dict[str, tuple[StageReport, list[StageView]]] = {}
    for stage in (stage for model in models for stage in model.stages if not stage.skipped):
        found.setdefault(stage.report.name, (stage.report, []))[1].append(stage.view)
    return [table for report, views in found.values() for table in report.across(views)]
