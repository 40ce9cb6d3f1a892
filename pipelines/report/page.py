"""`report.html`: one file for someone in a hurry and then for a reviewer. No scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jinja2
import yaml

from pipelines import wording
from pipelines.redact import flatten, redact
from pipelines.report import drawing
from pipelines.report.inputs import thumbnail, unreadable
from pipelines.report.model import Model, across, columns_of
from pipelines.report.outcomes import JsonObject
from pipelines.report.parts import Cell, ReportFigure, Section, Table
from pipelines.wording import format_number

TEMPLATE = "report.html.j2"


def write_report(
    results: JsonObject,
    models: list[Model],
    out: Path,
    *,
    ingests: Sequence[Path] = (),
    config: JsonObject | None = None,
) -> Path:
    """Write the report of `results` to the file `out` and return its path.

    Args:
        results: the content of results.json.
        models: the same, as the page reads it.
        out: the HTML file; its folder is made.
        ingests: folders of the ingest stages, for unreadable images.
        config: the resolved configuration, shown in full without credentials.
    """
    page = (
        templates()
        .get_template(TEMPLATE)
        .render(
            title=(results.get("run") or {}).get("experiment") or "nullspace",
            subtitle=subtitle(results),
            warnings=results.get("warnings") or [],
            articles=[model.article(position) for position, model in enumerate(models, 1)],
            comparisons=[comparison(models), *across(models)] if len(models) > 1 else [],
            closing=list(closing_sections(results, ingests, config)),
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return out


def templates(**sources: Callable[..., str]) -> jinja2.Environment:
    """The templates, with every string escaped; a name they do not know is an error, not an empty place.

    `light` and `dark` give the source of a figure for the two themes, `picture` that of an example picture: data URIs,
    unless `sources` has other functions of these names.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"light": light, "dark": dark, "picture": picture, "number": format_number, **sources}
    return environment


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


def subtitle(results: JsonObject) -> str:
    """Number of images and models, time taken."""
    run, data, models = (results.get(name) or {} for name in ("run", "data", "models"))
    count = len(models)
    words = [f"{format_number(data['images'])} images"] if wording.is_number(data.get("images")) else []
    words.append(f"{count} model" if count == 1 else f"{count} models")
    if wording.is_number(run.get("seconds")):
        words.append(f"stages took {wording.format_duration(run['seconds'])}")
    return " · ".join(words)


def comparison(models: list[Model]) -> Table:
    """The table that compares models, with the columns that their stages provide."""
    columns = columns_of(models)
    return Table(
        "All models: share of predictions unchanged, with 95 % interval and n, under each noise",
        ["Model", *columns],
        [[Cell(model.label), *model.cells(columns)] for model in models],
    )


def closing_sections(results: JsonObject, ingests: Sequence[Path], config: JsonObject | None) -> Iterator[Section]:
    """What holds for the whole run: data, cost, environment, configuration."""
    yield data_section(results.get("data") or {}, ingests)
    yield run_section(results.get("run") or {})
    environment = results.get("environment") or {}
    if environment:
        yield Section("Environment", facts=readable(environment))
    if config:
        text = redact(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        yield Section("Configuration", code=text.strip())


def data_section(data: JsonObject, ingests: Sequence[Path]) -> Section:
    """Where the images came from, and those that could not be read."""
    bad = unreadable(ingests)
    total = data["errors"] if isinstance(data.get("errors"), int) else bad.total
    facts = [(name, text) for name, text in readable(data) if name != "errors"]
    facts.append(("Unreadable images", format_number(total)))
    facts += [("All unreadable images", path) for path in bad.files]
    tables = []
    if bad.rows:
        rows = [[Cell(row["id"]), Cell(redact(row["path"])), Cell(row["reason"])] for row in bad.rows]
        caption = f"Unreadable images, {len(rows)} of {format_number(total)}"
        tables = [Table(caption, ["Id", "Path", "Reason"], rows, numeric=False, folded=len(rows) > 5)]
    return Section("Data", facts=facts, tables=tables)


def run_section(run: JsonObject) -> Section:
    """What every stage cost."""
    facts = {name: value for name, value in run.items() if name not in ("stages", "seconds") and value is not None}
    rows = [
        [
            Cell(str(stage.get("name"))),
            Cell(str(stage.get("branch") or "all models")),
            Cell("reused" if stage.get("reused") else wording.format_duration(stage.get("seconds"))),
        ]
        for stage in run.get("stages") or []
    ]
    caption = f"Cost per stage, {wording.format_duration(run.get('seconds'))} in all"
    tables = [Table(caption, ["Stage", "Branch", "Time"], rows)] if rows else []
    return Section("Run and cost", facts=readable(facts), tables=tables)


def readable(mapping: JsonObject) -> list[tuple[str, str]]:
    """Nested facts as pairs of name and text, credentials cut out, unknown ones left out."""
    return [(name.replace("_", " "), text) for name, text in flatten(mapping).items() if text not in ("null", "")]
