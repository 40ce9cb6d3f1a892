"""A model that has learned nothing, as a control of maps: what they show of it as well, they do not show of learning.

The randomisation test of Adebayo et al. (NeurIPS 2018), with the weights that there are in random order.
"""

from __future__ import annotations

import torch

from nullspace.model.vit import SplitViT


def with_weights_in_random_order(model: SplitViT, seed: int = 0) -> SplitViT:
    """A copy of the model whose weights are permuted within each tensor: as large, and without what was learned."""
    found = SplitViT(model.model, name=model.name, weights_source="in random order", verify=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.model.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return found
