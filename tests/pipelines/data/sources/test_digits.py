"""The built-in digits as a source."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.data.sources import Record
from tests.pipelines.data.sources.made import listed, opened


def test_the_digits_are_a_source() -> None:
    from pipelines.digits import data

    source = opened(kind="digits")
    records = list(source.records())
    held_out = data.load("held_out")
    assert [record.id for record in records] == held_out.ids
    found = np.asarray(Image.open(io.BytesIO(source.read(records[17]))))
    np.testing.assert_array_equal(found, held_out.images[17])
    assert records[17].label == held_out.labels[17]
    assert len(listed(opened(kind="digits", split="all"))) == 1797
    with pytest.raises(OSError, match="no image 600 in the digits split held_out"):
        source.read(Record("digit-9999", 0, "", 600))
