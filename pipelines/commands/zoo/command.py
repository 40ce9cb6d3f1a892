"""The command `nullspace zoo`: the exact kernel of many models; rows as they come, the whole table at the end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nullspace.errors import NullspaceError
from pipelines.commands.arguments import output_option
from pipelines.commands.kernel import RankTolerance, Seed

if TYPE_CHECKING:  # loaded when the command runs
    from nullspace.kernel.zoo import ZooRow


def zoo(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="As in a shell, e.g. 'vit_*'; quote it.")],
    random: Annotated[
        bool | None, typer.Option("--random/--pretrained", help="Random weights, or a download for each model.")
    ] = None,
    seed: Seed = 0,
    rtol: RankTolerance = None,
    max_parameters: Annotated[
        float, typer.Option(help="Larger models are not run, so their shifts are not measured.")
    ] = 400e6,
    style: Annotated[str, typer.Option("--format", metavar="STYLE", help="table, csv, json or markdown.")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[Path | None, output_option("FILE", "Write the table to this file.")] = None,
) -> None:
    """Tabulate the exact kernel of every timm model that matches PATTERN: rank, nullity, shift directions.

    One line per model on stderr while it works; Ctrl-C ends it with the rows so far.

    Example: `nullspace zoo 'deit*' --random --format markdown`
    """
    from pipelines.commands.zoo.table import STYLES, render
    from pipelines.files import write_text

    style = "json" if as_json else style
    if random is None:
        raise NullspaceError("expected --random or --pretrained, got neither: pretrained weights are a download each")
    if style not in STYLES:
        raise NullspaceError(f"expected a format of {', '.join(STYLES)}, got {style!r}")
    weights = "random" if random else "pretrained"
    text = render(_measured(pattern, weights, seed=seed, rtol=rtol, max_parameters=int(max_parameters)), style)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


def _measured(pattern: str, weights: str, *, seed: int, rtol: float | None, max_parameters: int) -> list[ZooRow]:
    """A row for every model that matches, each with a line of progress on stderr; fewer after Ctrl-C."""
    from nullspace.kernel.zoo import zoo_names, zoo_row

    names, rows, began = zoo_names(pattern), list["ZooRow"](), time.perf_counter()
    try:
        for number, name in enumerate(names, start=1):
            row = zoo_row(name, weights=weights, seed=seed, rtol=rtol, max_parameters=max_parameters)
            rows.append(row)
            found = "refused" if row.nullity is None else f"nullity {row.nullity}"
            print(f"{number}/{len(names)}  {name}  {found}  {row.seconds:.1f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {len(rows)} of {len(names)} models", file=sys.stderr)
    refused = sum(row.nullity is None for row in rows)
    seconds = time.perf_counter() - began
    print(f"{len(rows)} models, {refused} of them refused, {seconds:.0f} s", file=sys.stderr)
    return rows
