"""Small sources of every kind, and what is found in a source."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipelines.data.sources import Record, Source, SourceSettings, open_source
from pipelines.data.sources.record import Found


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("L", (2, 2), value).save(out, format="PNG")
    return out.getvalue()


def fill(folder: Path, *names: str) -> Path:
    """Write an image under each name; its grey level is its place in `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(value))
    return folder


def opened(path: Path | str | None = None, **given: Any) -> Source:
    return open_source(SourceSettings(path=None if path is None else str(path), **given))


def listed(source: Source) -> dict[str, int]:
    records = list(source.records())
    assert len({record.id for record in records}) == len(records)
    return {record.id: record.label for record in records}


def grey(data: bytes) -> int:
    return int(np.asarray(Image.open(io.BytesIO(data)))[0, 0])


def failures(source: Source) -> dict[str, str]:
    """Why `read` fails, per id, of the records whose bytes cannot be had."""
    found = {}
    for record in source.records():
        try:
            source.read(record)
        except OSError as error:
            found[record.id] = str(error)
    return found


def in_pieces(source: Source) -> list[list[Record]]:
    return [list(pickle.loads(pickle.dumps(source)).listed(piece, Found())) for piece in source.pieces()]


def classes(folder: Path) -> Path:
    return fill(folder, "cat/b.png", "cat/a.JPG", "ant/deep/er/c.webp", "dog/d.png")


def flat(folder: Path, table: str = "file,label,wnid\na.png,3,n1\nsub/b.png,0,n2\nc.png,,n3\n") -> Path:
    fill(folder, "a.png", "sub/b.png", "c.png")
    (folder / "labels.csv").write_text(table)
    return folder


def parquet(target: Path, rows: int = 5, start: int = 0, **columns: Any) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    cells = {"image": [png(start + row) for row in range(rows)], **columns}
    pq.write_table(pa.table({name: cell for name, cell in cells.items() if cell is not None}), target, row_group_size=2)
    return target


def shard(target: Path, members: dict[str, bytes]) -> Path:
    """A tar file of these members, in order."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target


def samples(count: int = 3, start: int = 0) -> dict[str, bytes]:
    """Members as img2dataset and timm write them: image, label, and what else is known."""
    members: dict[str, bytes] = {}
    for number in range(start, start + count):
        members[f"{number:06d}.png"] = png(number)
        members |= {f"{number:06d}.cls": str(number % 2).encode(), f"{number:06d}.json": b'{"label": 7}'}
    return members


KINDS = ["folder", "unlabelled", "csv", "parquet", "webdataset"]


def any_kind(kind: str, folder: Path) -> Path:
    if kind == "folder":
        return classes(folder)
    if kind == "csv":
        return flat(folder)
    if kind == "parquet":
        return parquet(folder / "p.parquet", label=list(range(5))).parent
    if kind == "webdataset":
        return shard(folder / "s.tar", samples()).parent
    return fill(folder, "a.png", "b.png")
