"""How numbers, noises and outcomes are written for people: one spelling for page, terminal and figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nullspace.kernel.patch_kernel import PatchKernel

MISSING = "—"


def is_number(value: object) -> bool:
    """Whether `value` can be shown as a number: not a bool, not NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def format_percent(share: Any) -> str:
    """A share in [0,1] as '95.3 %'; never rounded up to 100 % or down to 0 % unless it is exactly that."""
    if not is_number(share):
        return MISSING
    for decimals in range(1, 7):
        text = f"{100 * share:.{decimals}f}"
        if not 0 < share < 1 or float(text) not in (0.0, 100.0):
            break
    return f"{text.removesuffix('.0') if share in (0, 1) else text} %"


def format_number(value: Any) -> str:
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


def format_decibel(value: Any) -> str:
    """A PSNR as '41.2 dB'."""
    return f"{value:.1f} dB" if is_number(value) and not math.isinf(value) else format_number(value)


def format_percent_interval(ends: Sequence[float] | None) -> str:
    """'[93.1, 96.9]' in percent, or '' when no interval was recorded."""
    return format_interval(ends, lambda end: format_percent(end).removesuffix(" %"))


def format_number_interval(ends: Sequence[float] | None) -> str:
    """'[0.21, 0.24]', or '' when no interval was recorded."""
    return format_interval(ends, format_number)


def format_interval(ends: Sequence[float] | None, write: Any) -> str:
    """Both ends of a 95 % interval, each through `write`."""
    return f"[{write(ends[0])}, {write(ends[1])}]" if ends else ""


def last_line(text: object, nothing: str = "no message") -> str:
    """The last line of a message or a traceback: where Python says what went wrong."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return lines[-1] if lines else nothing


def format_duration(seconds: Any) -> str:
    """Seconds as '3.2 s', '4 min 12 s' or '2 h 05 min'."""
    if not is_number(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def kernel_lines(kernel: PatchKernel) -> Iterator[tuple[str, str]]:
    """Name and value of everything a kernel says of itself, with numbers as people read them."""
    for name, value in kernel.to_dict().items():
        if name == "gap":
            yield name, _gap(kernel)
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, format_number(value) if isinstance(value, float) else str(value)


def _gap(kernel: PatchKernel) -> str:
    if kernel.gap is None:
        which = "every" if kernel.rank == 0 else "no"
        return f"none: {which} singular value was left out"
    return format_number(kernel.gap) if math.isfinite(kernel.gap) else "infinite: the next singular value is 0"


def saved_in_8_bits(numbers: Mapping[str, float]) -> str:
    """How far 8-bit pixels moved tokens and probabilities, at most, in one line."""
    moved = format_percent(numbers.get("largest_token_change"))
    change = format_number(numbers.get("max_probability_change"))
    return f"8 bits: tokens moved by {moved} of their norm at most, probabilities by {change}"
