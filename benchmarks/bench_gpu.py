"""Learning noise on a GPU: images times steps per second, and the share of the chip's bf16 peak.

    python benchmarks/bench_gpu.py --device cuda --out results/gpu
    python benchmarks/bench_gpu.py --device cpu --small --out /tmp/gpu

Random weights and random images; no weights or data are needed, and only torch and timm. For each model the learner
as it is (`NoiseLearner.steps`), in float32 and with weights in bfloat16, beside a bare loop of torch: same encoder
(in bfloat16 under autocast), loss and batch, forward and back to the noise, without learner.

FLOPs of the bare mathematics: a block of N tokens of width D is 24·N·D² + 4·N²·D forward; back to the noise, without
gradients of weights, it is counted as much again. The two products of attention take twice as much back, so the shares
are slightly low (8.5 instead of 7.9 % for deit_tiny).
The peak is what NVIDIA states for dense bfloat16, 989 TFLOP/s for H100 SXM and H200.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import environment

from nullspace.metrics.encoder_data import EncoderData, prepare
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.noise.learner import NoiseLearner
from nullspace.noise.settings import NoiseSettings

MODELS = {"deit_tiny_patch16_224": 512, "vit_base_patch16_224": 256, "vit_large_patch16_224": 128}
PEAK = 989e12
WARM_UP, STEPS = 4, 16


def flops(encoder: Encoder) -> float:
    """FLOPs of one image, forward and back to the noise."""
    model = encoder.model
    blocks: Any = model.model.blocks
    tokens, width = model.num_patches + model.num_prefix_tokens, model.embed_dim
    return 2 * len(blocks) * (24 * tokens * width**2 + 4 * tokens**2 * width)


def seconds(steps: Callable[[int], object], device: torch.device) -> float:
    """Mean seconds of a step, of `steps(count)`, after some that are not counted."""
    steps(WARM_UP)
    _wait(device)
    began = time.perf_counter()
    steps(STEPS)
    _wait(device)
    return (time.perf_counter() - began) / STEPS


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def learner(data: EncoderData, precision: Any, batch: int) -> Callable[[int], object]:
    settings = NoiseSettings(
        steps=WARM_UP + STEPS, batch_size=batch, ranks=None, start="random", precision=precision, relative_norm=0.3
    )
    return NoiseLearner(data, settings).steps


def bare(data: EncoderData, precision: str, batch: int) -> Callable[[int], object]:
    encoder, half = data.encoder, precision == "bfloat16"
    states, logits = data.states[:batch], data.clean.logits[:batch]
    noise = torch.zeros(encoder.noise_shape, device=states.device, requires_grad=True)

    def step() -> None:
        with torch.autocast(states.device.type, torch.bfloat16, enabled=half):
            found = encoder.logits(encoder.add(states, noise))
        loss = (found.float() - logits).square().sum(dim=1).mean()
        torch.autograd.grad(loss, noise)

    def steps(count: int) -> None:
        for _ in range(count):
            step()

    return steps


def rows_of(name: str, batch: int, device: torch.device) -> list[dict[str, Any]]:
    model = SplitViT.load(name, weights="random", device=device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, 3, *model.preprocessing.input_size), generator=generator, dtype=torch.uint8)
    data = prepare(Encoder(model), images, shift_invariant=True, batch_size=min(batch, 64))
    rows = []
    for precision in ("float32", "bfloat16"):
        for title, make in (("learner", learner), ("bare loop", bare)):
            took = seconds(make(data, precision, batch), device)
            rate = batch / took
            share = f"{100 * rate * flops(data.encoder) / PEAK:.1f} %" if device.type == "cuda" else "not measured"
            rows.append(
                {
                    "model": name, "precision": precision, "what": title, "batch": batch,
                    "images·steps/s": f"{rate:.4g}", "share of bf16 peak": share,
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="deit_tiny alone, 2 images: that it runs")
    parser.add_argument("--out", default="results/gpu", help="name of the files without ending")
    arguments = parser.parse_args()
    models = {"deit_tiny_patch16_224": 2} if arguments.small else MODELS
    rows = [row for name, batch in models.items() for row in rows_of(name, batch, torch.device(arguments.device))]
    out, columns = Path(arguments.out), list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    facts = ", ".join(f"{key} {value}" for key, value in environment().items())
    head = "# Learning noise on a GPU\n\nMade by `bench_gpu.py`, which says what is counted.\n"
    out.with_suffix(".md").write_text("\n".join([head, f"_{facts}_", "", *lines, ""]), encoding="utf-8")
    out.with_suffix(".json").write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
