"""Report on the visible watermark: how it looks, and what it costs the model."""

from __future__ import annotations

from pipelines import wording
from pipelines.report.outcomes import FOR_COMPARISON, Outcome
from pipelines.report.parts import Section, Tile, moved_fact, psnr_fact, share_tile, stability_table
from pipelines.report.view import Result, StageReport, StageView, agreement_of, outcomes_of

TITLE = "Visible watermark"
LABELS = {
    "marked": "visible watermark",
    "plain": "same mark laid on plainly",
    "permuted": "its change, permuted",
}
_CONTRASTS = {
    "Texture contrast": "texture_contrast",
    "Texture contrast at half size": "texture_contrast_half",
    "Texture contrast without the mark": "clean_texture_contrast",
}


def section(view: StageView) -> Section:
    conditions = view.result.conditions
    marked = conditions["marked"]
    own = {name: outcome for name, outcome in conditions.items() if name in LABELS}
    jpeg = {name.replace("jpeg_", "JPEG "): each for name, each in conditions.items() if name not in LABELS}
    tables = [stability_table("Marked images, 8-bit pixels, and the controls", own, LABELS)]
    if jpeg:
        tables.append(stability_table("Marked against unmarked, both saved as JPEG first", jpeg, {}))
    return Section(TITLE, facts=facts(marked), tables=tables, pictures=view.examples())


def facts(marked: Outcome) -> list[tuple[str, str]]:
    """Quality, contrast (1 on plain ground; without the mark: of the picture itself), the certificate."""
    found = [psnr_fact(marked), ("SSIM to the original", " ".join(marked.text("ssim")).strip())]
    found += [(title, " ".join(marked.text(name)).strip()) for title, name in _CONTRASTS.items()]
    found.append(("Largest change of a probability", marked.text("max_probability_change")[0]))
    found += moved_fact(marked)
    if marked.numbers.get("unmarked"):
        found.append(
            ("Left as they were", f"{wording.format_number(marked.numbers['unmarked'])} images leave no room for it")
        )
    return found


def sentence(found: Result) -> str:
    """What the visible mark costs the model."""
    marked = found.conditions["marked"]
    quality = f"PSNR {marked.decibel('psnr')}"
    return f"A visible mark of {quality}, saved as 8-bit pixels, leaves {marked.unchanged} of predictions unchanged."


def _tile(view: StageView) -> Tile:
    return share_tile(TITLE, view.result.conditions["marked"], sentence(view.result))


def lines(view: StageView) -> list[str]:
    """How it looks, and how far 8-bit pixels moved tokens and probabilities."""
    marked = view.result.conditions["marked"]
    look = f"PSNR {marked.decibel('psnr')}, SSIM {marked.text('ssim')[0]}"
    return [look, wording.saved_in_8_bits(marked.numbers)]


REPORT = StageReport(
    name="visible_watermark",
    title=TITLE,
    section=section,
    tile=_tile,
    outcomes=outcomes_of(LABELS, FOR_COMPARISON),
    lines=lines,
    columns={"Visible watermark": agreement_of("marked")},
    picture_titles={
        "plain": "plain mark",
        "marked": "marked, model blind to it",
        "difference": "difference, amplified",
    },
)
