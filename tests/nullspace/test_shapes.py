"""Shapes in the signatures of the front door hold for representative calls, and a wrong one is caught by them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.waiting import run

# A process of its own: the hook works on modules that are not loaded yet.
_CHECKED = """
import jaxtyping

import tests.nullspace.shape_checker
from nullspace.model import shapes

for name in shapes.__all__:
    setattr(shapes, name, getattr(jaxtyping, name))
hook = jaxtyping.install_import_hook("nullspace", "tests.nullspace.shape_checker.shapes_alone")

import pytest
import torch

import nullspace as ns

generator = torch.Generator().manual_seed(0)
arguments = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 10}
model = ns.SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=arguments)
images = torch.rand(12, 3, 32, 32, generator=generator)


def refused(call, *arguments, **options):
    with pytest.raises(jaxtyping.TypeCheckError):
        call(*arguments, **options)
"""

_MODEL = """
patches = model.patchify(images)
assert torch.equal(model.unpatchify(patches), images)
outputs = model.outputs_from_tokens(model.tokens(images))
assert model(images).shape == outputs.logits.shape
refused(model, images[0])
refused(model.tokens, (255 * images).byte())
refused(ns.Outputs, outputs.features[:3], outputs.logits)
for injection in ("patch_tokens", "block:1"):
    encoder = ns.Encoder(model, injection)
    states = encoder.states(images)
    for noise in (torch.zeros(encoder.noise_shape), torch.zeros(12, *encoder.noise_shape)):
        encoder.logits(encoder.add(states, noise))
    refused(encoder.add, states, torch.zeros(7, *encoder.noise_shape))
    refused(encoder.outputs, states[0])
"""

_NOISE = """
encoder = ns.Encoder(model)
data = ns.prepare(encoder, (255 * images).byte(), shift_invariant=True)
learned = ns.learn_noise(data, ns.NoiseSettings(steps=4, batch_size=6), held_out=data, check_every=2)
rows = ns.measure_nullness(data, learned.noise)
ns.scaling_curve(data, learned.noise, scales=(0.5,))
ns.additivity(data, learned.noise, learned.noise)
ns.null_radius(data, learned.noise, epsilon=0.05)
ns.learn_published(data, ns.PublishedSettings(rounds=2, batch_size=6))
with learned.artifact(data).apply(model):
    model(images)
refused(ns.prepare, encoder, images[0], shift_invariant=True)
refused(ns.prepare, encoder, images[:, :2], shift_invariant=True)
refused(ns.measure_nullness, data, learned.noise[None])
refused(ns.additivity, data, learned.noise, learned.noise[:3])
refused(ns.null_radius, data, learned.noise[0], epsilon=0.05)
"""

_KERNEL = """
kernel = ns.patch_kernel(model)
drawn = kernel.sample(4, rms=0.5, generator=generator)
kernel.project(drawn)
file = ns.kernel_on_file(model, (40, 50))
change = file.sample(2, rms=0.1, generator=generator)
pixels = torch.rand(2, 3, 40, 50, generator=generator, dtype=torch.float64)
file.project_to_box(pixels, change.delta, iterations=5)
refused(file.project, change.delta[0])
refused(file.project_to_box, pixels[:1], change.delta)
refused(kernel.project, drawn.long())
"""


def test_shapes_hold_and_wrong_ones_are_refused() -> None:
    done = run([sys.executable, "-c", _CHECKED + _MODEL + _NOISE + _KERNEL], cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
