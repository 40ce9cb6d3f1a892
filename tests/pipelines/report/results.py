"""Results and stage folders as the pipeline leaves them, of two models: one with a kernel, one without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pipelines.report.view import Result, StageView

BLIND, SEEING = "digits_vit", "vit_<b>base</b>_patch16"  # the second label tries to be HTML
BAD_PATH = "/data/<script>alert(1)</script>/broken.png"
SKIPPED = "the kernel is trivial: the patch embedding sees every direction"


def view(folder: Path | None = None, **result: Any) -> StageView:
    """A finished stage, as its report gets it."""
    return StageView("label", Result(result), folder)


def outcome(agreement: float, half: float, logits: float, **more: Any) -> dict[str, Any]:
    """A condition as results.json holds it."""
    ends = {f"{name}_ci": [0.8 * value, 1.2 * value] for name, value in (("mse_logits", logits),)}
    return {
        "agreement": agreement, "agreement_ci": [max(0.0, agreement - half), min(1.0, agreement + half)], "n": 1797,
        "mse_features": 3 * logits, "mse_features_ci": [2.7 * logits, 3.3 * logits], "mse_logits": logits, **ends,
        "mse_probabilities": logits / 50, "mse_probabilities_ci": [logits / 60, logits / 40],
        "max_abs_logit_change": 3 * logits, "confidence_change": -logits / 90, "confidence_change_ci": None, **more,
    }  # fmt: skip


def share(name: str, value: float, half: float = 0.01) -> dict[str, Any]:
    """A share and its interval as results.json holds them."""
    return {name: value, f"{name}_ci": [max(0.0, value - half), min(1.0, value + half)]}


def model_results(*, trivial: bool) -> dict[str, Any]:
    """One model's part of results.json."""
    shift = {"invariant": True, "relative_shift": 10.0, "max_abs_logit_change": 8.1e-5,
             "control_max_abs_logit_change": 6.4}  # fmt: skip
    rank = 768 if trivial else 96
    patch_dim = 768 if trivial else 192
    return {
        "model": {
            "name": "vit_base_patch16_224" if trivial else "digits_vit", "weights_source": "pretrained:tag",
            "weights_sha256": "9f2c" * 16, "preprocessing": {"input_size": [32, 32], "interpolation": "bicubic"},
        },
        "reference": {"clean_accuracy": {"accuracy": 0.978, "ci": [0.969, 0.984], "n": 1797}},
        "kernel": {
            "patch_dim": patch_dim, "embed_dim": rank, "rank": rank, "nullity": patch_dim - rank, "rtol": 4.3e-14,
            "tolerance": 1.2e-13, "gap": None, "sigma_max": 2.781, "sigma_min": 0.00713, "shift": shift,
        },
        "search": {
            "norm": 118.0, "relative_norm": 0.82, "spread": 0.97, "token_norm": 36.1, "epsilon": 0.05,
            "objective": "largest norm inside the ε-region", "artifact": "/runs/demo/noise.safetensors",
            "registered_model": "nullspace-demo-digits_vit", "version": 3,
        },
        "kernel_noise": {"skipped": SKIPPED} if trivial else {"conditions": {
            "exact": outcome(1.0, 0.002, 2.1e-6), "permuted": outcome(0.214, 0.019, 18.3),
            "gaussian": outcome(0.209, 0.019, 19.1), "in_box": outcome(1.0, 0.002, 1.4e-6),
        }},
        "learned_noise": {"relative_norm": 0.82, "epsilon": 0.05, "conditions": {
            "learned": outcome(0.953, 0.011, 1.93), "permuted": outcome(0.412, 0.023, 11.8),
            "gaussian": outcome(0.405 if not trivial else 0.95, 0.023, 12.2),
        }},
        "visible_watermark": {"skipped": SKIPPED} if trivial else {"conditions": {"marked": mark()}},
        "payload": {"skipped": SKIPPED} if trivial else payload(),
        "transfer": transfer(BLIND if trivial else SEEING, exact=not trivial),
        "fooling": fooling(exact=not trivial),
        "attribution": attribution(exact=not trivial),
        "adversarial": adversarial(exact=not trivial),
        "corruption": corruption(exact=not trivial),
    }  # fmt: skip


