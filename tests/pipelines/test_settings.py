"""Settings: which of their keys decide results, and which name files of the user's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import pytest

from pipelines.configs.reading import load_config
from pipelines.errors import ConfigError
from pipelines.settings import HOW, USER_FILE, Settings, deciding, user_files


class Part(Settings):
    logo: Annotated[str | None, USER_FILE] = None
    workers: Annotated[int, HOW] = 1
    size: tuple[int, int] = (1, 2)


class Whole(Settings):
    seed: int = 0
    part: Part = Part()
    perhaps: Part | None = None
    several: tuple[Part, ...] = ()
    means: Annotated[Part, HOW] = Part()


def test_what_says_how_does_not_decide() -> None:
    assert deciding(Part(workers=3)) == {"logo": None, "size": [1, 2]}
    given = {"logo": None, "size": [1, 2]}
    assert deciding(Whole()) == {"seed": 0, "part": given, "perhaps": None, "several": []}
    assert deciding(Whole(perhaps=Part(workers=7), means=Part(size=(3, 4))))["perhaps"] == given
    assert deciding(Whole(part=Part(size=(3, 4)))) != deciding(Whole())


def test_what_says_how_decides_in_no_place() -> None:
    assert deciding(Whole(several=(Part(workers=7),))) == deciding(Whole(several=(Part(),)))


def test_a_file_of_the_users_is_named_by_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "logo.png"
    file.write_bytes(b"red")
    whole = Whole(part=Part(logo=str(file)), several=(Part(logo=str(file)),))
    digest = hashlib.sha256(b"red").hexdigest()
    values = deciding(whole, contents=True)
    assert values["part"]["logo"] == values["several"][0]["logo"] == digest
    assert deciding(whole)["part"]["logo"] == str(file), "as it was given, unless asked for"
    assert deciding(Part(), contents=True)["logo"] is None
    with pytest.raises(ConfigError, match="logo: cannot read .*nowhere.png: .*; give a file that can be read"):
        deciding(Part(logo=str(tmp_path / "nowhere.png")), contents=True)


def test_a_file_in_the_home_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "logo.png").write_bytes(b"red")
    assert deciding(Part(logo="~/logo.png"), contents=True)["logo"] == hashlib.sha256(b"red").hexdigest()


def test_files_of_the_users_are_found_wherever_they_are_named() -> None:
    whole = Whole(
        part=Part(logo="a.png"), perhaps=Part(logo="b.png"), several=(Part(), Part(logo="c.png")), means=Part()
    )
    assert list(user_files(whole)) == [
        (("part", "logo"), "a.png"),
        (("perhaps", "logo"), "b.png"),
        (("several", 1, "logo"), "c.png"),
    ]
    assert not list(user_files(Whole()))


def test_files_of_a_config_are_found_without_knowing_its_sections() -> None:
    config = load_config("demo", ["visible_watermark.logo=logo.png", "models.0.weights=w.pth"])
    assert set(user_files(config)) == {
        (("visible_watermark", "logo"), "logo.png"),
        (("models", 0, "weights"), "w.pth"),
    }
    without = load_config("demo", ["visible_watermark=null", "models.0.weights=w.pth"])
    assert list(user_files(without)) == [(("models", 0, "weights"), "w.pth")]
