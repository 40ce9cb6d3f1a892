"""Report on hidden messages: what they survive, and what the model notices."""

from __future__ import annotations

from pipelines import wording
from pipelines.report.outcomes import Outcome, Share
from pipelines.report.parts import Cell, Section, Table, Tile, cell_of, moved_fact, psnr_fact
from pipelines.report.view import Result, StageReport, StageView

TITLE = "Hidden messages"
_COLUMNS = ["After", "Bits", "Whole messages", "Found at 1e-6", "Model unchanged", "max |Δp|"]


def section(view: StageView) -> Section:
    conditions = distorted(view.result)
    table = Table("Read back after distortions", _COLUMNS, [_row(name, each) for name, each in conditions.items()])
    return Section(TITLE, facts=facts(view.result), tables=[table], pictures=view.examples())


def distorted(found: Result) -> dict[str, Outcome]:
    """The conditions in which there is a mark."""
    return {name: outcome for name, outcome in found.conditions.items() if name != "unmarked"}


def facts(found: Result) -> list[tuple[str, str]]:
    """What was written, how it looks, how often chance is taken for a mark."""
    conditions = found.conditions
    untouched, unmarked = conditions.get("none"), conditions["unmarked"]
    size, n = 8 * int(found.below("settings").value("message_bytes") or 0), wording.format_number(unmarked.n)
    facts = [("Message", f"{size} bits of its own in every image, n = {n}")]
    if untouched is not None:
        facts.append(psnr_fact(untouched))
        for title, name in (("SSIM", "ssim"), ("VIF", "vif")):
            facts.append((f"{title} to the original", untouched.text(name)[0]))
        facts.append(("Largest change of a probability", untouched.text("max_probability_change")[0]))
        facts += moved_fact(untouched)
    chance = unmarked.share("found_at_1e-3")
    facts.append(
        ("Found where there is none", f"{chance.text if chance else wording.MISSING} at a stated rate of 0.1 %")
    )
    return facts


def _row(name: str, outcome: Outcome) -> list[Cell]:
    title = "saved as PNG" if name == "none" else name.replace("+", " + ").replace("_", " ")
    shares = [outcome.share(each) for each in ("bit_accuracy", "word_accuracy", "found_at_1e-6")]
    cells = [_cell(share) for share in (*shares, outcome.agreement)]
    return [Cell(title), *cells, Cell(outcome.text("max_probability_change")[0])]


def _cell(share: Share | None) -> Cell:
    return Cell(wording.MISSING) if share is None else Cell(share.text, share.interval)


def saved(found: Result) -> dict[str, Outcome]:
    """Outcomes of pictures that were only saved, by the name of the format: PNG, JPEG 75."""
    names = {"none": "PNG"} | {
        name: name.replace("jpeg_", "JPEG ")
        for name in found.conditions
        if name.startswith("jpeg_") and "+" not in name
    }
    return {title: found.conditions[name] for name, title in names.items() if name in found.conditions}


def shares_read(found: Result) -> dict[str, tuple[Share, int]]:
    """Share of messages read, and n, of pictures that were only saved; empty where that was not measured."""
    shares = {title: (outcome.share("word_accuracy"), outcome.n) for title, outcome in saved(found).items()}
    return {title: (share, n) for title, (share, n) in shares.items() if share is not None}


def least_read(found: Result) -> tuple[Share | None, int]:
    """The least of these shares, with its n."""
    return min(shares_read(found).values(), key=lambda each: each[0].value, default=(None, 0))


def messages(found: Result) -> str | None:
    """How many messages were read after PNG and JPEG, with interval and n of the least; None when unmeasured."""
    least, n = least_read(found)
    if least is None:
        return None
    read = ", ".join(f"{title} {share.text}" for title, (share, _) in shares_read(found).items())
    untouched = found.conditions.get("none")
    quality = wording.MISSING if untouched is None else untouched.decibel("psnr")
    size = f"{found.below('settings').number('message_bytes')} bytes, {quality}"
    return f"{size}; read after {read}, least {least.interval}, n = {wording.format_number(n)}"


def _lines(view: StageView) -> list[str]:
    text = messages(view.result)
    return [] if text is None else [text]


def _tile(view: StageView) -> Tile:
    """The least share of messages read after a picture is saved, and the sentence about all."""
    (least, _), text = least_read(view.result), messages(view.result)
    sentence = "Not measured after saving." if text is None else f"{text}."
    return Tile(TITLE, wording.MISSING if least is None else least.text, "read after saving, at least", sentence)


def _least(view: StageView) -> Cell:
    return cell_of(*least_read(view.result))


REPORT = StageReport(
    name="payload",
    title=TITLE,
    section=section,
    tile=_tile,
    lines=_lines,
    columns={"Messages read": _least},
    picture_titles={"hidden": "with a hidden message", "hidden_difference": "its difference, amplified"},
)
