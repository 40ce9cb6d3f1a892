"""`report.html`: one file for someone in a hurry and then for a reviewer. No scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from pipelines import wording
from pipelines.report import drawing
from pipelines.report.inputs import StageFolders, thumbnail, unreadable
from pipelines.report.parts import Cell, Section, Table
from pipelines.report.saved_figures import ReportFigure, save_figures
from pipelines.tracking.ledger import flatten, redact
from pipelines.wording import number, percent, percent_interval
from pipelines.workflow.model_part import COLUMN_TITLES, model_part

__all__ = ["StageFolders", "save_figures", "write_report"]

TEMPLATE = "report.html.j2"


def write_report(
    results: Mapping[str, Any], stages: StageFolders, out: Path, *, config: Mapping[str, Any] | None = None
) -> Path:
    """Write the report of `results` to the file `out` and return its path.

    Args:
        results: the content of results.json; parts that were skipped are shown with their reason.
        stages: folders of the finished stages, for figures, example pictures and unreadable images.
        out: the HTML file; its folder is made.
        config: the resolved configuration, shown in full without credentials.
    """
    models = results.get("models") or {}
    page = page_template().render(
        title=(results.get("run") or {}).get("experiment") or "nullspace",
        subtitle=subtitle(results),
        warnings=results.get("warnings") or [],
        parts=[model_part(label, i, results, stages) for i, label in enumerate(models, 1)],
        comparison=comparison(models) if len(models) > 1 else None,
        closing=list(closing_sections(results, stages, config)),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return out


def page_template() -> jinja2.Template:
    """The template with every string escaped; a name it does not know is an error, not an empty place."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"light": light, "dark": dark, "picture": picture}
    environment.globals["column_titles"] = COLUMN_TITLES  # pyright: ignore[reportArgumentType]
    return environment.get_template(TEMPLATE)


def light(figure: ReportFigure) -> str:
    """A figure for a light page, as a data URI."""
    return data_uri(figure.draw(drawing.LIGHT))


def dark(figure: ReportFigure) -> str:
    """A figure for a dark page, as a data URI."""
    return data_uri(figure.draw(drawing.DARK))


def picture(path: Path) -> str:
    """An example picture as a data URI."""
    return data_uri(thumbnail(path))


def data_uri(png: bytes) -> str:
    """PNG bytes as text for an image's source."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def subtitle(results: Mapping[str, Any]) -> str:
    """Number of images and models, time taken."""
    run, data, models = (results.get(name) or {} for name in ("run", "data", "models"))
    count = len(models)
    words = [f"{number(data['images'])} images"] if wording.is_number(data.get("images")) else []
    words.append(f"{count} model" if count == 1 else f"{count} models")
    if wording.is_number(run.get("seconds")):
        words.append(f"stages took {wording.duration(run['seconds'])}")
    return " · ".join(words)


def comparison(models: Mapping[str, Any]) -> Table:
    """All models beside each other: kernel, learned noise with its controls, watermark."""
    columns = [
        "Model",
        "Nullity",
        "Kernel noise",
        "Relative norm",
        "Learned noise",
        "Permuted",
        "Gaussian",
        "Watermark",
    ]
    return Table(
        "All models: share of predictions unchanged, with 95 % interval and n, under each noise",
        columns,
        [comparison_row(label, model) for label, model in models.items()],
    )


def comparison_row(label: str, model: Mapping[str, Any]) -> list[Cell]:
    """One model's row."""
    kernel, noise, mark = (model.get(name) or {} for name in ("kernel", "noise", "watermark"))
    conditions = noise.get("conditions") or {}
    nullity = Cell(number(kernel.get("nullity")), f"of {number(kernel.get('patch_dim'))}")
    shares = [share_cell(conditions.get(name)) for name in ("learned", *wording.CONTROLS)]
    exact = share_cell((kernel.get("conditions") or {}).get("exact"))
    return [Cell(label), nullity, exact, Cell(number(noise.get("relative_norm"))), *shares, share_cell(mark)]


def share_cell(outcome: Mapping[str, Any] | None) -> Cell:
    """Agreement with interval and n, or a dash for what was not measured."""
    if not outcome or not wording.is_number(outcome.get("agreement")):
        return Cell(wording.MISSING)
    ends, n = percent_interval(outcome.get("agreement_ci")), number(outcome.get("n"))
    return Cell(percent(outcome["agreement"]), f"{ends}\nn = {n}".strip())


def closing_sections(
    results: Mapping[str, Any], stages: StageFolders, config: Mapping[str, Any] | None
) -> Iterator[Section]:
    """What holds for the whole run: data, cost, environment, configuration."""
    yield data_section(results.get("data") or {}, stages)
    yield run_section(results.get("run") or {})
    environment = results.get("environment") or {}
    if environment:
        yield Section("Environment", facts=readable(environment))
    if config:
        text = redact(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        yield Section("Configuration", code=text.strip())


def data_section(data: Mapping[str, Any], stages: StageFolders) -> Section:
    """Where the images came from, and those that could not be read."""
    bad = unreadable(stages.shared.get("ingest") or [])
    total = data["errors"] if isinstance(data.get("errors"), int) else bad.total
    facts = [(name, text) for name, text in readable(data) if name != "errors"]
    facts.append(("Unreadable images", number(total)))
    facts += [("All unreadable images", path) for path in bad.files]
    tables = []
    if bad.rows:
        rows = [[Cell(row["id"]), Cell(redact(row["path"])), Cell(row["reason"])] for row in bad.rows]
        caption = f"Unreadable images, {len(rows)} of {number(total)}"
        tables = [Table(caption, ["Id", "Path", "Reason"], rows, numeric=False, folded=len(rows) > 5)]
    return Section("Data", facts=facts, tables=tables)


def run_section(run: Mapping[str, Any]) -> Section:
    """What every stage cost."""
    facts = {name: value for name, value in run.items() if name not in ("stages", "seconds") and value is not None}
    rows = [
        [
            Cell(str(stage.get("name"))),
            Cell(str(stage.get("branch") or "all models")),
            Cell("reused" if stage.get("reused") else wording.duration(stage.get("seconds"))),
        ]
        for stage in run.get("stages") or []
    ]
    caption = f"Cost per stage, {wording.duration(run.get('seconds'))} in all"
    tables = [Table(caption, ["Stage", "Branch", "Time"], rows)] if rows else []
    return Section("Run and cost", facts=readable(facts), tables=tables)


def readable(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested facts as pairs of name and text, credentials cut out, unknown ones left out."""
    return [(name.replace("_", " "), text) for name, text in flatten(mapping).items() if text not in ("null", "")]