def transfer(other: str, *, exact: bool) -> dict[str, Any]:
    """One model's noise on itself and on another one, whose tokens have another shape."""
    kernel = {
        "kernel_own": outcome(1.0, 0.002, 1e-6), "kernel_own_permuted": outcome(0.2, 0.02, 18.0),
        f"kernel_on_{other}": outcome(0.37, 0.02, 11.0), f"kernel_on_{other}_permuted": outcome(0.31, 0.02, 12.0),
    }  # fmt: skip
    learned = {"learned_own": outcome(0.95, 0.01, 1.9), f"learned_on_{other}": {}}
    return {"others": [other], "conditions": (kernel if exact else {}) | learned}


def mark() -> dict[str, Any]:
    """A visible mark's condition."""
    return {
        "psnr": 17.46, "psnr_ci": [17.2, 17.7], "ssim": 0.713, "ssim_ci": [0.706, 0.72], "texture_contrast": 0.62,
        "texture_contrast_ci": [0.6, 0.64], "texture_contrast_half": 0.41, "texture_contrast_half_ci": [0.38, 0.44],
        "clean_texture_contrast": -0.08, "clean_texture_contrast_ci": [-0.1, -0.06], "unmarked": 0,
        **outcome(0.9997, 0.0005, 0.011),
    }  # fmt: skip


def payload() -> dict[str, Any]:
    """Hidden messages of 8 bytes, read after two distortions."""
    read = {"n": 600, "max_probability_change": 0.002, **share("found_at_1e-6", 1.0), **share("agreement", 0.99)}
    read |= share("bit_accuracy", 1.0)
    return {
        "conditions": {
            "unmarked": {"n": 600, **share("found_at_1e-3", 0.0)},
            "none": {**read, **share("word_accuracy", 1.0), "psnr": 40.31, "psnr_ci": [40.2, 40.4]},
            "jpeg_50": {**read, **share("word_accuracy", 0.98)},
        },
        "settings": {"message_bytes": 8},
    }


def fooling(*, exact: bool) -> dict[str, Any]:
    """Pictures that look like one image and are taken for another."""

    def pictures(agreement: float, as_look: float) -> dict[str, Any]:
        found = outcome(agreement, 0.02, 2.0) | share("as_look", as_look) | share("nearer_than_pairs", agreement)
        means = {"median_relative_logits": 0.011, "median_relative_features": 0.02, "confidence_off": 0.03}
        means |= {"psnr_to_look": 38.4, "ssim_to_look": 0.96, "psnr_to_image": 9.1, "token_difference": 1.3}
        ends = {f"{name}_ci": [0.9 * value, 1.1 * value] for name, value in means.items()}
        return {**found, **means, **ends, "n": 300, "passes": 40.0, "passes_ci": [40.0, 40.0]}

    ways = ("exact", "logits_eps4", "logits_eps8", "look_grey")[0 if exact else 1 :]
    found = {name: pictures(0.99, 0.01) for name in ways}
    found |= {f"{name}_{control}": pictures(0.02, 0.97) for name in ways for control in ("permuted", "signs")}
    found |= {f"{name}_jpeg_75": pictures(0.31, 0.55) for name in ways}
    answers = {"image": 0.02, "look": 0.95, "other": 0.03}
    for name in ways:
        for answer, value in answers.items():
            found[name] |= share(f"judge_{SEEING}_{answer}", value)
    settings = {"epsilon": [4, 8], "looks": ["grey"], "distortions": ["jpeg_75"], "judges": [SEEING]}
    return {"conditions": found, "settings": settings}


