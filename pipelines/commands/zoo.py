"""The zoo on the command line: rows as they come, progress on stderr, the whole table at the end."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from nullspace.errors import NullspaceError
from nullspace.kernel.zoo import ZooRow, zoo_names, zoo_row
from pipelines.commands.zoo_table import STYLES, render
from pipelines.files import write_text


def show_zoo(
    pattern: str,
    weights: str | None,
    *,
    seed: int,
    rtol: float | None,
    style: str,
    max_parameters: int,
    output: Path | None = None,
) -> list[ZooRow]:
    """Every model that matches, measured and shown; one line of progress each on stderr.

    The table goes to stdout, or to the file `output`. Ctrl-C ends the search and shows what there is.
    """
    if weights not in ("random", "pretrained"):
        raise NullspaceError(
            f"expected --random or --weights pretrained for a zoo, got {weights or 'neither'}: one file does not fit "
            "many models, and pretrained weights are a download each"
        )
    if style not in STYLES:
        raise NullspaceError(f"expected a format of {', '.join(STYLES)}, got {style!r}")
    names, rows, began = zoo_names(pattern), list[ZooRow](), time.perf_counter()
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
    text = render(rows, style)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)
    return rows
