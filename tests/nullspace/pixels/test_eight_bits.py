"""8-bit pictures: whole levels near what was wanted, whose tokens are those of the clean picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.file_kernel import kernel_on_file
from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.kernel.shift import exact_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.resize import Resize, resize_of
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import MAX_MOVE, EightBits
from nullspace.pixels.eight_bits_on_file import save_on_file
from nullspace.pixels.lift import patch_map
from nullspace.pixels.projection import project_to_box
from nullspace.watermark.certify import certify, token_changes
from nullspace.watermark.payload.hidden_mark import HiddenMark
from nullspace.watermark.payload.on_file import embed_on_file
from tests.nullspace.tiny_vit import tiny_vit


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny_vit()


@pytest.fixture(scope="module")
def eight(model: SplitViT) -> EightBits:
    return EightBits.of(model, patch_kernel(model))


def pictures(count: int = 3, size: int = 32) -> Tensor:
    """8-bit pictures in [0,1], a corner of each white and another black."""
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    images[:, :, : size // 4, : size // 4], images[:, :, -size // 3 :, -size // 3 :] = 1, 0
    return from_uint8(round_to_uint8(images))


def noised(model: SplitViT, images: Tensor, iterations: int = 1000) -> Tensor:
    patches = model.patchify(images)
    noise = torch.randn(patches.shape, generator=torch.Generator().manual_seed(1)) / 4
    change = project_to_box(patches, noise, patch_kernel(model), iterations=iterations).delta
    return model.unpatchify(patches + change).clamp(0, 1)


def test_levels_are_near_and_tokens_nearer_than_nearest_rounding_leaves_them(model: SplitViT, eight: EightBits) -> None:
    images = pictures()
    wanted = noised(model, images)
    saved = eight.save(images, wanted)
    assert saved.dtype == torch.uint8 and saved.shape == images.shape
    assert float((saved.float() - 255 * wanted).abs().max()) <= MAX_MOVE + 1e-3
    assert float((wanted - images).abs().mean()) > 0.05
    ours, nearest = (
        token_changes(model, eight.plan.mapping, images, from_uint8(each)) for each in (saved, round_to_uint8(wanted))
    )
    assert float(ours.square().mean()) < float(nearest.square().mean()) / 5
    assert float(ours.max()) < float(nearest.max()) / 2


def test_the_certificate_is_the_change_of_the_tokens(model: SplitViT, eight: EightBits) -> None:
    images = pictures()
    saved = from_uint8(eight.save(images, noised(model, images)))
    exact = tiny_vit().double()
    before, after = (exact.tokens(each.double()) for each in (images, saved))
    expected = (after - before).norm(dim=-1) / before.norm(dim=-1).mean(dim=1, keepdim=True)
    found = token_changes(model, eight.plan.mapping, images, saved)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-8)
    whole = certify(model, images, saved)
    torch.testing.assert_close(whole.largest_token_change, expected.amax(dim=1), rtol=1e-3, atol=1e-8)


def test_what_the_box_left_over_is_taken_away_too(model: SplitViT, eight: EightBits) -> None:
    images = pictures()
    settled = noised(model, images)
    # As an unfinished projection leaves it: a change of a fifth of a level in directions the model sees.
    rows = patch_kernel(model).row_space.float()
    patches = model.patchify(settled)
    seen = torch.randn(*patches.shape[:-1], rows.shape[1], generator=torch.Generator().manual_seed(2)) @ rows.T
    unfinished = model.unpatchify((patches + seen / 255).clamp(0, 1))
    before, after, best = (
        float(token_changes(model, eight.plan.mapping, images, each).square().mean().sqrt())
        for each in (unfinished, *(from_uint8(eight.save(images, part)) for part in (unfinished, settled)))
    )
    assert before > 3 * after and after < 1.5 * best


def test_a_picture_is_rounded_alike_in_any_batch(model: SplitViT, eight: EightBits) -> None:
    images = pictures()
    wanted = noised(model, images)
    assert torch.equal(eight.save(images, wanted)[1:2], eight.save(images[1:2], wanted[1:2]))
    assert torch.equal(eight.save(images, images), round_to_uint8(images)), "nothing added, nothing changed"


def test_a_square_embedding_is_rounded_modulo_the_shift() -> None:
    square = tiny_vit(embed_dim=192)
    kernel = exact_kernel(square)
    assert (kernel.nullity, kernel.modulo_shift) == (1, True)
    eight = EightBits.of(square, kernel)
    assert eight.plan.mapping.rank == 191
    images = pictures()
    patches = square.patchify(images)
    change = project_to_box(patches, torch.ones_like(patches), kernel, iterations=1000).delta
    wanted = (images + square.unpatchify(change)).clamp(0, 1)
    moved = [
        float(token_changes(square, eight.plan.mapping, images, each).square().mean().sqrt())
        for each in (from_uint8(eight.save(images, wanted)), from_uint8(round_to_uint8(wanted)))
    ]
    assert moved[0] < moved[1]
    plain = token_changes(square, patch_map(square), images, wanted)
    assert float(plain.max()) > 10 * float(token_changes(square, eight.plan.mapping, images, wanted).max())


def photo(size: tuple[int, int]) -> Tensor:
    """A file (3,H,W) uint8 with contours that reach black and white."""
    coarse = 1.6 * torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(4)) - 0.3
    return round_to_uint8(torch.nn.functional.interpolate(coarse, size=size, mode="nearest").clamp(0, 1))[0]


def noised_file(model: SplitViT, file: Tensor) -> Tensor:
    """Kernel noise on the file through the resize, strong enough that PIL clips."""
    kernel = kernel_on_file(model, (file.shape[1], file.shape[2]))
    clean = from_uint8(file).double()
    noise = torch.randn(1, *file.shape, generator=torch.Generator().manual_seed(3)).double() / 4
    return (clean + kernel.project_to_box(clean[None], noise, iterations=300).delta[0]).clamp(0, 1)


def seen_by(model: SplitViT) -> Callable[[Tensor], Tensor]:
    transform = model.preprocessing.transform()
    return lambda pixels: transform(Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0))))


def token_change(model: SplitViT, file: Tensor, pixels: Tensor) -> tuple[float, float]:
    """Root mean square and largest change of tokens through the model's own resizing."""
    before, after = (from_uint8(seen_by(model)(each))[None] for each in (file, pixels))
    moved = token_changes(model, patch_map(model), before, after)
    return float(moved.square().mean().sqrt()), float(moved.max())


