"""What commands on single pictures share: loading a model, a row for each picture, and exit codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from pipelines.commands.arguments import print_json
from pipelines.commands.model_options import read_model_args
from pipelines.errors import ConfigError, DecodeError

if TYPE_CHECKING:  # loaded when a command runs, not when the command line is built
    from nullspace.model.vit import SplitViT

NOT_FOUND = 3  # exit code: at least one file has no readable mark
UNREADABLE = 4  # exit code: at least one file is not a readable picture; the others were processed


def load_with_notes(model: str, weights: str, model_args: list[str] | None, ema: bool) -> SplitViT:
    """The model; notes about its weights are printed to stderr."""
    from pipelines.engine.models import load_model

    loaded = load_model(model, weights, seed=0, device="cpu", model_args=read_model_args(model_args), ema=ema)
    if loaded.notes or loaded.weights_source.endswith(")"):
        facts = "; ".join((loaded.weights_source, *loaded.notes))
        Console(stderr=True).print(f"model  {facts}", highlight=False, markup=False, soft_wrap=True)
    return loaded


def names_of(classes: str | None) -> list[str] | None:
    """The names of classes in labelled data `--classes`; None without. Raises ConfigError for data without names."""
    if classes is None:
        return None
    from pipelines.data.sources import SourceSettings, open_source

    names = open_source(SourceSettings(path=classes)).class_names()
    if names is None:
        raise ConfigError(f"--classes {classes}: its labels are numbers, without names; give class folders")
    return names


def each_picture(
    name: str,
    pictures: list[tuple[Path, Path]],
    targets: Iterable[Path],
    work: Callable[[Path, Path], dict[str, Any]],
    as_json: bool,
    line: Callable[[dict[str, Any]], str],
) -> list[dict[str, Any]]:
    """A row for every picture, counted under `name`; one that cannot be opened gets an `error`."""
    from pipelines.engine.progress import Progress

    console = Console(stderr=as_json)
    rows = []
    with Progress(console).of(name).counting(len(pictures), "pictures") as counter:
        for (source, _), target in zip(pictures, targets, strict=True):
            try:
                row = work(source, target)
            except DecodeError as error:
                row = {"file": str(source), "error": str(error).removeprefix(f"{source}: ")}
            rows.append(row)
            counter.add(1)
            if not as_json:
                text = f"{row['file']}  error: {row['error']}" if "error" in row else line(row)
                for each in (text, *(f"  note: {note}" for note in row.get("notes", []))):
                    console.print(each, highlight=False, markup=False, soft_wrap=True)
    return rows


def finish(rows: list[dict[str, Any]], as_json: bool, missing: list[dict[str, Any]]) -> None:
    if as_json:
        print_json(rows)
    if any("error" in row for row in rows):
        raise typer.Exit(UNREADABLE)
    if missing:
        raise typer.Exit(NOT_FOUND)


def model_words(row: Mapping[str, Any]) -> str:
    """What the model sees of a change, on one line."""
    return ", ".join(change_words(row))


def change_words(row: Mapping[str, Any]) -> list[str]:
    """Whether the prediction is the same, how far probabilities changed, and how far tokens moved."""
    same = "same prediction" if row["same_prediction"] else "OTHER PREDICTION"
    worst = f"the worst {_percent(row['largest_token_change'])}"
    moved = f"tokens moved {_percent(row['token_change'])} (root mean square), {worst}"
    return [same, f"max |Δp| {at_most(row['probability_change'])}", moved]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def at_most(value: float) -> str:
    """One significant digit, never less than the value: a maximum is not rounded down."""
    if value == 0:
        return "0"
    unit = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / unit - 1e-9) * unit:.1g}"
