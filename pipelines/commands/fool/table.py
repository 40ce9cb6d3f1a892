"""What `nullspace fool` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TITLES = {"image": "the image", "look": "the look", "fooled": "fooled", "permuted": "permuted"}
_VERDICTS = {
    "image": "taken for the image",
    "look": "TAKEN FOR THE LOOK: not fooled; allow a larger --epsilon or more --steps",
    "neither": "TAKEN FOR NEITHER: allow a larger --epsilon or more --steps",
    "both": "image and look are of one class to the model: choose another look",
}


def table(row: Mapping[str, Any]) -> str:
    """The predictions for image, look, fooled picture and control, and how near the fooled picture is to both."""
    width, height = row["size"]
    lines = [f"{row['file']}  as {row['like']}  {row['output']}  {width}×{height}"]
    for name, title in _TITLES.items():
        predicted = ", ".join(f"{each['name']} {100 * each['probability']:.1f} %" for each in row[name])
        lines.append(f"  {title:9}  {predicted}")
    lines += [f"  {'verdict':9}  {_VERDICTS[row['taken_for']]}", f"  {'logits':9}  {_logits(row)}"]
    lines += [f"  {'pixels':9}  {_pixels(row)}", *(f"  note: {note}" for note in row["notes"])]
    return "\n".join(lines)


def _logits(row: Mapping[str, Any]) -> str:
    share = row["relative_logits"]
    apart = (
        "as those of the look" if share is None else f"{100 * share:.2g} % of the squared distance to the image left"
    )
    return f"{apart}, after {row['passes']} passes" if row["passes"] else apart


def _pixels(row: Mapping[str, Any]) -> str:
    base = "the image" if row["method"] == "exact" else "the look"
    near = (f"PSNR {_decibel(row[f'psnr_to_{name}'])} to {_TITLES[name]}" for name in ("look", "image"))
    return f"at most {row['largest_change']} of 255 from {base}; {', '.join(near)}"


def _decibel(value: float | None) -> str:
    return "∞ dB" if value is None else f"{value:.1f} dB"
