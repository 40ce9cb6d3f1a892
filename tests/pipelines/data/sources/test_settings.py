"""The options of a source: those without a meaning are refused, and all are described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.data.sources import SourceSettings
from pipelines.errors import SourceError
from tests.pipelines.data.sources.made import classes, opened

BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"path": "x", "pathh": "y"}, "pathh"),
    "unknown kind": (
        {"path": "x", "kind": "zip"},
        "'auto', 'folder', 'csv', 'unlabelled', 'parquet', 'webdataset' or 'digits'",
    ),
    "no path": ({}, "`path` is needed"),
    "a path for digits": ({"kind": "digits", "path": "x"}, "kind digits is built in and has no path, got 'x'"),
    "no images": ({"path": "x", "limit": 0}, "greater than or equal to 1"),
    "negative seed": ({"path": "x", "seed": -1}, "greater than or equal to 0"),
}


@pytest.mark.parametrize(("given", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourceSettings(**given)


@pytest.mark.parametrize("option", ["labels", "file_column", "image_column", "label_column", "id_column"])
def test_options_of_another_kind_are_refused_not_ignored(tmp_path: Path, option: str) -> None:
    with pytest.raises(SourceError, match=f"source.{option} means nothing for kind folder, only for .*(csv|parquet)"):
        opened(classes(tmp_path), kind="folder", **{option: "x"})


def test_every_option_is_described() -> None:
    assert all(field.description for field in SourceSettings.model_fields.values())
