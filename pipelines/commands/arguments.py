"""Arguments and options that several commands share, and printing JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.local_options import OUTPUT, WORKDIR, here

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. search.trials=4 or models.0.weights=FILE."),
]
ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        callback=here("CONFIG"),
        help="A YAML file, or a shipped one: demo, deit_tiny, imagenet, zoo.",
    ),
]
WorkdirArgument = Annotated[
    Path,
    typer.Argument(
        metavar="WORKDIR",
        callback=here("WORKDIR", WORKDIR),
        help="Work folder of a run.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def output_option(metavar: str, help: str) -> Any:
    """The option `--output`, `-o` of a command that writes files of this machine."""
    return typer.Option("--output", "-o", metavar=metavar, callback=here("--output", OUTPUT), help=help)


def print_json(content: Any) -> None:
    """To standard output, indented, with a newline at the end."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
