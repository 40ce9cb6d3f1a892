"""What is explained: the logit of a class that is given, never silently that of a new prediction, by the images."""

from __future__ import annotations

from torch import Tensor

from nullspace.errors import NullspaceError


def score_of(logits: Tensor, classes: Tensor) -> Tensor:
    """Sum of the logits (B,K) of `classes` (B,): its gradient by the images is that of each image's own logit."""
    if classes.shape != logits.shape[:1] or classes.is_floating_point():
        raise NullspaceError(
            f"expected a whole number for each of {len(logits)} images, the class that is explained, got "
            f"{classes.dtype} of shape {tuple(classes.shape)}"
        )
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise NullspaceError(
            f"expected classes from 0 to {logits.shape[1] - 1}, got {int(classes.min())} to {int(classes.max())}"
        )
    return logits.gather(1, classes.to(logits.device)[:, None]).sum()


def differentiable(images: Tensor) -> Tensor:
    """The images as they are where they already take gradients, so that a map can be differentiated; else a leaf."""
    return images if images.requires_grad else images.detach().requires_grad_()
