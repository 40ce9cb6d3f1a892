"""What distribution costs and brings: the pipeline beside plain loops on the same cores, one run, ratios.

    python benchmarks/bench_pipeline.py --assets FOLDER [--images 2000] [--only NAME …]      about 25 minutes, two cores

ingest     our stage / a torch DataLoader with as many worker processes and the same transform, which writes nothing
reference  our stage / a plain loop of the model over images already in memory, on all cores
kernel_noise, learned_noise
           our stage / a plain loop that runs the model as often on images already in memory, on all cores
nodes      our stage on two nodes of one core / on one
search     seconds of 12 trials by Tune's function API without reuse / by our trials

Rates are images per second from the first shard begun to the last one ended; what comes before (starting workers,
loading the model) is reported apart, as `start s`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from common import DEIT, deit_tiny, report, with_assets
from PIL import Image
from stages import Bench
from torch.utils.data import DataLoader, Dataset

from pipelines.configs.pipeline import PipelineConfig
from pipelines.configs.reading import load_config
from pipelines.data.shards import read_shard, shard_path, shard_sizes
from pipelines.evaluations import pixel_noise, token_noise

# An evaluation runs the model once under each of its conditions.
TIMES = {"reference": 1, "kernel_noise": len(pixel_noise.CONDITIONS), "learned_noise": len(token_noise.CONDITIONS)}
BATCH = 50


class Files(Dataset[torch.Tensor]):
    """Decoded and transformed images, for the DataLoader."""

    def __init__(self, files: list[Path], transform: Callable[[Any], torch.Tensor]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB"))


def copies(assets: Path, folder: Path, count: int) -> list[Path]:
    """So many files of real images, each under a name of its own."""
    originals = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))
    folder.mkdir(parents=True)
    files = [folder / f"{number:06d}.JPEG" for number in range(count)]
    for number, file in enumerate(files):
        shutil.copyfile(originals[number % len(originals)], file)
    return files


def config(assets: Path, images: Path, workers: int) -> PipelineConfig:
    overrides = [
        f"source={{kind: unlabelled, path: {images}}}",
        f"models.0.weights={assets / DEIT / 'model.safetensors'}",
        f"ingest.shard_images={BATCH}",
        *(f"{name}.batch_images={BATCH}" for name in TIMES),
        f"resources.workers={workers}",
    ]
    return load_config("deit_tiny", overrides)


def stage_rate(bench: Bench, name: str, rows: str) -> tuple[float, float]:
    """Images per second while shards are worked on, and seconds before the first is begun, from the files' times.

    A shard's work ends when its file appears. The first to appear marks the begin: its images are left out.
    """
    for other in bench.stages[name].inputs.values():
        bench.stage(other.name)
    started = time.time()
    done = bench.stage(name)
    sizes = shard_sizes(bench.done["ingest"].folder)
    ended = sorted((done.folder / f"{rows}-{shard}.parquet").stat().st_mtime for shard in sizes)
    workers = bench.compute.workers().count
    begin, counted = ended[workers - 1], sum(sizes.values()) * (1 - workers / len(sizes))
    return counted / (ended[-1] - begin), begin - started


def loader_rate(bench: Bench, files: list[Path], workers: int) -> float:
    loader = DataLoader(Files(files, bench.facts.preprocessing.transform()), batch_size=BATCH, num_workers=workers)
    batches = iter(loader)
    for _ in range(workers):
        next(batches)
    started = time.perf_counter()
    count = sum(len(batch) for batch in batches)
    return count / (time.perf_counter() - started)


def loop_rate(bench: Bench, assets: Path, times: int) -> float:
    """A plain loop over the shards' images: the model `times` on each batch, on all cores of this process."""
    model, folder = deit_tiny(assets), bench.stage("ingest").folder
    shards = [read_shard(shard_path(folder, name)).images for name in list(shard_sizes(folder))]
    with torch.no_grad():
        model(shards[0].float() / 255)
        started = time.perf_counter()
        for images in shards:
            pixels = images.float() / 255
            for _ in range(times):
                model.features_from_tokens(model.tokens(pixels))
        return sum(map(len, shards)) / (time.perf_counter() - started)


