"""Folders of images: classes by their names, or none; odd names, links, files that cannot be read."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.data.sources.subset import Subset
from pipelines.errors import SourceError
from tests.pipelines.data.sources.made import classes, failures, fill, grey, listed, opened, png


def test_class_folders_are_labelled_by_their_sorted_names(tmp_path: Path) -> None:
    source = opened(classes(tmp_path))
    assert listed(source) == {"ant/deep/er/c.webp": 0, "cat/a.JPG": 1, "cat/b.png": 1, "dog/d.png": 2}
    assert {record.id: grey(source.read(record)) for record in source.records()}["dog/d.png"] == 3


def test_labels_are_torchvisions(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    classes(tmp_path)
    fill(tmp_path, "n10/x.png", "n9/x.png", "Zebra/x.png")
    expected = {str(Path(path).relative_to(tmp_path)): label for path, label in ImageFolder(str(tmp_path)).samples}
    assert listed(opened(tmp_path, kind="folder")) == expected


def test_images_without_labels(tmp_path: Path) -> None:
    assert listed(opened(fill(tmp_path, "b.png", "a.png"))) == {"a.png": -1, "b.png": -1}


def test_class_folders_can_be_taken_as_unlabelled(tmp_path: Path) -> None:
    assert set(listed(opened(classes(tmp_path), kind="unlabelled")).values()) == {-1}


def test_the_order_is_the_same_each_time(tmp_path: Path) -> None:
    source = opened(classes(tmp_path))
    assert list(source.records()) == list(source.records()) == sorted(source.records(), key=lambda r: r.id)


def test_hidden_files_are_left_out_and_others_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "a/x.png", "a/.hidden.png", ".git/y.png", "__MACOSX/z.png")
    (tmp_path / "a/notes.txt").write_text("hello")
    (tmp_path / "README").write_text("hello")
    with caplog.at_level(logging.WARNING):
        assert list(listed(opened(tmp_path))) == ["a/x.png"]
    assert "left out 2 files (README, a/notes.txt): not named as images" in caplog.text


def test_image_formats_that_cannot_be_decoded_are_listed_not_lost(tmp_path: Path) -> None:
    assert list(listed(opened(fill(tmp_path, "a.heic", "b.png", "c.svg")))) == ["a.heic", "b.png", "c.svg"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    classes(tmp_path / "real")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cat").symlink_to(tmp_path / "real/cat")
    assert list(listed(opened(tmp_path / "data"))) == ["cat/a.JPG", "cat/b.png"]
    (tmp_path / "real/cat/loop").symlink_to(tmp_path / "real")
    with pytest.raises(SourceError, match="cat/loop is a link to a folder that holds it; remove the link"):
        listed(opened(tmp_path / "real"))


def test_files_that_cannot_be_read_fail_one_by_one(tmp_path: Path) -> None:
    fill(tmp_path, "good.png")
    (tmp_path / "broken link.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    source = opened(tmp_path)
    assert failures(source) == {"broken link.png": "file not found", "pipe.png": "not a regular file"}
    assert len(source.digest()) == 64


def test_images_beside_class_folders_are_an_error(tmp_path: Path) -> None:
    fill(classes(tmp_path), "x.png", "y.png")
    with pytest.raises(SourceError, match=r"2 files \(x.png, y.png\) lie beside the class folders and have no class"):
        listed(opened(tmp_path, kind="folder"))


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
def test_a_name_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
        file.write(png())
    with pytest.raises(SourceError, match=r"caf\\xe9.png' is not valid UTF-8; rename the file"):
        listed(opened(tmp_path))


@pytest.mark.parametrize("name", ["sp ace.png", "a::b.png", "100%.png", "[x]*?.png", "ünïcode.png", "#.png", "~.png"])
def test_odd_names_are_read(tmp_path: Path, name: str) -> None:
    source = opened(fill(tmp_path / "od::d [1]", name))
    (record,) = source.records()
    assert record.id == name and source.read(record) == png()


@pytest.mark.real
def test_real_images_are_listed_and_decoded(assets: Path) -> None:
    from timm.data.transforms_factory import create_transform

    from pipelines.data.decode import decode

    source = opened(assets / "imagenet_val_600")
    assert len(listed(source)) == 600
    part = Subset(source, 5, 0)
    transform: Any = create_transform((3, 224, 224), normalize=False)
    for record in part.records():
        data = source.read(record)
        expected = transform(Image.open(io.BytesIO(data)).convert("RGB")).numpy()
        np.testing.assert_array_equal(decode(data, transform, max_pixels=10**7), expected)
