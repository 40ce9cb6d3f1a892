"""How numbers, noises and outcomes are written for people: one spelling for page, terminal and figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nullspace.kernel.patch_kernel import PatchKernel

MISSING = "—"
NOISE_CONDITIONS = {
    "learned": "learned noise",
    "permuted": "same noise, permuted",
    "gaussian": "Gaussian noise, same norm",
}
KERNEL_CONDITIONS = {
    "exact": "kernel noise",
    "in_box": "kernel noise, valid pixels",
    "permuted": "same noise, permuted",
    "gaussian": "Gaussian noise, same norm",
}
MARK_CONDITIONS = {
    "marked": "visible watermark",
    "plain": "same mark laid on plainly",
    "permuted": "its change, permuted",
}
CONTROLS = ("permuted", "gaussian")
FOR_COMPARISON = (*CONTROLS, "plain")
IN_PROSE = {"permuted": "the same noise permuted leaves", "gaussian": "Gaussian noise of that norm"}


def is_number(value: object) -> bool:
    """Whether `value` can be shown as a number: not a bool, not NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def percent(share: Any) -> str:
    """A share in [0,1] as '95.3 %'; never rounded up to 100 % or down to 0 % unless it is exactly that."""
    if not is_number(share):
        return MISSING
    for decimals in range(1, 7):
        text = f"{100 * share:.{decimals}f}"
        if not 0 < share < 1 or float(text) not in (0.0, 100.0):
            break
    return f"{text.removesuffix('.0') if share in (0, 1) else text} %"


def number(value: Any) -> str:
    """Three significant digits; counts in full with commas; powers of ten as '2.1e-5'."""
    if not is_number(value):
        return MISSING
    if isinstance(value, int):
        return f"{value:,}"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"


def decibel(value: Any) -> str:
    """A PSNR as '41.2 dB'."""
    return f"{value:.1f} dB" if is_number(value) and not math.isinf(value) else number(value)


def percent_interval(ends: Sequence[float] | None) -> str:
    """'[93.1, 96.9]' in percent, or '' when no interval was recorded."""
    return interval(ends, lambda end: percent(end).removesuffix(" %"))


def number_interval(ends: Sequence[float] | None) -> str:
    """'[0.21, 0.24]', or '' when no interval was recorded."""
    return interval(ends, number)


def interval(ends: Sequence[float] | None, write: Any) -> str:
    """Both ends of a 95 % interval, each through `write`."""
    return f"[{write(ends[0])}, {write(ends[1])}]" if ends else ""


