"""Where images come from: each kind of source lists records and reads the bytes of one record.

`settings.py` says what a user may ask for, `recognise.py` finds the kind, `storage.py` reads local paths and URIs;
`folder.py`, `table.py`, `parquet.py`, `webdataset.py` and `digits.py` are the kinds, `subset.py` takes a fixed part of
any of them.
May import: errors, digits. May not import: what is made of records.
"""

from __future__ import annotations

from pipelines.data.sources.recognise import open_source
from pipelines.data.sources.record import Record, Source
from pipelines.data.sources.settings import SourceSettings

__all__ = ["Record", "Source", "SourceSettings", "open_source"]
