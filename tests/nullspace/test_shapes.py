"""Shapes in the signatures of the front door hold for representative calls, and a wrong one is caught by them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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

_PIXELS = """
from nullspace.pixels.projection import project_to_box

kernel, mapping = ns.patch_kernel(model), ns.patch_map(model)
patches = model.patchify(images)
wanted = kernel.sample(model.num_patches, rms=0.5, generator=generator)
project_to_box(patches, wanted.expand_as(patches), kernel, iterations=20)
ns.largest_scale(patches[0], wanted, kernel)
ns.furthest(patches[0, :2], wanted[:2], kernel, iterations=20)
ns.largest_noise(patches[0], kernel, generator=generator, iterations=20)
noise = 1e-3 * torch.randn(model.num_patches, model.embed_dim, generator=generator)
ns.lift_noise(noise, patches[:2], mapping)
ns.lift_shared(noise, patches[:2], mapping)
ns.round_in_kernel(model, images[:2])
refused(project_to_box, patches, wanted, kernel)
refused(ns.largest_scale, patches[0], wanted[:3], kernel)
refused(ns.round_in_kernel, model, images[0])
refused(ns.lift_shared, noise, patches[0], mapping)
resize = ns.resize_of(model.preprocessing, (40, 50))
files = torch.rand(2, 3, 40, 50, generator=generator, dtype=torch.float64)
assert resize.adjoint(resize.apply(files)).shape == files.shape
refused(type(resize), resize.rows[0], resize.columns)
"""

_SEEN = """
ns.shift_test(model, images)
ns.exact_kernel(model, images[:2])
refused(ns.exact_kernel, model, images[0])
encoder = ns.Encoder(model)
spectrum = ns.sensitivity_spectrum(encoder, encoder.states(images), shift_invariant=True, k=3, cotangents=2)
ns.captured_elsewhere(spectrum, encoder, encoder.states(images))
refused(ns.sensitivity_spectrum, encoder, encoder.states(images)[0], shift_invariant=True)
"""

_WATERMARK = """
from nullspace.metrics.draws import Draws
from nullspace.watermark.certify import certify
from nullspace.watermark.distortions import STANDARD, distorted, distortion_named
from nullspace.watermark.payload.hidden_mark import HiddenMark
from nullspace.watermark.visible.legibility import texture_contrast
from nullspace.watermark.visible.visible import embed

model = ns.SplitViT.load("vit_tiny_patch16_224", weights="random", model_args={"img_size": 64, "num_classes": 10})
saved = torch.randint(60, 200, (3, 3, 64, 64), generator=generator, dtype=torch.uint8)
images, draws = saved / 255, Draws(0, "shapes", ["a", "b", "c"])
for name in STANDARD:
    distorted(saved, distortion_named(name), draws)
hidden = HiddenMark(model, "a key of some length")
marked = hidden.embed(saved, b"ab").images
hidden.detect(marked, length=2, psnr=42)
certify(model, saved, marked)
alpha = torch.zeros(64, 64)
alpha[16:48, 16:48] = 0.5
mark = embed(model, ns.patch_kernel(model), images, torch.ones(3, 64, 64), alpha, iterations=50)
texture_contrast(mark.marked, alpha, shrink=2)
refused(distorted, images, distortion_named("flip_1"))
refused(hidden.embed, saved[0], b"ab")
refused(certify, model, saved, marked[:2])
refused(texture_contrast, images, alpha[:32])
"""


@pytest.mark.parametrize("calls", [_MODEL + _NOISE + _KERNEL, _PIXELS + _SEEN, _WATERMARK])
def test_shapes_hold_and_wrong_ones_are_refused(calls: str) -> None:
    done = run([sys.executable, "-c", _CHECKED + calls], cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
