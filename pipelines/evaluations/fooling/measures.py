"""How near a fooled picture is to both images of its pair: to the model, as pixels, and to the judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from nullspace.metrics.norms import token_norms
from nullspace.model.images import round_to_uint8
from nullspace.model.vit import Outputs, SplitViT
from pipelines.evaluations.base import outcome_columns
from pipelines.evaluations.fooling.judges import Judge
from pipelines.evaluations.fooling.ways import judged
from pipelines.evaluations.image_quality import psnr, ssim

QUALITY = ("psnr_to_look", "ssim_to_look", "psnr_to_image", "ssim_to_image")
RELATIVE = ("relative_features", "relative_logits", "relative_probabilities")


@dataclass(frozen=True)
class Pair:
    """Images (n,3,H,W) that the model is to see and what it says of them; the same of those that people are to see."""

    images: Tensor
    of_images: Outputs
    look: Tensor
    of_look: Outputs


class Measures:
    """Figures of one model's fooled pictures."""

    def __init__(self, model: SplitViT, usual: float) -> None:
        """`usual` is the least distance of features among random pairs of images."""
        self.model, self.usual = model, usual

    def of(self, fooled: Tensor, answer: Outputs, pair: Pair) -> dict[str, Tensor]:
        """Columns for pictures (n,3,H,W) and what the model says of them."""
        apart = _distances(pair.of_look, pair.of_images)
        left = _distances(answer, pair.of_images)
        relative = {name: each / other for name, each, other in zip(RELATIVE, left, apart, strict=True)}
        return {
            **outcome_columns(pair.of_images, answer),
            "as_look": answer.logits.cpu().argmax(dim=1) == pair.of_look.logits.cpu().argmax(dim=1),
            "nearer_than_pairs": left[0] < self.usual,
            "confidence_off": self._confidence_off(answer, pair),
            **relative,
            "token_difference": self._token_difference(fooled, pair.images),
            **dict(zip(QUALITY, self._quality(fooled, pair), strict=True)),
        }

    @staticmethod
    def _confidence_off(answer: Outputs, pair: Pair) -> Tensor:
        """|Δ| of the probability that the model gives the image's class."""
        before, after = (each.logits.double().cpu().softmax(dim=1) for each in (pair.of_images, answer))
        kind = before.argmax(dim=1, keepdim=True)
        return (after.gather(1, kind) - before.gather(1, kind)).abs()[:, 0]

    def _token_difference(self, fooled: Tensor, images: Tensor) -> Tensor:
        """Mean norm of the difference of tokens over the mean norm of tokens: how large this null noise is."""
        tokens = self.model.tokens(images).float()
        difference = self.model.tokens(fooled).float() - tokens
        return (token_norms(difference).mean(dim=1) / token_norms(tokens).mean(dim=1)).cpu().double()

    @staticmethod
    def _quality(fooled: Tensor, pair: Pair) -> list[Tensor]:
        return [measure(fooled, each).cpu().double() for each in (pair.look, pair.images) for measure in (psnr, ssim)]


def _distances(one: Outputs, other: Outputs) -> list[Tensor]:
    """Squared distances (n,) of features, logits and probabilities, in float64 on the CPU."""
    both = [(each.features.double().cpu(), each.logits.double().cpu()) for each in (one, other)]
    parts = [(features, logits, logits.softmax(dim=1)) for features, logits in both]
    return [(left - right).square().sum(dim=1) for left, right in zip(*parts, strict=True)]


def columns_of_judges(judges: Mapping[str, Judge], fooled: Tensor, pair: Pair) -> dict[str, Tensor]:
    """What each judge sees in the fooled pictures."""
    pictures = [round_to_uint8(each) for each in (fooled, pair.images, pair.look)]
    return {
        judged(label, name): answers
        for label, judge in judges.items()
        for name, answers in judge.sees(*pictures).items()
    }
