"""Figures and pictures of a report as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.report.model import Model
from pipelines.report.saved_figures import file_stem, save_figures


def test_figures_are_saved_and_say_the_same_twice(models: list[Model], tmp_path: Path) -> None:
    paths = save_figures(models, tmp_path / "figures")
    # The second model: no kernel bars, no pictures.
    assert len({path.name for path in paths}) == len(paths) == 11 + 7 + 9
    names = {path.name for path in paths}
    assert {"digits_vit-spectrum.png", "digits_vit-visible_watermark-examples.png"} <= names
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in save_figures(models, tmp_path / "figures")]


@pytest.mark.parametrize(
    ("label", "stem"), [("deit_tiny", "deit_tiny"), ("vit <b>", "vit_b-3"), ("<>", "model-3"), ("a/b", "a_b-3")]
)
def test_a_label_becomes_part_of_a_file_name(label: str, stem: str) -> None:
    assert file_stem(label, 3) == stem
