"""Search: Ray Tune with Optuna and ASHA looks for the noise that may be largest before the model notices."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from nullspace.metrics.sample_size import images_needed
from nullspace.metrics.unit import Unit
from nullspace.noise.artifact import NullNoise
from pipelines.data.shards import lowest_places, shard_sizes
from pipelines.data.split import Split, make_split
from pipelines.engine.models import ModelFacts
from pipelines.engine.progress import Counter
from pipelines.engine.stage import Context
from pipelines.engine.workers.shard_workers import Workers
from pipelines.errors import StageError
from pipelines.files import read_json, write_json, write_table
from pipelines.stages.search.calibration import calibrated_on_a_worker
from pipelines.stages.search.images import Chosen, choose, join, write_images
from pipelines.stages.search.importance import importance
from pipelines.stages.search.settings import SearchSettings
from pipelines.stages.search.tables import SEARCHED, all_failed, trial_tables
from pipelines.stages.search.trial import NoiseTrial, TrialData, read_noise
from pipelines.stages.search.tune.progress import SearchProgress, attach
from pipelines.stages.search.tune.saved_state import drop_cut_off

OBJECTIVE = "mean ‖Δlogits‖₂ at held per-token norm; scaled so that mean ‖Δsoftmax‖² <= epsilon on new images"
_REGISTRY = threading.Lock()
_CHUNKS = 4  # tasks for every worker
_RETRIES = 3  # of a task: its node may die under it
_IMAGES, _TUNE = "images.safetensors", "tune"
_SECONDS_BETWEEN_SAVES = 2  # between saves of Tune's state, by default 10 and more: what a kill loses is done again


@dataclass(frozen=True)
class Search:
    """One search: what is fixed about it, and the callback that writes its trials."""

    facts: ModelFacts
    settings: SearchSettings
    seed: int
    device: str
    workers: Workers
    study: str
    callbacks: Sequence[Any]
    restored: Callable[[Any], None]
    """Called with a restored Tuner, whose callbacks came back without their connection."""
    written: Callable[[], None]
    """Called when the trials are over, before their state is removed: raises while part of it is unwritten."""


def search(context: Context, plan: Search) -> dict[str, Any]:
    """Run or continue the trials, scale the best noise to its radius, save it; returns what was found."""
    result_file = context.folder / "search.json"
    if not result_file.exists():
        write_json(result_file, _search(context, plan))
    # The pixels are in the shards, the trials in the tables: only the search itself needed these.
    (context.folder / _IMAGES).unlink(missing_ok=True)
    shutil.rmtree(context.folder / _TUNE, ignore_errors=True)
    return read_json(result_file)


def _search(context: Context, plan: Search) -> dict[str, Any]:
    split = _split(context, plan)
    images = context.folder / _IMAGES
    if not images.exists():
        write_images(images, _chosen(context, plan.workers, split), split)
    data = _trial_data(context, plan, images)
    with context.progress.counting(plan.settings.trials, "trials") as counter:
        results = _tuner(context, plan, data, counter).fit()
    plan.written()
    trials, curves = trial_tables(results)
    write_table(context.folder / "trials.parquet", pa.Table.from_pylist(trials))
    write_table(context.folder / "curves.parquet", pa.Table.from_pylist(curves))
    finished = [result for result in results if result.error is None and result.metrics and result.checkpoint]
    if not finished:
        raise StageError(all_failed(trials, context.folder / _TUNE))
    best = max(finished, key=lambda result: result.metrics["radius"])
    result = _save_best(context, plan, best, data)
    failed = sum(trial["status"] == "FAILED" for trial in trials)
    return {
        **result,
        "split": asdict(split),
        "trials": len(trials),
        "failed": failed,
        "space": {name: list(getattr(plan.settings, name)) for name in SEARCHED},
        "importance": importance(trials, SEARCHED, value="radius", seed=plan.seed),
    }


def _chosen(context: Context, workers: Workers, split: Split) -> Chosen:
    """The images of the search, looked for where the workers are: the driver sees no others."""
    ingested, reference = (str(context.inputs[name].folder) for name in ("ingest", "reference"))
    shards = list(shard_sizes(Path(ingested)))
    if workers.here:
        return join([part for part in [choose(ingested, reference, shards, split)] if part is not None])
    import ray

    count = min(len(shards), _CHUNKS * workers.count)
    look = ray.remote(choose).options(num_cpus=workers.cpus, max_retries=_RETRIES)
    parts = ray.get([look.remote(ingested, reference, shards[i::count], split) for i in range(count)])
    return join([part for part in parts if part is not None])


def _split(context: Context, plan: Search) -> Split:
    settings, ingested = plan.settings, context.inputs["ingest"]
    parts = {
        "learn": settings.learn_images,
        "validation": settings.validation_images,
        "calibration": settings.calibration_images,
    }
    places = lowest_places(ingested.folder, plan.seed, sum(parts.values()) + 1)
    fewest = images_needed(settings.epsilon, settings.confidence)
    return make_split(places, plan.seed, **parts, total=ingested.result["images"], fewest=fewest)


def _trial_data(context: Context, plan: Search, images: Path) -> TrialData:
    return TrialData(
        model=asdict(plan.facts.spec),
        images=str(images),
        device=plan.device,
        batch_images=plan.settings.batch_images,
        epsilon=plan.settings.epsilon,
        report_every=plan.settings.report_every,
        shift_invariant=context.inputs["kernel"].result["shift"]["invariant"],
        token_norm=context.inputs["reference"].result["token_norm"],
        ranks=plan.settings.ranks,
        precision=plan.settings.precision,
        seed=plan.seed,
    )


def _tuner(context: Context, plan: Search, data: TrialData, counter: Counter) -> Any:
    from ray import tune

    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", str(_SECONDS_BETWEEN_SAVES))
    trainable = _registered(plan.workers)
    path = context.folder / _TUNE
    if tune.Tuner.can_restore(str(path)):
        restored = _restore(path, trainable, plan)
        if restored is not None:
            attach(restored, counter)
            return restored
        context.progress.say("  search: the state a kill left cannot be read; its trials run again from the start")
    shutil.rmtree(path, ignore_errors=True)
    return tune.Tuner(
        trainable,
        param_space={**_space(plan.settings), "data": asdict(data)},
        tune_config=_tune_config(plan),
        run_config=tune.RunConfig(
            name=_TUNE,
            storage_path=str(context.folder),
            callbacks=[*plan.callbacks, SearchProgress(counter)],
            # All are kept while the search runs: Tune removes older ones before it has saved which is the newest, so
            # that a kill in between would leave a state that refers to a removed checkpoint.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=True),
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )


def _registered(workers: Workers) -> str:
    """Name by which Tune knows the trials. It would register them itself, but not two searches at the same time."""
    from ray import tune

    resources = {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}
    name = f"{NoiseTrial.__name__}-{workers.cpus:g}-{workers.gpus:g}"
    with _REGISTRY:
        tune.register_trainable(name, tune.with_resources(NoiseTrial, resources))
    return name


def _restore(path: Path, trainable: Any, plan: Search) -> Any | None:
    """The tuner a killed run left, or None when its files are cut off (then the trials run again)."""
    from ray import tune

    if not drop_cut_off(path):
        return None
    try:
        tuner = tune.Tuner.restore(str(path), trainable, resume_unfinished=True, restart_errored=True)
    except (EOFError, OSError, ValueError, RuntimeError):
        return None
    plan.restored(tuner)
    return tuner


def _space(settings: SearchSettings) -> dict[str, Any]:
    from ray import tune

    low, high = settings.steps
    every = settings.report_every
    return {
        "relative_norm": tune.uniform(*settings.relative_norm),
        "learning_rate": tune.loguniform(*settings.learning_rate),
        # Whole reports: a last report after two steps would cost a full validation for nothing.
        "steps": tune.choice(sorted({*range(low, high, every), high})),
    }


def _tune_config(plan: Search) -> Any:
    import optuna
    from ray import tune

    from pipelines.stages.search.tune.early_stopping import ResumableASHA
    from pipelines.stages.search.tune.suggestions import ResumableOptuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = plan.settings
    return tune.TuneConfig(
        metric="radius",
        mode="max",
        search_alg=ResumableOptuna(sampler=optuna.samplers.TPESampler(seed=plan.seed), study_name=plan.study),
        scheduler=ResumableASHA(
            time_attr="step",
            max_t=settings.steps[1],
            grace_period=min(settings.grace_steps, settings.steps[1]),
            reduction_factor=3,
        ),
        num_samples=settings.trials,
        max_concurrent_trials=min(settings.max_concurrent or settings.trials, plan.workers.count, settings.trials),
        reuse_actors=True,
    )


def _save_best(context: Context, plan: Search, best: Any, data: TrialData) -> dict[str, Any]:
    expected = best.metrics["scale"]
    if expected == 0:
        raise StageError(
            f"no trial found noise within epsilon = {data.epsilon:g}: the model notices even the smallest scale tried; "
            "raise search.epsilon or search.steps"
        )
    with best.checkpoint.as_directory() as folder:
        learned = read_noise(Path(folder))
    context.progress.say(f"  search: scaling the best noise on {plan.settings.calibration_images} calibration images")
    guarantee = calibrated_on_a_worker(learned.numpy(), data, expected, plan.settings.confidence, plan.workers)
    tensor = learned * guarantee["scale"]
    settings = {
        **{name: best.config[name] for name in SEARCHED},
        "ranks": list(data.ranks),
        "best_step": best.metrics["best_step"],
        **{name: guarantee[name] for name in ("scale", "epsilon", "bound", "confidence")},
        "calibration_images": guarantee["n"],
    }
    arguments = dict(plan.facts.spec.args)
    noise = NullNoise.of(
        tensor,
        Unit(data.token_norm, data.shift_invariant),
        model=plan.facts.spec,
        objective=OBJECTIVE,
        seed=plan.seed,
        data_fingerprint=str(context.inputs["ingest"].result["ids"]["total"]),
        settings={**settings, **({"model_args": arguments} if arguments else {})},
    )
    noise.save(context.folder / "noise.safetensors")
    return {
        "best_trial": best.metrics["trial_id"],
        "settings": settings,
        "norm": noise.norm,
        "effective_norm": noise.effective_norm,
        "relative_norm": noise.relative_norm,
        "spread": noise.spread,
        "token_norm": noise.token_norm,
        "epsilon": data.epsilon,
        "guarantee": guarantee,
        "objective": OBJECTIVE,
        "validation": {name: best.metrics[name] for name in ("probability_change", "agreement", "capped")},
    }