def stages(assets: Path, count: int, only: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    files = copies(assets, folder / "images", count)
    workers = 2
    with Bench(config(assets, folder / "images", workers), folder / "work") as bench:
        ours, start = stage_rate(bench, "ingest", "shard")
        if "ingest" in only:
            yield row("ingest", count, ours, loader_rate(bench, files, workers), start)
        for name, times in TIMES.items():
            if name in only:
                ours, start = stage_rate(bench, name, "rows")
                yield row(name, count, ours, loop_rate(bench, assets, times), start)


def row(name: str, count: int, ours: float, plain: float, start: float) -> dict[str, Any]:
    return {"what": name, "images": count, "ours": ours, "plain": plain, "ratio": ours / plain, "start s": start}


def nodes(assets: Path, count: int, folder: Path) -> dict[str, Any]:
    """The reference stage on clusters of one and of two nodes with one core each."""
    copies(assets, folder / "images", count)
    rates = {}
    for number in (1, 2):
        with (
            cluster(number) as address,
            Bench(config(assets, folder / "images", number), folder / f"work{number}", address=address) as bench,
        ):
            rates[number], start = stage_rate(bench, "reference", "rows")
    return {"what": "nodes", "images": count, "ours": rates[2], "plain": rates[1], "ratio": rates[2] / rates[1],
            "start s": start}  # fmt: skip


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    from ray.cluster_utils import Cluster

    store = 150 * 1024**2
    started = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": store, "include_dashboard": False},
    )
    try:
        for _ in range(nodes):
            started.add_node(num_cpus=1, object_store_memory=store)
        started.wait_for_nodes()
        yield str(started.address)
    finally:
        started.shutdown()


def search(folder: Path) -> dict[str, Any]:
    """12 trials of the digits model, two at a time, the same work by both."""
    from ray import tune

    from pipelines.data.split import Split
    from pipelines.engine.progress import Progress
    from pipelines.engine.stage import Context
    from pipelines.stages.search.images import write_images
    from pipelines.stages.search.trial import NoiseTrial
    from pipelines.stages.search.tuning import Search, _chosen, _trial_data  # the stage's own parts

    small = [
        "search.learn_images=100",
        "search.validation_images=50",
        "search.calibration_images=130",
        "resources.workers=2",
        "source.limit=300",
    ]
    with Bench(load_config("demo", small), folder) as bench:
        searched = bench.stage("search")
        bench.stage("kernel")
        context = Context(folder, bench.done, Progress(), "", bench.compute.workers)
        settings = bench.config.search
        assert settings is not None
        plan = Search(bench.facts, settings, 0, "cpu", bench.compute.workers(), "bench", [], _nothing, _none)
        split = Split(**searched.result["split"])
        write_images(folder / "images.safetensors", _chosen(context, plan.workers, split), split)
        data = asdict(_trial_data(context, plan, folder / "images.safetensors"))
        space = {"relative_norm": tune.uniform(0.3, 3.0), "learning_rate": 0.03, "steps": 50, "data": data}
        ours = _tuned(NoiseTrial, space, folder / "ours", reuse_actors=True)
        plain = _tuned(_as_function(NoiseTrial), space, folder / "plain", reuse_actors=False)
    return {"what": "search", "trials": 12, "ours": ours, "plain": plain, "ratio": plain / ours}


def _as_function(trial_class: Any) -> Callable[[dict[str, Any]], None]:
    """The same trial as a function, as most people write them: without checkpoints, in an actor of its own."""

    def function(config: dict[str, Any]) -> None:
        from ray import tune

        trial = trial_class.__new__(trial_class)
        trial.setup(config)
        done = False
        while not done:
            said = trial.step()
            done = said.pop("done")
            tune.report(said)

    return function


def _tuned(trainable: Any, space: dict[str, Any], folder: Path, *, reuse_actors: bool) -> float:
    """Seconds of twelve trials, two at a time."""
    from ray import tune

    at_once = {"num_samples": 12, "max_concurrent_trials": 2, "reuse_actors": reuse_actors}
    started = time.perf_counter()
    tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(metric="radius", mode="max", **at_once),
        run_config=tune.RunConfig(name="trials", storage_path=str(folder), verbose=0),
    ).fit()
    return time.perf_counter() - started


def _nothing(_: Any) -> None: ...


def _none() -> None: ...


def main() -> None:
    names = ("ingest", *TIMES, "nodes", "search")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", default=os.environ.get("NULLSPACE_ASSETS"), help="folder of weights and images")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--only", nargs="+", choices=names, default=list(names))
    given = with_assets(parser)
    assets: Path = given.assets
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if set(given.only) & {"ingest", *TIMES}:
            rows += stages(assets, given.images, given.only, Path(folder, "stages"))
        if "nodes" in given.only:
            rows.append(nodes(assets, min(given.images, 600), Path(folder, "nodes")))
        if "search" in given.only:
            rows.append(search(Path(folder, "search")))
    report("The pipeline beside plain loops", rows)


if __name__ == "__main__":
    main()