@pytest.mark.parametrize(
    ("size", "times"),
    [((90, 120), 6), ((150, 50), 4), ((46, 44), 4), ((35, 50), 2), ((40, 37), 4), ((24, 24), 1.7)],
    ids=str,
)
def test_a_file_is_rounded_so_that_what_the_model_gets_is_in_the_kernel(
    model: SplitViT, eight: EightBits, size: tuple[int, int], times: float
) -> None:
    """Much larger than the input, tall (there PIL may take the columns first), a little larger, cropped, smaller."""
    file = photo(size)
    changed, resize = noised_file(model, file), resize_of(model.preprocessing, size)
    saved = save_on_file(eight, resize, file, changed, seen_by(model))
    assert saved.dtype == torch.uint8 and saved.shape == file.shape
    (ours, worst), (nearest, nearest_worst) = (
        token_change(model, file, each) for each in (saved, round_to_uint8(changed))
    )
    assert ours < nearest / times and worst < nearest_worst / times
    moved = saved.double() - 255 * changed
    assert float(moved.square().mean().sqrt()) < 5
    again = save_on_file(eight, resize, file, changed, seen_by(model))
    assert torch.equal(saved, again), "the same file, the same answer"


def test_pixels_that_are_not_free_stay(model: SplitViT, eight: EightBits) -> None:
    size = (46, 44)
    file = photo(size)
    free = torch.ones(size, dtype=torch.bool)
    free[:20, :30] = False
    changed = torch.where(free, noised_file(model, file), from_uint8(file).double())
    saved = save_on_file(eight, resize_of(model.preprocessing, size), file, changed, seen_by(model), free=free)
    assert torch.equal(saved[:, ~free], file[:, ~free])
    assert token_change(model, file, saved)[0] < token_change(model, file, round_to_uint8(changed))[0] / 2


def test_what_is_no_resize_of_pil_is_left_to_plain_rounding(model: SplitViT, eight: EightBits) -> None:
    file = photo((46, 44))

    def seen(pixels: Tensor) -> Tensor:
        return seen_by(model)(pixels) // 2

    resize = resize_of(model.preprocessing, (46, 44))
    saved = save_on_file(eight, resize, file, from_uint8(file).double(), seen)
    assert torch.equal(saved, file)


def test_a_message_on_a_file_is_still_read_and_as_strong_as_asked_for() -> None:
    model = tiny_vit(img_size=64)
    mark = HiddenMark(model, "a key for tests only")
    eight, seen, file = EightBits.of(model, mark.kernel), seen_by(model), photo((90, 100))
    made, plain = (
        embed_on_file(mark, file, seen(file), b"A", psnr=44, save=save)
        for save in (lambda resize, changed: save_on_file(eight, resize, file, changed, seen), None)
    )
    assert made.psnr > 43.8
    for each in (made, plain):
        assert mark.detect(seen(each.pixels)[None], length=1, psnr=44)[0].message == b"A"
    assert token_change(model, file, made.pixels)[0] < token_change(model, file, plain.pixels)[0] / 3


def test_errors(eight: EightBits) -> None:
    images = pictures()
    with pytest.raises(NullspaceError, match=r"pictures of one shape, got \(3, 3, 32, 32\) and \(2, 3, 32, 32\)"):
        eight.save(images, images[:2])
    with pytest.raises(ImageRangeError):
        eight.save(images, images + 1)
    resize = Resize(torch.eye(32, dtype=torch.float64), torch.eye(32, dtype=torch.float64))
    with pytest.raises(NullspaceError, match="expected a file"):
        save_on_file(eight, resize, images[0], images[0], lambda pixels: pixels)