def attribution(*, exact: bool) -> dict[str, Any]:
    """Maps of images before and after noise; search for one of them, in pixels and on tokens."""
    maps, attention = ("input_times_gradient", "gradient_weighted_attention"), "gradient_weighted_attention"
    measures = ("spearman", "top", "pearson", "ssim", "centre")

    def maps_of(agreement: float, alike: float, *names: str) -> dict[str, Any]:
        figures = {f"{measure}_{name}": alike for name in (*maps, *names) for measure in measures}
        ends = {f"{name}_ci": [value - 0.02, value + 0.02] for name, value in figures.items()}
        return outcome(agreement, 0.02, 1.1) | figures | ends | {"n": 40}

    def cut(*names: str) -> dict[str, Any]:
        figures = {f"deletion_{way}_{name}": 0.31 for name in names for way in ("along", "across")}
        return figures | {f"{name}_ci": [0.3, 0.32] for name in figures}

    stay = {"pixels_top": 0.12, "pixels_top_ci": [0.1, 0.14]}
    found = {
        "clean": outcome(1.0, 0.0, 0.0) | cut(*maps),
        "random_weights": maps_of(0.1, 0.08),
        "random_map": maps_of(1.0, 0.01) | cut("random"),
        "steered": maps_of(1.0, 1.0) | cut(*maps) | stay,
        "steered_permuted": maps_of(0.6, 0.4) | {"pixels_top": 0.7, "pixels_top_ci": [0.6, 0.8]},
        f"away_{attention}_eps4": maps_of(1.0, -0.31),
        f"away_{attention}_eps4_permuted": maps_of(1.0, 0.93),
        f"away_{attention}_eps4_signs": maps_of(0.99, 0.94),
        f"away_{attention}_norm0.1": maps_of(1.0, -0.5),
        f"towards_{attention}_eps4": maps_of(1.0, 0.1, "goal"),
        f"towards_{attention}_eps4_permuted": maps_of(1.0, 0.9, "goal"),
    }
    if not exact:
        found = {name: figures for name, figures in found.items() if not name.startswith("steered")}
    settings = {"maps": list(maps), "searched": [attention], "epsilon": [4], "relative_norm": [0.1], "learned": False}
    return {"conditions": found, "settings": settings}


def adversarial(*, exact: bool) -> dict[str, Any]:
    """Images under attack at two sizes, controls, attacks in subspaces, the smallest change."""
    found: dict[str, Any] = {}
    for size, robust in ((1, 0.25), (4, 0.0)):
        passes = {"forwards": 31.5, "backwards": 20.25, "by_clean": 8, "by_fgsm": 20, "by_pgd": 4}
        found[f"linf_eps{size}"] = outcome(0.3, 0.1, 20.0) | share("robust", robust) | passes | {"n": 40}
        beside = ("signs", "permuted", *(("kernel", "kernel_noise", "row_space") if exact else ()))
        found |= {
            f"linf_eps{size}_{what}": outcome(0.98, 0.02, 0.1) | share("robust", 0.8) | {"n": 40} for what in beside
        }
    sizes = {"smallest_l2": 0.21, "invisible_l2": 150.0, "invisible_over_smallest": 714.0}
    medians = {f"median_{name}": value for name, value in sizes.items()}
    ends = {f"{name}_ci": [0.9 * value, 1.1 * value] for name, value in medians.items()}
    found["smallest"] = outcome(0.0, 0.1, 5.0) | medians | ends | {"n": 40}
    settings = {"norms": ["linf"], "epsilon_linf": [1, 4]}
    return {"conditions": found, "settings": settings}


