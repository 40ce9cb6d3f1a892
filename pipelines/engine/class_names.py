"""Names of a model's classes: from its data, from timm for ImageNet, else numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nullspace.model.vit import SplitViT
from pipelines.digits import MODEL_NAME
from pipelines.errors import ConfigError


@dataclass(frozen=True)
class ClassNames:
    """`names[i]` is the name of class i; without names a class is its number."""

    names: tuple[str, ...] = ()

    def __getitem__(self, number: int) -> str:
        return self.names[number] if self.names else f"class {number}"


def class_names(model: SplitViT, source_names: Sequence[str] | None = None) -> ClassNames:
    """The names of a model's classes.

    `source_names` are those of labelled data, in the order of its labels, as `Source.class_names` gives them; wnids
    (n01440764) are translated. Otherwise those of the ImageNet that timm infers from the number of classes; for the
    demo's model its digits. Raises ConfigError when there are not as many names as classes.
    """
    count = model.num_classes
    if source_names is not None:
        if len(source_names) != count:
            raise ConfigError(
                f"expected the names of the {count} classes of {model.name}, got {len(source_names)}: "
                f"{', '.join([*source_names[:3], *(['…'] if len(source_names) > 3 else [])])}; "
                "give the data the model was trained on"
            )
        return ClassNames(_translated(source_names))
    if model.name == MODEL_NAME and count == 10:
        return ClassNames(tuple(map(str, range(10))))
    return ClassNames(_imagenet(count))


def _imagenet(count: int) -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": count})
    if not subset:
        return ()
    info = ImageNetInfo(subset)
    return _distinct([info.index_to_description(number) for number in range(count)])


def _translated(names: Sequence[str]) -> tuple[str, ...]:
    """ImageNet's wnids as words; other names as they are."""
    from timm.data.imagenet_info import ImageNetInfo

    words = ImageNetInfo("imagenet-22k").label_descriptions(as_dict=True)
    if not any(name in words for name in names):
        return tuple(names)
    return _distinct([words.get(name, name) if isinstance(words, dict) else name for name in names])


def _distinct(descriptions: Sequence[str]) -> tuple[str, ...]:
    """The first synonym of each ("tench, Tinca tinca"), all of them if it is not unique, else with the number."""
    short = [each.partition(",")[0] for each in descriptions]
    firsts, wholes = Counter(short), Counter(descriptions)
    return tuple(
        first if firsts[first] == 1 else whole if wholes[whole] == 1 else f"{whole} ({number})"
        for number, (first, whole) in enumerate(zip(short, descriptions, strict=True))
    )
