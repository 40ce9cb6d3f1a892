"""Do other models notice the noise that this one does not? Its pictures and its token noise, shown to them.

Kernel noise goes through pixels: pictures of 8 bits, which a model of another input size reads as files. Learned noise
is added to the tokens of models whose tokens have the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from nullspace.model.images import round_to_uint8
from nullspace.model.vit import Outputs
from pipelines.evaluations.base import (
    Asked,
    Columns,
    Evaluation,
    EvaluationShards,
    ImageBatch,
    Verdict,
    as_float,
    outcome_columns,
)
from pipelines.evaluations.changes import controls
from pipelines.evaluations.found_kernel import kernel_of
from pipelines.evaluations.other_model import OtherModel
from pipelines.evaluations.pixel_noise import KernelNoise
from pipelines.evaluations.tallies import OutcomeTally
from pipelines.evaluations.token_noise import CONDITIONS, TokenNoise, tested
from pipelines.evaluations.transfer.settings import TransferSettings
from pipelines.evaluations.transfer.ways import Way, ways_of


class TransferShards(EvaluationShards[TransferSettings]):
    """Shows the noise of a model to it and to the others, on the drawn images of a shard."""

    def __init__(self, out: str, asked: Asked[TransferSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        kernel = kernel_of(asked, self.model)
        self.kernel = None if kernel is None else KernelNoise(self.model, kernel, self.settings.rms, self.seed)
        searched = asked.inputs.get("search")
        self.learned = None if searched is None else TokenNoise.found(searched)
        loaded = {label: spec.load(device) for label, spec in asked.others.items()}
        self.models = {None: OtherModel(self.model)} | {label: OtherModel(each) for label, each in loaded.items()}

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        pictures = self._pictures(batch)
        for label, model in self.models.items():
            tokens = model.model.tokens(model.reads(batch.saved))
            before = as_float(model.model.outputs_from_tokens(tokens))
            if pictures:
                yield from _seen(Way("kernel", label), model, before, pictures)
            if self.learned is not None and tokens.shape[1:] == self.learned.noise.tensor.shape:
                yield from _on_tokens(Way("learned", label), model, before, tokens, self.learned, batch.ids)

    def _pictures(self, batch: ImageBatch) -> tuple[Tensor, ...]:
        """The images with kernel noise, and the controls of its size; none without a kernel."""
        if self.kernel is None:
            return ()
        noised = self.kernel.images("in_box", batch.images, batch.ids, self.kernel.draw(batch.ids))
        return noised, *controls(batch.images, noised, batch.ids, self.seed, EVALUATION.name)


def _seen(way: Way, model: OtherModel, before: Outputs, pictures: tuple[Tensor, ...]) -> Iterator[tuple[str, Columns]]:
    """What a model says of the pictures with noise and of their controls, beside what it says of the clean ones."""
    for (name, _), changed in zip(way.conditions(), pictures, strict=True):
        yield name, outcome_columns(before, model.outputs(round_to_uint8(changed)))


def _on_tokens(
    way: Way, model: OtherModel, before: Outputs, tokens: Tensor, noise: TokenNoise, ids: list[str]
) -> Iterator[tuple[str, Columns]]:
    """What becomes of a model's answers when the noise and its controls are added to its tokens (n,N,D)."""
    for (name, _), condition in zip(way.conditions(), CONDITIONS, strict=True):
        noised = tokens + noise.draw(condition, ids, tokens.device).to(tokens)
        after = as_float(model.model.outputs_from_tokens(noised))
        yield name, noise.parts(ids) | outcome_columns(before, after)


def verdict(asked: Asked[TransferSettings]) -> Verdict:
    """Skipped where there is no other model, or no noise."""
    if not asked.others:
        return Verdict("the run has no other model that could be asked; name several under `models`")
    if not _kinds(asked):
        return Verdict("the kernel is trivial and there was no search: the model has no noise to show to others")
    missing = [label for label in asked.settings.models if label not in asked.others and label != asked.model.label]
    return Verdict(warnings=tuple(f"transfer: {label} could not be loaded and was not asked" for label in missing))


def _kinds(asked: Asked[TransferSettings]) -> list[str]:
    kernel, learned = asked.inputs["kernel"].result["nullity"], "search" in asked.inputs
    return [*(["kernel"] if kernel else []), *(["learned"] if learned else [])]


def _tallies(asked: Asked[TransferSettings]) -> dict[str, OutcomeTally]:
    return {
        name: OutcomeTally(only=tested if way.kind == "learned" else None)
        for way in ways_of([*asked.others], _kinds(asked))
        for name, _ in way.conditions()
    }


EVALUATION = Evaluation(
    name="transfer",
    version=2,
    settings=TransferSettings,
    worker=TransferShards,
    tallies=_tallies,
    needs=("kernel",),
    reads=lambda settings: ("search",),
    draws=lambda settings: settings.images,
    others=lambda settings: settings.models or None,
    verdict=verdict,
    from_inputs=lambda asked: {"others": [*asked.others]},
)
