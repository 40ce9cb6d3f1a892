"""Does memory grow with the number of images? The stages that touch every image, at 2 000, 20 000 and 200 000.

    python benchmarks/bench_memory.py [--images 2000 20000 200000]          about 12 minutes on two cores

The images are generated: digits of 32×32 pixels as PNG bytes in Parquet, under ids of their own; model and pipeline are
real. Every size is a process of its own. Driver: its peak resident memory. Workers: the largest any of them had.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import report
from PIL import Image
from stages import Bench

from pipelines.configs.reading import load_config
from pipelines.digits import data

_PER_FILE = 10_000
_WITH_MODEL = ("reference", "kernel_noise", "learned_noise")


class Watch(threading.Thread):
    """Peak resident memory of this process and of the largest Ray worker below it, looked at five times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.driver, self.worker = 0, 0

    def run(self) -> None:
        own = psutil.Process()
        while True:
            self.driver = max(self.driver, own.memory_info().rss)
            for child in own.children(recursive=True):
                try:
                    if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::"):
                        self.worker = max(self.worker, child.memory_info().rss)
                except psutil.Error:
                    continue
            time.sleep(0.2)


def generate(folder: Path, count: int) -> None:
    """Parquet files of PNG bytes, ids and labels."""
    digits = data.load("held_out")
    encoded = []
    for image in digits.images:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "png")
        encoded.append(out.getvalue())
    for start in range(0, count, _PER_FILE):
        numbers = range(start, min(start + _PER_FILE, count))
        table = pa.table(
            {
                "id": [f"{number:09d}" for number in numbers],
                "image": [encoded[number % len(encoded)] for number in numbers],
                "label": [int(digits.labels[number % len(encoded)]) for number in numbers],
            }
        )
        pq.write_table(table, folder / f"{start:09d}.parquet", row_group_size=1000)


def measure(count: int) -> dict[str, Any]:
    """One size, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        generate(images, count)
        overrides = [f"source={{kind: parquet, path: {images}}}", "ingest.shard_images=1000"]
        overrides += ["resources.workers=2", *(f"{name}.batch_images=250" for name in _WITH_MODEL)]
        config = load_config("demo", overrides)
        watch = Watch()
        watch.start()
        with Bench(config, Path(folder, "work")) as bench:
            seconds = {name: bench.stage(name).seconds for name in ("ingest", *_WITH_MODEL)}
    return {
        "images": count,
        "driver MiB": round(watch.driver / 2**20),
        "largest worker MiB": round(watch.worker / 2**20),
        **{f"{name} s": round(value, 1) for name, value in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2_000, 20_000, 200_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        torch.set_num_threads(1)
        print(json.dumps(measure(given.one)))
        return
    rows = []
    for count in given.images:
        done = subprocess.run([sys.executable, __file__, "--one", str(count)], stdout=subprocess.PIPE, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        first = rows[0] if rows else row
        rows.append(row | {"driver ratio": row["driver MiB"] / first["driver MiB"]})
        rows[-1]["worker ratio"] = row["largest worker MiB"] / first["largest worker MiB"]
    report("Peak memory over the number of images", rows)


if __name__ == "__main__":
    main()
