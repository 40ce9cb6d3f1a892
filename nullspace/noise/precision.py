"""What noise is learned through: an encoder as it is, or a copy of it with weights in bfloat16."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nullspace.metrics.encoder_data import EncoderData
from nullspace.model.encoder import Encoder
from nullspace.model.vit import Outputs


class Runner:
    """The encoder of `data` in a precision, "float32" (as it is) or "bfloat16"; what goes in and comes out is float32.

    In bfloat16 the clean outputs, which a change is counted from, are of the same precision: against those of float32
    the loss of no noise at all would not be 0.
    """

    def __init__(self, data: EncoderData, precision: str) -> None:
        self._data, self._half = data, precision == "bfloat16"
        self._encoder = in_bfloat16(data.encoder) if self._half else data.encoder
        self._clean: Outputs | None = None if self._half else data.clean

    def outputs(self, states: Tensor, noise: Tensor) -> Outputs:
        """Features and logits, float32, of float32 states (B,S,D) under float32 noise (N,D) or (B,N,D)."""
        noised = self._encoder.add(states, noise)
        found = self._encoder.outputs(noised.to(torch.bfloat16) if self._half else noised)
        return Outputs(found.features.float(), found.logits.float())

    @property
    def clean(self) -> Outputs:
        """Clean outputs of all images of the data, where the states are; in bfloat16 computed when first asked for."""
        if self._clean is None:
            with torch.no_grad():
                found = list(self._clean_batches())
            self._clean = Outputs(
                torch.cat([each.features for each in found]), torch.cat([each.logits for each in found])
            )
        return self._clean

    def _clean_batches(self) -> Iterator[Outputs]:
        home = self._data.states.device
        for states in self._data.states.split(self._data.batch_size):
            found = self._encoder.outputs(states.to(self._encoder.device, torch.bfloat16))
            yield Outputs(found.features.float().to(home), found.logits.float().to(home))


def in_bfloat16(encoder: Encoder) -> Encoder:
    """A copy with weights in bfloat16; on CUDA its blocks are compiled, each by itself, where Triton is installed."""
    model = copy.deepcopy(encoder.model).to(torch.bfloat16)
    blocks: Any = getattr(model.model, "blocks", [])
    if encoder.device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        for block in blocks:
            block.compile()
    return Encoder(model, encoder.injection)


def rows(values: Tensor, index: Tensor, device: torch.device) -> Tensor:
    """Rows `index` of values, float32 on the device; the host does not wait for copies to a GPU."""
    picked = values[_sent(index, values.device)]
    return _sent(picked, device).to(torch.float32)


def _sent(values: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