def corruption(*, exact: bool) -> dict[str, Any]:
    """Two corruptions at two severities, their means, and the controls."""

    def figures(agreement: float, kernel: float) -> dict[str, Any]:
        own = {"kernel_share": kernel, "change_rms": 0.08} if exact else {"change_rms": 0.08}
        ends = {f"{name}_ci": [0.9 * value, 1.1 * value] for name, value in own.items()}
        return outcome(agreement, 0.02, 4.0) | own | ends | share("error", 1.03 - agreement) | {"n": 300}

    names, severities = ("gaussian_noise", "jpeg_compression"), (1, 3)
    cells = [f"{name}_{severity}" for name in names for severity in severities]
    found = {"clean": {"n": 300, "labelled": 300, **share("error", 0.04)}}
    for name in (*cells, *names, "severity_1", "severity_3", "mean"):
        found |= {name: figures(0.71, 0.21), f"{name}_permuted": figures(0.52, 0.5)}
    found["mean"] |= {"labelled": 300, **share("excess_error", 0.28)}
    settings = {"names": list(names), "severities": list(severities)}
    return {"conditions": found, "settings": settings, "white_share": 0.5 if exact else 0.0}


def all_results() -> dict[str, Any]:
    """A whole results.json."""
    stages = [("ingest", None, 12.1, False), ("search", BLIND, 74.9, False), ("learned_noise", BLIND, 20.2, True)]
    return {
        "warnings": [f"{BLIND}: labels look <b>wrong</b>"],
        "models": {BLIND: model_results(trivial=False), SEEING: model_results(trivial=True)},
        "data": {"images": 1797, "errors": 61, "sources": ["s3://me:secret@bucket/digits"]},
        "run": {
            "experiment": "demo", "run_id": "0b5c9d", "seconds": 167.2, "config_fingerprint": "5e1f00d2a9c3",
            "tracking_uri": "http://user:hunter2@mlflow:5000",
            "stages": [{"name": n, "branch": b, "seconds": s, "reused": r} for n, b, s, r in stages],
        },
        "environment": {"git": {"commit": "c0ffee", "dirty": False}, "versions": {"torch": "2.15.0"}},
    }  # fmt: skip


def write_kernel(folder: Path, rank: int) -> None:
    folder.mkdir(parents=True)
    sigma = np.geomspace(2.781, 0.00713, rank)
    pd.DataFrame({"index": np.arange(rank), "sigma": sigma}).to_parquet(folder / "spectrum.parquet")


def write_search(folder: Path, trials: int = 12) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    rates, norms = 10 ** generator.uniform(-3, -0.5, trials), generator.uniform(0.2, 1.5, trials)
    steps = np.where(generator.random(trials) < 0.5, 50, 200)
    radius = norms * (1 - np.exp(-steps / 80)) * np.exp(-((np.log10(rates) + 1.4) ** 2))
    ids = [f"t{i:02d}" for i in range(trials)]
    table = {"trial_id": ids, "relative_norm": norms, "learning_rate": rates, "steps": 200, "step": steps}
    table |= {"radius": radius, "capped": 0, "agreement": 1 - norms / 5, "status": "FINISHED", "seconds": steps / 10}
    table["radius"][1], table["capped"] = np.nan, [0, 0, 1] + [0] * (trials - 3)  # one failed, one ended at the limit
    pd.DataFrame(table).to_parquet(folder / "trials.parquet")
    curves = [
        {"trial_id": ids[i], "step": s, "loss": 9 * norms[i] * np.exp(-s / 90) + 1, "radius": radius[i] * s / steps[i]}
        for i in range(trials)
        for s in range(10, steps[i] + 1, 10)
    ]
    pd.DataFrame(curves).to_parquet(folder / "curves.parquet")
    (folder / "search.json").write_text(json.dumps({"best_trial": ids[int(np.nanargmax(radius))]}))


def write_pictures(folder: Path, columns: tuple[str, ...], rows: int = 3) -> None:
    (folder / "examples").mkdir(parents=True)
    generator = np.random.default_rng(1)
    for row in range(rows):
        for column in columns:
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "examples" / f"{row:02d}_{column}.png")
