"""One change for all images: held in size, begun near the kernel, and better on images not learned from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.fooling.universal import UniversalForm, changed, universal_change
from nullspace.model.images import from_uint8
from nullspace.model.vit import SplitViT

RMS = 0.15


@pytest.fixture(scope="module", params=[48, 192, 256], ids=["kernel of 144", "square", "injective"])
def model(request: pytest.FixtureRequest) -> SplitViT:
    arguments = {"depth": 1, "embed_dim": request.param, "num_heads": 4, "img_size": 32, "patch_size": 8}
    return SplitViT.load("vit_tiny_patch16_224", weights="random", model_args={**arguments, "num_classes": 10})


def pictures(seed: int, count: int) -> Tensor:
    """Dark and bright halves, so that the pixel range cuts a change off."""
    generator = torch.Generator().manual_seed(seed)
    bright = (torch.rand(count, 3, 4, 4, generator=generator) < 0.5).float()
    return (bright.repeat_interleave(8, 2).repeat_interleave(8, 3) * 0.9 + 0.05).contiguous()


def moved(model: SplitViT, images: Tensor, change: Tensor) -> float:
    """Mean distance of the logits of 8-bit pictures from those of the images."""
    with torch.no_grad():
        return float((model(from_uint8(changed(images, change))) - model(images)).norm(dim=1).mean())


def test_learning_helps_on_images_it_has_not_seen_and_the_size_is_held(model: SplitViT) -> None:
    losses: list[float] = []

    def keep(step: int, loss: float) -> None:
        losses.append(loss)
        assert step == len(losses)

    images, others = pictures(0, 64), pictures(1, 64)
    start = universal_change(model, images, rms=RMS, steps=0)
    learned = universal_change(model, images, rms=RMS, steps=60, progress=keep)
    for change in (start, learned):
        size = model.patchify(change[None]).square().mean(dim=2).sqrt()
        assert torch.allclose(size, torch.full_like(size, RMS), rtol=1e-5)
    assert moved(model, others, learned) < 0.8 * moved(model, others, start)
    assert len(losses) == 60 and sum(losses[-10:]) < sum(losses[:10])
    assert torch.equal(learned, universal_change(model, images, rms=RMS, steps=60))
    assert not torch.equal(start, universal_change(model, images, rms=RMS, steps=0, seed=1))


def test_it_starts_near_the_kernel_and_the_damping_is_that_of_the_formula(model: SplitViT) -> None:
    generator = torch.Generator().manual_seed(0)
    form = UniversalForm(model, RMS)
    change = form.change(form.start(generator))
    noise = torch.randn(3, 32, 32, generator=generator)
    std = torch.tensor(model.preprocessing.std, dtype=torch.float64).repeat_interleave(64)
    weight = model.patch_projection.weight.detach().double().flatten(1) / std

    def tokens(pixels: Tensor) -> float:
        patches = model.patchify(pixels[None].double())[0]
        return float((patches @ weight.T).norm() / patches.norm())

    assert tokens(change) < (1e-3 if model.embed_dim < 192 else 0.4) * tokens(noise)
    # I - V diag(1 - τ/(σ/σ_max + τ)) Vᵀ, by a singular value decomposition of its own
    _, sizes, rows = torch.linalg.svd(weight, full_matrices=False)
    factors = 0.01 / (sizes / sizes[0] + 0.01)
    patches = model.patchify(noise[None])[0].double()
    expected = patches - (patches @ rows.T * (1 - factors)) @ rows
    expected = expected * RMS / expected.square().mean(dim=1, keepdim=True).sqrt()
    found = model.patchify(form.change(patches.float())[None])[0].double()
    assert float((found - expected).norm() / expected.norm()) < 1e-3


def test_what_cannot_be_is_refused(model: SplitViT) -> None:
    with pytest.raises(NullspaceError, match="0 < rms < 1"):
        universal_change(model, pictures(0, 2), rms=32)
    with pytest.raises(ImageRangeError):
        universal_change(model, 255 * pictures(0, 2), rms=RMS)
