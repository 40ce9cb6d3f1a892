"""Hidden messages in the kernel of the patches: readable with the key, invisible to the model.

Every bit is embedded at several sites (`carriers`) all over the image, on lattices whose offsets only the key knows
(dithered quantisation index modulation, Chen & Wornell 2001): a site is moved to the nearest point of the lattice of
its bit, by the smallest change in the kernel that does so. The host image is therefore no noise, and JPEG down to the
quality the lattice is made for cannot move a site past halfway. The result is rounded within the kernel too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.model.images import check_unit_range, from_uint8
from nullspace.model.shapes import Float, Shaped, UInt8
from nullspace.model.vit import SplitViT
from nullspace.pixels.lift import patch_map
from nullspace.pixels.projection import project_to_box
from nullspace.pixels.rounding import RoundingPlan, round_quickly, rounding_plan
from nullspace.watermark.payload.carriers import fitting_carriers
from nullspace.watermark.payload.code import LONGEST, TAG_BYTES, check_message, coded_bits
from nullspace.watermark.payload.detection import Detection, scores
from nullspace.watermark.payload.lattice import ROUNDING, STRENGTHS, Lattice, planned_energy
from nullspace.watermark.payload.reading import Search, read
from nullspace.watermark.payload.secret import Secret

SITES = 4  # embedding sites per patch of 16×16 at most: twice what the longest message needs at 224×224
FEWEST = 320  # sites of an image: small images get more per patch, so that 8 bytes fit with two sites for every bit
CROWDED = 20  # per patch of 16×16 even there: with more, each is moved too little to survive JPEG 50 at 40 dB
PLANNED = 42  # dB of PSNR for which the number of sites is chosen
ENOUGH = 2.5  # bits that sites carry over bits of message and tag: from here on messages are read after JPEG 50
_TOGETHER = 12  # images in a batch: more do not fit the processor's cache
_BOX_ITERATIONS, _BOX_TOLERANCE = 15, 1e-3  # rounding adds an error of the same size, more iterations gain nothing
BLURS = (0.55, 0.95)  # pixels; undone before further readings: together they cover 0.4 to 1.1, and resizes to 0.6
_TRIED = 128  # patches on which the error of rounding is measured


@dataclass(frozen=True, eq=False)
class Embedded:
    """8-bit `images` (B,3,H,W) with the message; `psnr` (B,) in dB, measured; `written` (B,) share of correct sites.

    Sites are not correct where pixels are saturated and leave no room; the code corrects these errors. `certify`
    measures what the model sees of the mark.
    """

    images: UInt8[Tensor, "B 3 H W"]
    psnr: Float[Tensor, " B"]
    written: Float[Tensor, " B"]


class HiddenMark:
    """Messages of one key in images for one model, whose patch embedding determines where they are embedded.

    Raises NullspaceError for a key too short and a model whose kernel is too small; CannotCutError without a plain
    patch embedding. Making one takes about a second; embedding and detecting go by the batch.
    """

    def __init__(self, model: SplitViT, key: str | bytes, *, kernel: PatchKernel | None = None) -> None:
        self.model = model
        self.kernel = kernel or patch_kernel(model)
        carriers = fitting_carriers(
            self.kernel,
            model.patch_size,
            most=per_patch(model.patch_size, model.num_patches),
            energy=planned_energy(self.kernel.patch_dim, PLANNED),
        )
        secret = Secret.of(key, b"nullspace hidden mark 2 " + _fingerprint(model))
        self.lattice = Lattice(carriers, secret, model.num_patches)

    @property
    def sites(self) -> int:
        """Sites per image."""
        return self.lattice.sites

    @property
    def longest(self) -> int:
        """Bytes of the longest message that has a site for every bit; half of that survives well."""
        return max((n for n in range(1, LONGEST + 1) if coded_bits(n) <= self.sites), default=0)

    def room(self, length: int, *, psnr: float = PLANNED) -> float:
        """Bits that the sites of an image carry through JPEG at quality 50, over those of message and tag.

        For pictures that are not saturated. From `ENOUGH` on, every message was read in the pictures used to choose it.
        """
        carried = self.model.num_patches * self.lattice.carriers.information(
            planned_energy(self.kernel.patch_dim, psnr)
        )
        return carried / (8 * (length + TAG_BYTES))

    def warning(self, length: int, *, psnr: float = PLANNED) -> str | None:
        """Why messages of `length` bytes may not be readable after JPEG at quality 50, or None from `ENOUGH` on."""
        room = self.room(length, psnr=psnr)
        if room >= ENOUGH:
            return None
        return (
            f"the patch embedding of {self.model.name} reads most of what survives JPEG: at {psnr:g} dB its kernel "
            f"carries {room:.1f} bits through JPEG 50 for each bit of message and tag, {ENOUGH} are needed. Use a "
            "lower PSNR or a shorter message, or save with less compression"
        )

    @torch.no_grad()
    def embed(
        self, images: Shaped[Tensor, "B 3 H W"], message: bytes | Sequence[bytes], *, psnr: float = 42
    ) -> Embedded:
        """Embed one message, or one for each image, in images (B,3,H,W), uint8 or float in [0,1].

        `psnr` in dB is held for every image; a lower one is a stronger mark. Raises NullspaceError for a strength that
        is not a whole number of 34 to 50, and for messages empty, too long, or not as many as images.
        """
        messages = self._messages(message, len(images))
        parts = [
            self._embedded(part, messages[start : start + _TOGETHER], psnr)
            for start, part in zip(range(0, len(images), _TOGETHER), images.split(_TOGETHER), strict=True)
        ]
        return Embedded(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "psnr", "written")))

    def _embedded(self, images: Tensor, messages: list[bytes], psnr: float) -> Embedded:
        clean = _float(images)
        signs = torch.stack([self.lattice.signs(each) for each in messages])
        patches = self.model.patchify(clean)
        wanted = self._inside(patches, self._change(patches, signs, psnr))
        rounded = round_quickly(wanted, self._plan)
        marked = self.model.unpatchify(rounded)
        return self._measured(clean, marked, signs, psnr)

    @torch.no_grad()
    def wanted_change(
        self, images: Shaped[Tensor, "B 3 H W"], message: bytes, *, psnr: float = 42
    ) -> Float[Tensor, "B N pixels"]:
        """The change of patches (B,N,3p²) in the kernel that embeds the message, without regard to the pixel range."""
        patches = self.model.patchify(_float(images))
        (checked,) = self._messages(message, 1)
        return self._change(patches, self.lattice.signs(checked).expand(len(patches), -1), psnr)

    @cached_property
    def seen_basis(self) -> Tensor:
        """Orthonormal (3p²,rank+k): basis of what the model and the reader see of a patch."""
        return torch.linalg.qr(torch.cat([self.kernel.row_space, self.lattice.carriers.filters], dim=1)).Q.float()

    @torch.no_grad()
    def detect(
        self,
        images: Shaped[Tensor, "B 3 H W"],
        *,
        false_positive_rate: float = 1e-6,
        length: int | None = None,
        psnr: float | None = None,
        blurs: Sequence[float] = BLURS,
    ) -> list[Detection]:
        """Look for a mark of this key in images (B,3,H,W), uint8 or float in [0,1].

        Where `length` (of the message, in bytes) or `psnr` are not given, all are tried; without a message, again with
        each of `blurs` (standard deviations in pixels) undone. The p-value is corrected for all of these readings.
        """
        if not 0 < false_positive_rate < 1:
            raise NullspaceError(f"expected a false positive rate in (0,1), got {false_positive_rate}")
        if min(blurs, default=1) <= 0:
            raise NullspaceError(f"expected blurs above 0 pixels, got {list(blurs)}")
        lengths = [length] if length is not None else list(range(1, self.longest + 1))
        strengths = [psnr] if psnr is not None else list(STRENGTHS)
        for each in lengths:
            self._check_length(each)
        search = Search(lengths, strengths, blurs, false_positive_rate)
        parts = images.split(_TOGETHER)
        return [found for part in parts for found in read(self.model, self.lattice, _float(part), search)]

    @cached_property
    def _movers(self) -> Tensor:
        return self.lattice.carriers.movers.float()

    @cached_property
    def _plan(self) -> RoundingPlan:
        return rounding_plan(patch_map(self.model))

    @cached_property
    def _rounding(self) -> float:
        """Mean square error of rounding with this kernel, measured: larger where few values compensate the errors."""
        drawn = torch.rand(_TRIED, self.kernel.patch_dim, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
        error = from_uint8(round_quickly(drawn, self._plan)) - drawn
        return max(ROUNDING, float(error.square().mean()))

    def _change(self, patches: Tensor, signs: Tensor, psnr: float) -> Tensor:
        """The smallest change in the kernel that moves all sites (B,n) to their bits, scaled to the energy allowed."""
        budget = patches[0].numel() * (10 ** (-psnr / 10) - self._rounding)
        change = self._moves(patches, signs, psnr) @ self._movers
        energy = change.square().sum(dim=(1, 2))
        return change * (budget / energy.clamp_min(1e-12)).sqrt().clamp(max=1)[:, None, None]

    def _moves(self, patches: Tensor, signs: Tensor, psnr: float) -> Tensor:
        """How far every site (B,N,k) is from the nearest point of the lattice of its bit."""
        values = patches @ self.lattice.filters
        away = self.lattice.phases(values, psnr) - torch.where(signs > 0, 0.0, 0.5)
        return (away.round() - away).reshape(values.shape) * self.lattice.periods(psnr)

    def _inside(self, patches: Tensor, change: Tensor) -> Tensor:
        """Patches with the change, or with the nearest one in the kernel that keeps pixels in [0,1]."""
        changed = patches + change
        outside = ((changed < 0) | (changed > 1)).any(dim=-1)
        if bool(outside.any()):
            found = project_to_box(
                patches[outside], change[outside], self.kernel, iterations=_BOX_ITERATIONS, tolerance=_BOX_TOLERANCE
            )
            changed[outside] = patches[outside] + found.delta
        return changed.clamp(0, 1)

    def _measured(self, clean: Tensor, marked: Tensor, signs: Tensor, psnr: float) -> Embedded:
        after = from_uint8(marked)
        error = (after - clean).square().mean(dim=(1, 2, 3))
        phases = self.lattice.phases(self.model.patchify(after) @ self.lattice.filters, psnr)
        written = ((scores(phases) > 0) == (signs > 0)).double().mean(dim=1)
        return Embedded(marked, -10 * error.log10(), written)

    def _messages(self, message: bytes | Sequence[bytes], count: int) -> list[bytes]:
        if not count:
            raise NullspaceError("expected at least one image to embed a message in, got none")
        messages = [message] * count if isinstance(message, bytes) else list(message)
        if len(messages) != count:
            raise NullspaceError(f"expected one message, or one for each of {count} images, got {len(messages)}")
        for each in messages:
            check_message(each)
            self._check_length(len(each))
        return messages

    def _check_length(self, length: int) -> None:
        if not 1 <= length <= self.longest:
            raise NullspaceError(
                f"expected a message of 1 to {self.longest} bytes, got {length}: {self.model.name} has {self.sites} "
                "embedding sites; embed something shorter, such as a number that points to the rest"
            )


def per_patch(patch_size: tuple[int, int], patches: int) -> int:
    """The most sites of a patch, in images of `patches` patches."""
    area = patch_size[0] * patch_size[1] / 256
    return max(1, round(max(SITES * area, min(FEWEST / patches, CROWDED * area))))


def _float(images: Tensor) -> Tensor:
    """float32 images in [0,1] of uint8 or float ones, on the CPU, where marks are embedded and read."""
    images = images.detach().cpu()
    values = from_uint8(images) if images.dtype == torch.uint8 else images.float()
    check_unit_range(values)
    return values


def _fingerprint(model: SplitViT) -> bytes:
    """What binds a mark to a model: its patch embedding, and the scaling and size of its input."""
    weight = model.patch_projection.weight.detach().float().cpu().contiguous().numpy().tobytes()
    return hashlib.sha256(weight + model.preprocessing.key().encode() + repr(model.preprocessing.std).encode()).digest()
