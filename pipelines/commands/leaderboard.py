"""The command `nullspace leaderboard`: a static site that compares the models of many runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.arguments import AsJson, output_option, print_json
from pipelines.local_options import here

if TYPE_CHECKING:  # loaded when the command runs
    from pipelines.leaderboard.boards import Board


def leaderboard(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", callback=here("RUN"), help="Work folders of finished runs, or results.json."),
    ],
    out: Annotated[
        Path,
        output_option("FOLDER", "Folder of the site."),
    ] = Path("site"),
    title: Annotated[str, typer.Option(help="Heading of the site.")] = "Nullspaces of Vision Transformers",
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME", help="Also write .eval_results for Hugging Face, for this benchmark's data set there."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the models of many runs on a static site: a table with intervals, a card for each model, JSON.

    Models that were measured on other images, or with another seed, stand in a table of their own; figures that were
    made with other settings in a column of their own. Nothing is averaged over columns.

    Example: `nullspace leaderboard runs/demo runs/deit_tiny -o site`
    """
    from pipelines.leaderboard.boards import boards_of
    from pipelines.leaderboard.data import boards_json
    from pipelines.leaderboard.entries import read_entries
    from pipelines.leaderboard.site import write_site

    boards = boards_of(read_entries(runs))
    page = write_site(boards, out, title=title, dataset=dataset)
    if as_json:
        print_json(boards_json(boards))
    else:
        for board in boards:
            print(_summary(board))
        print(f"the site: {page}")


def _summary(board: Board) -> str:
    count = len(board.rows)
    names = ", ".join(row.name for row in board.rows)
    return f"{board.images.count} images, seed {board.images.seed}: {count} model{'s' * (count > 1)} ({names})"
