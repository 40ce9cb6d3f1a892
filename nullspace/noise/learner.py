"""The approximate nullspace of the encoder: learn noise v that hardly changes what the model says, of a norm held.

With E the part of the model before an injection point and g the rest, v (N,D) minimises
mean_x loss(g(E(x)), g(E(x)+v))  with the norm of every token held: a total norm can be had for nothing by putting it
all into few tokens. States E(x) and clean outputs are computed once beforehand. The published algorithms, which leave
the norm free, are in `baselines`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.model.shapes import Float
from nullspace.model.vit import Outputs
from nullspace.noise.adam import Adam
from nullspace.noise.batches import Batches, tensor_of
from nullspace.noise.channel_start import channel_start
from nullspace.noise.form import NoiseForm
from nullspace.noise.objectives import OBJECTIVES
from nullspace.noise.precision import Runner, rows
from nullspace.noise.settings import NoiseSettings

__all__ = ["NoiseLearner", "NoiseSettings"]

START_DIRECTIONS = 4  # of a whole tensor: more free than one direction, and still hardly felt
_GROUPS = ("parameters", "first", "second")


class NoiseLearner:
    """Learns noise by Adam with a cosine schedule per phase, one `step()` at a time; resumes bit for bit.

    Each batch of `data`, in whose unit norms are relative, moves to the model's device. With `micro_batch` a batch runs
    in pieces of that many images: same loss, less memory. With scope "image" every step is over all images, and the
    noise is (n,N,D).
    """

    def __init__(
        self,
        data: EncoderData,
        settings: NoiseSettings,
        *,
        start: Float[Tensor, "*n N D"] | None = None,
        micro_batch: int | None = None,
    ) -> None:
        """`start`: noise to go on from, rescaled to the norm and cut to the first rank, or as `settings.start` says."""
        if micro_batch is not None and micro_batch < 1:
            raise NullspaceError(f"expected micro_batch >= 1, got {micro_batch}")
        self.data, self.encoder, self.settings, self.micro_batch = data, data.encoder, settings, micro_batch
        self._runner = Runner(data, settings.precision)
        self.steps_done = self.image_steps = 0
        generator = torch.Generator().manual_seed(settings.seed)  # on the CPU: equal draws on every device
        self._batches = Batches(data.n, settings.batch_size, generator)
        shape = self.encoder.noise_shape
        self._shape = shape if settings.scope == "universal" else (data.n, *shape)
        self._given = None if start is None else self._checked(start)
        self._form, self._learned = self._form_at(0), None

    @property
    def noise(self) -> Float[Tensor, "*n N D"]:
        """The noise (N,D), or (n,N,D), as learned so far: float32 on the model's device, of the norm held."""
        return self._form.value(self._adam().parameters).detach().clone()

    def step(self) -> float:
        """One Adam step on the next batch; returns the mean loss before it. Raises NullspaceError when not finite.

        Beyond `settings.steps` the learning rate of the cosine is 0, so that is refused.
        """
        after, losses = self._next()
        self._check(loss := float(losses.mean()), after, self.steps_done + 1)
        self._take(after)
        return loss

    def steps(self, count: int) -> list[float]:
        """So many steps, and the loss before each, as `step()` returns it.

        On a GPU the host does not wait between them: losses are read, and found not to be finite, after the last.
        """
        if self.encoder.device.type != "cuda":
            return [self.step() for _ in range(count)]
        means: list[Tensor] = []
        for _ in range(count):
            after, losses = self._next()
            means.append(losses.mean())
            self._take(after)
        found: list[float] = torch.stack(means).tolist() if means else []
        self._check(next((loss for loss in found if not math.isfinite(loss)), 0.0), self._adam(), self.steps_done)
        return found

    def _next(self) -> tuple[Adam, Tensor]:
        """What is learned after the next step, and the losses (b,) before it; nothing here waits for a GPU."""
        if self.steps_done >= self.settings.steps:
            raise NullspaceError(f"all {self.settings.steps} steps are done; ask for more in NoiseSettings(steps=...)")
        adam = self._enter_phase()
        index = self._batches.next() if self.settings.scope == "universal" else torch.arange(self.data.n)
        leaves = {name: value.detach().requires_grad_() for name, value in adam.parameters.items()}
        noise = self._form.value(leaves)
        losses, gradient = self._losses_and_gradient(index, noise.detach())
        pulled = torch.autograd.grad(noise, list(leaves.values()), gradient)
        return adam.step(dict(zip(leaves, pulled, strict=True)), self.settings.rate(self.steps_done)), losses

    def _take(self, after: Adam) -> None:
        self._learned = after
        self.steps_done += 1

    def _check(self, loss: float, after: Adam, step: int) -> None:
        if not (math.isfinite(loss) and after.is_finite()):
            raise NullspaceError(
                f"noise learning diverged at step {step}: the loss is {loss}, or the noise not finite "
                f"(learning_rate {self.settings.learning_rate}, relative_norm {self.settings.relative_norm}); lower "
                "them, and check that the model gives finite logits in this precision"
            )

    def state_dict(self) -> dict[str, Tensor | int]:
        """Everything a later `step()` depends on besides data and settings: CPU tensors and ints only."""
        adam = self._adam()
        state: dict[str, Tensor | int] = {
            f"{group}.{name}": value.detach().cpu().clone()
            for group in _GROUPS
            for name, value in getattr(adam, group).items()
        }
        counts = {"count": adam.count, "steps_done": self.steps_done, "image_steps": self.image_steps}
        return state | self._batches.state_dict() | counts

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        """Continue where `state_dict()` was taken. Raises NullspaceError when it belongs to other shapes or data."""
        steps_done = int(state.get("steps_done", 0))
        form = self._form_at(max(steps_done - 1, 0))
        expected = {f"{group}.{name}": shape for group in _GROUPS for name, shape in form.shapes(self._shape).items()}
        names = {*expected, "order", "cursor", "generator", "count", "steps_done", "image_steps"}
        if set(state) != names:
            raise NullspaceError(f"expected a learner state with {sorted(names)}, got {sorted(state)}")
        for name, shape in expected.items():
            if tuple(tensor_of(state, name).shape) != shape:
                raise NullspaceError(
                    f"expected {name} of shape {shape}, got {tuple(tensor_of(state, name).shape)}; resume with the "
                    "same model, images and settings"
                )
        self._batches.load_state_dict(state)
        held = {name: tensor_of(state, name).to(self.encoder.device, torch.float32).clone() for name in expected}
        groups = ({n: held[f"{group}.{n}"] for n in form.shapes(self._shape)} for group in _GROUPS)
        self._form, self._learned = form, Adam(*groups, count=int(state["count"]))
        self.steps_done, self.image_steps = steps_done, int(state["image_steps"])

    def _form_at(self, step: int) -> NoiseForm:
        rank = self.settings.phase(step).rank
        rank = rank if rank is None else min(rank, *self.encoder.noise_shape)
        return NoiseForm(self.settings.relative_norm * self.data.unit.token_norm, rank, self.data.unit.shift_invariant)

    def _adam(self) -> Adam:
        """What is learned; the start is made when first asked for, as a learner that is loaded needs none."""
        if self._learned is None:
            start = self._start(self._batches.generator) if self._given is None else self._given
            self._learned = Adam.begin(self._form.parameters_of(start))
        return self._learned

    def _enter_phase(self) -> Adam:
        """What is learned, in the form that the next step's rank asks for."""
        adam, form = self._adam(), self._form_at(self.steps_done)
        if form != self._form:
            adam = self._learned = Adam.begin(form.parameters_of(self._form.value(adam.parameters)))
            self._form = form
        return adam

    def _start(self, generator: torch.Generator) -> Tensor:
        tokens, dim = self.encoder.noise_shape
        if self.settings.start == "random":
            return torch.randn(self._shape, generator=generator).to(self.encoder.device)
        found = channel_start(
            lambda index, noise: self._losses_and_gradient(index, noise.to(self.encoder.device))[1],
            self._batches.next,
            (tokens, dim),
            self._form,
            generator,
            directions=min(self._form.rank or START_DIRECTIONS, dim - 1),
        )
        return found.noise.to(self.encoder.device)

    def _checked(self, start: Tensor) -> Tensor:
        if tuple(start.shape) != self._shape or not bool(torch.isfinite(start).all()):
            raise NullspaceError(f"expected a finite start of shape {self._shape}, got shape {tuple(start.shape)}")
        return start.detach().to(self.encoder.device, torch.float32)

    def _losses_and_gradient(self, index: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (b,) of images `index` under noise (N,D) or (b,N,D), and the gradient of their mean, or of each.

        With (b,N,D) row i of the gradient is that of image i's own loss.
        """
        losses, gradients = [], []
        shared, size = noise.ndim == 2, self.micro_batch or len(index)
        for begin in range(0, len(index), size):
            piece = slice(begin, begin + size)
            leaf = (noise if shared else noise[piece]).detach().requires_grad_()
            found = self._losses(index[piece], leaf)
            gradients.append(torch.autograd.grad(found.sum(), leaf)[0])
            losses.append(found.detach())
        self.image_steps += len(index)
        if shared:
            return torch.cat(losses), torch.stack(gradients).sum(0) / len(index)
        return torch.cat(losses), torch.cat(gradients)

    def _losses(self, index: Tensor, noise: Tensor) -> Tensor:
        device, before = self.encoder.device, self._runner.clean
        states = rows(self.data.states, index, device)
        clean = Outputs(rows(before.features, index, device), rows(before.logits, index, device))
        return OBJECTIVES[self.settings.objective](clean, self._runner.outputs(states, noise))
