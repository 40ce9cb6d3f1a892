"""From the classes of a source to those of a model: names that are ImageNet's wnids get the class it has for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.data.sources.record import digest_of
from pipelines.engine.models import ModelFacts

_NAMED = 3


@dataclass(frozen=True)
class ClassNumbers:
    """`numbers[i]` is the model's class for the source's class i, -1 where it has none; None: labels stay."""

    numbers: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = ()


def with_classes(facts: ModelFacts, names: Sequence[str] | None) -> ModelFacts:
    """The same model with the meaning of a source's labels for it (`names` as of `Source.class_names`)."""
    found = class_numbers(names, facts.num_classes)
    return replace(facts, spec=replace(facts.spec, class_numbers=found.numbers), label_warnings=found.warnings)


def class_numbers(names: Sequence[str] | None, num_classes: int) -> ClassNumbers:
    """What labels that number `names` are to a model of so many classes.

    Which ImageNet the model was trained on follows from its number of classes, as `timm.data.infer_imagenet_subset`
    does; the order of its classes is timm's `ImageNetInfo`.
    """
    if names is None:
        return ClassNumbers()
    subset, own = _imagenet(num_classes)
    if any(name in own for name in names):
        return _by_wnid(names, own, subset)
    if len(names) != num_classes:
        return ClassNumbers(warnings=(_other_number(names, num_classes),))
    return ClassNumbers()


def fingerprint(facts: ModelFacts) -> dict[str, str]:
    """The part of this that decides a stage's result; empty where labels stay as they are."""
    numbers = facts.spec.class_numbers
    return {"classes": digest_of([numbers, facts.label_warnings])} if numbers or facts.label_warnings else {}


def _imagenet(num_classes: int) -> tuple[str, dict[str, int]]:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_classes})
    names = ImageNetInfo(subset).label_names() if subset else []
    return subset or "", {name: number for number, name in enumerate(names)}


def _by_wnid(names: Sequence[str], own: dict[str, int], subset: str) -> ClassNumbers:
    numbers = tuple(own.get(name, -1) for name in names)
    unknown = [name for name in names if name not in own]
    warnings = ()
    if unknown:
        which = f"{len(unknown)} of {len(names)} classes of the source ({_some(unknown)})"
        warnings = (f"{which} are none of the model's ({subset}): their images count as unlabelled",)
    return ClassNumbers(None if numbers == tuple(range(len(names))) else numbers, warnings)


def _other_number(names: Sequence[str], num_classes: int) -> str:
    return (
        f"the source has {len(names)} classes ({_some(names)}), numbered from 0, but the model "
        f"has {num_classes}: its accuracy means nothing unless they are the model's first ones; name folders by wnid "
        "(n01440764), give class numbers in a table (source.kind: csv), or set source.kind: unlabelled"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *(["…"] if len(names) > _NAMED else [])])