def last_line(text: object, nothing: str = "no message") -> str:
    """The last line of a message or a traceback: where Python says what went wrong."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return lines[-1] if lines else nothing


def duration(seconds: Any) -> str:
    """Seconds as '3.2 s', '4 min 12 s' or '2 h 05 min'."""
    if not is_number(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def why_missing(section: Any) -> str | None:
    """Why a part of the results has no numbers, or None when it has some."""
    if not section:
        return "not run"
    if isinstance(section, Mapping) and "skipped" in section:
        return str(section["skipped"])
    return None


def agreement(outcome: Mapping[str, Any]) -> str:
    """'95.3 % [93.1, 96.9]' of one condition."""
    return f"{percent(outcome.get('agreement'))} {percent_interval(outcome.get('agreement_ci'))}".strip()


def separated(better: Mapping[str, Any], worse: Mapping[str, Any]) -> bool | None:
    """Whether the whole interval of `better` lies above that of `worse`; None when one of them is not recorded."""
    if not better.get("agreement_ci") or not worse.get("agreement_ci"):
        return None
    return better["agreement_ci"][0] > worse["agreement_ci"][1]


def kernel_size(kernel: Mapping[str, Any]) -> str:
    """'673 of 768 directions of a patch, modulo the shift'."""
    size = f"{number(kernel.get('nullity'))} of {number(kernel.get('patch_dim'))} directions of a patch"
    return f"{size}, modulo the shift" if kernel.get("modulo_shift") else size


def kernel_lines(kernel: PatchKernel) -> Iterator[tuple[str, str]]:
    """Name and value of everything a kernel says of itself, with numbers as people read them."""
    for name, value in kernel.to_dict().items():
        if name == "gap":
            yield name, _gap(kernel)
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, number(value) if isinstance(value, float) else str(value)


def _gap(kernel: PatchKernel) -> str:
    if kernel.gap is None:
        which = "every" if kernel.rank == 0 else "no"
        return f"none: {which} singular value was left out"
    return number(kernel.gap) if math.isfinite(kernel.gap) else "infinite: the next singular value is 0"


def eight_bits(model: Mapping[str, Any]) -> str | None:
    """How far 8-bit pixels moved tokens and probabilities, in kernel noise and visible marks; None when unmeasured."""
    kernel, mark = (model.get(name) or {} for name in ("kernel", "watermark"))
    conditions = {} if why_missing(kernel) or why_missing(kernel.get("conditions")) else kernel["conditions"]
    saved = [part for part in (conditions.get("in_box"), None if why_missing(mark) else mark) if part]
    moved, change = (
        [part[name] for part in saved if is_number(part.get(name))]
        for name in ("largest_token_change", "max_probability_change")
    )
    if not moved or not change:
        return None
    return f"tokens moved by {percent(max(moved))} of their norm at most, probabilities by {number(max(change))}"


def messages(mark: Mapping[str, Any]) -> str | None:
    """How many hidden messages were read after PNG and JPEG, with interval and n of the least; None when unmeasured."""
    hidden = mark.get("hidden") or {}
    if why_missing(mark) or why_missing(hidden):
        return None
    after = {_saved_as(row["distortion"]): row for row in hidden["distortions"]}
    shares = {name: row for name, row in after.items() if name is not None}
    if not shares:
        return None
    read = ", ".join(f"{name} {percent(row['word_accuracy'])}" for name, row in shares.items())
    least = min(shares.values(), key=lambda row: row["word_accuracy"])
    ends = percent_interval(least.get("word_accuracy_ci"))
    size = f"{hidden['message_bytes']} bytes, {decibel(hidden.get('psnr'))}"
    return f"{size}; read after {read}, least {ends}, n = {number(least.get('n'))}"


def _saved_as(distortion: str) -> str | None:
    """'PNG' or 'JPEG 75' of a picture that was saved and no more."""
    kind, _, quality = distortion.partition("_")
    return {"none": "PNG", "jpeg": f"JPEG {quality}"}.get(kind) if "+" not in distortion else None


def kernel_sentence(kernel: Mapping[str, Any]) -> str:
    """What the exact nullspace of this model is worth, in one sentence."""
    if why_missing(kernel):
        return f"Kernel: {why_missing(kernel)}."
    if not kernel.get("nullity"):
        return (
            f"The patch embedding sees all {number(kernel.get('patch_dim'))} directions of a patch (nullity 0), and "
            "none of them only shifts the token, which the model might ignore: nothing can be added to the pixels "
            "without the model seeing it."
        )
    size = kernel_size(kernel)
    conditions = kernel.get("conditions") or {}
    if why_missing(conditions) or "exact" not in conditions:
        return f"The model is blind to {size}."
    exact, control = conditions["exact"], conditions.get("permuted") or conditions.get("gaussian") or {}
    against = f", the same noise permuted {agreement(control)}" if control else ""
    return f"The model is blind to {size}: noise there leaves {agreement(exact)} of predictions unchanged{against}."


def noise_sentence(noise: Mapping[str, Any]) -> str:
    """What the learned noise does beside its controls, in one sentence or two."""
    if why_missing(noise):
        return f"Learned noise: {why_missing(noise)}."
    conditions = noise.get("conditions") or {}
    if why_missing(conditions) or "learned" not in conditions:
        return f"Noise {number(noise.get('relative_norm'))} times the token norm was learned; it was not evaluated."
    learned = conditions["learned"]
    guarantee = noise.get("guarantee") or {}
    sentence = (
        f"Noise {number(noise.get('relative_norm'))} times the token norm leaves {agreement(learned)} "
        "of predictions unchanged"
    )
    controls = [f"{words} {agreement(conditions[name])}" for name, words in IN_PROSE.items() if name in conditions]
    sentence += f"; {', '.join(controls)}." if controls else "."
    if guarantee:
        sentence += f" Guaranteed: {guarantee_sentence(guarantee)}."
    apart = [separated(learned, conditions[name]) for name in CONTROLS if name in conditions]
    if False in apart:
        sentence += " The intervals overlap: at this norm learned noise is not shown to be better than random noise."
    return sentence


def guarantee_sentence(guarantee: Mapping[str, Any]) -> str:
    """What is promised of the noise on images nobody has looked at, in one line."""
    return (
        f"mean ‖Δprobabilities‖² ≤ {number(guarantee.get('bound'))} on new images of the same kind, with confidence "
        f"{100 * guarantee['confidence']:g} % (ε = {number(guarantee.get('epsilon'))}, from "
        f"{number(guarantee.get('n'))} calibration images used for nothing else)"
    )


def watermark_sentence(watermark: Mapping[str, Any]) -> str:
    """What the visible mark costs the model, in one sentence."""
    if why_missing(watermark):
        return f"No watermark: {why_missing(watermark)}."
    return (
        f"A visible mark of PSNR {decibel(watermark.get('psnr'))}, saved as 8-bit pixels, leaves "
        f"{agreement(watermark)} of predictions unchanged."
    )
