"""The order in which images are learned from: every image once per pass, seeded, resumable bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nullspace.errors import NullspaceError


class Batches:
    """Indices of one batch of `size` images of `count` after the other; the caller draws from `generator`, too."""

    def __init__(self, count: int, size: int, generator: torch.Generator) -> None:
        self.count, self.size, self.generator = count, min(size, count), generator
        self._order, self._cursor = torch.empty(0, dtype=torch.int64), 0

    def next(self) -> Tensor:
        """Indices (size,) of the next batch; a pass ends when too few images are left for a whole one."""
        if self._cursor + self.size > len(self._order):
            self._order, self._cursor = torch.randperm(self.count, generator=self.generator), 0
        batch = self._order[self._cursor : self._cursor + self.size]
        self._cursor += self.size
        return batch

    def state_dict(self) -> dict[str, Tensor | int]:
        """Order, place in it, and state of the generator."""
        return {"order": self._order.clone(), "cursor": self._cursor, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        """Continue where `state_dict` was taken; raises NullspaceError when that was over other images."""
        order = tensor_of(state, "order")
        if len(order) not in (0, self.count):
            raise NullspaceError(
                f"expected a state over {self.count} images, got one over {len(order)}; resume with the same model "
                "and images"
            )
        self._order, self._cursor = order.cpu().clone(), int(state["cursor"])
        self.generator.set_state(tensor_of(state, "generator").cpu())


def tensor_of(state: Mapping[str, Tensor | int], name: str) -> Tensor:
    """The tensor under `name` of a state; raises NullspaceError when it is something else."""
    value = state.get(name)
    if not isinstance(value, Tensor):
        raise NullspaceError(f"expected a tensor under {name!r} in the learner state, got {type(value).__name__}")
    return value
