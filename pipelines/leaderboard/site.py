"""The pages of a leaderboard: an index of all boards, a card for each model, figures and pictures beside them.

No server and nothing from elsewhere: it works from a file and wherever static files are served.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from nullspace.errors import NullspaceError
from pipelines.files import write_json, write_text
from pipelines.leaderboard.boards import Board, Row
from pipelines.leaderboard.card import article, how_measured
from pipelines.leaderboard.data import boards_json, hub_results
from pipelines.leaderboard.figures import figures
from pipelines.report.drawing import DARK, LIGHT
from pipelines.report.inputs import thumbnail
from pipelines.report.page import templates
from pipelines.report.parts import ReportFigure
from pipelines.report.saved_figures import file_stem

INDEX, DATA, MODELS, HUB = "index.html", "leaderboard.json", "models", ".eval_results"


def write_site(boards: list[Board], out: Path, *, title: str, dataset: str | None = None) -> Path:
    """Write the site into the folder `out` and return its first page; files of the same names are replaced.

    `dataset` is a benchmark's data set on Hugging Face: with it, each model's figures are also written in the form that
    is read there. Raises NullspaceError where `out` is no folder to write to.
    """
    rows = [row for board in boards for row in board.rows]
    stems = {id(row): file_stem(row.name, number) for number, row in enumerate(rows, 1)}
    try:
        (out / MODELS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NullspaceError(f"cannot write the site to {out}: {error}; give another folder with --output") from error
    cards = _Cards()
    for board in boards:
        for row in board.rows:
            stem = stems[id(row)]
            cards.write(row, out / MODELS / f"{stem}.html")
            if dataset is not None:
                _write_hub(out / HUB / f"{stem}.yaml", hub_results(row, board.columns, dataset))
    write_json(out / DATA, boards_json(boards))
    return write_text(out / INDEX, _index(boards, title, {id_: f"{MODELS}/{stem}.html" for id_, stem in stems.items()}))


def _index(boards: list[Board], title: str, pages: dict[int, str]) -> str:
    count = sum(len(board.rows) for board in boards)
    models = "1 model" if count == 1 else f"{count} models"
    return (
        templates()
        .get_template("board.html.j2")
        .render(
            title=title,
            subtitle=models if len(boards) == 1 else f"{models} on {len(boards)} sets of images",
            boards=boards,
            figures=[list(figures(board)) for board in boards],
            pages={row.name: pages[id(row)] for board in boards for row in board.rows},
        )
    )


class _Cards:
    """Makes the models' pages; figures and pictures of a page are written into a folder beside it."""

    def __init__(self) -> None:
        self._folder = Path()
        sources: dict[str, Callable[..., str]] = {
            "light": lambda figure: self._figure(figure, "light"),
            "dark": lambda figure: self._figure(figure, "dark"),
            "picture": self._picture,
        }
        self._page = templates(**sources).get_template("card.html.j2")  # once: compiling it takes longer than a page

    def write(self, row: Row, file: Path) -> None:
        """The page of a model, with its folder."""
        self._folder = file.with_suffix("")
        self._folder.mkdir(exist_ok=True)
        page = self._page.render(name=row.name, article=article(row.entry), measured=how_measured(row.entry))
        write_text(file, page)

    def _figure(self, figure: ReportFigure, theme: str) -> str:
        """The address of its file; one that its run saved is the same for both themes, of which the page asks."""
        content = figure.draw(DARK if theme == "dark" else LIGHT)
        if theme == "dark" and content == figure.draw(LIGHT):
            return self._address(f"{figure.name}-light.png")
        return self._written(f"{figure.name}-{theme}.png", content)

    def _picture(self, path: Path) -> str:
        stage = path.parent.parent.name.partition("--")[0]  # in whose folder it lies
        return self._written(f"{stage}-{path.name}", thumbnail(path))

    def _written(self, name: str, content: bytes) -> str:
        (self._folder / name).write_bytes(content)
        return self._address(name)

    def _address(self, name: str) -> str:
        return f"{self._folder.name}/{name}"


def _write_hub(file: Path, results: list[dict[str, object]]) -> None:
    file.parent.mkdir(exist_ok=True)
    write_text(file, yaml.safe_dump(results, sort_keys=False, allow_unicode=True))
