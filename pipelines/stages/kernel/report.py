"""Report on the exact kernel: its dimensions, the numerical evidence, the spectrum, the shift of whole tokens."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines import wording
from pipelines.report.outcomes import Mean
from pipelines.report.parts import Cell, ReportFigure, Section, Tile
from pipelines.report.view import Result, StageReport, StageView
from pipelines.stages.kernel.figures import spectrum

TITLE = "Exact kernel of the patch embedding"


def section(view: StageView) -> Section:
    return Section(TITLE, facts=list(facts(view.result)))


def facts(kernel: Result) -> Iterator[tuple[str, str]]:
    """Dimensions, numerical evidence, and whether shifts of tokens are invisible too."""
    yield "Nullity", nullity_fact(kernel)
    yield "Rank", f"{kernel.number('rank')}, embedding dimension {kernel.number('embed_dim')}"
    yield "Singular values", f"{kernel.number('sigma_min')} to {kernel.number('sigma_max')}"
    yield "Tolerance", f"{kernel.number('tolerance')} (rtol {kernel.number('rtol')}, decided in float64)"
    if kernel.value("gap") is not None:
        yield "Gap at the rank", f"{kernel.number('gap')} times"
    shift = kernel.below("shift")
    if shift and not shift.skipped:
        verdict = "invisible" if shift.flag("invariant") else "not invisible"
        yield (
            "Shift of whole tokens",
            f"{verdict}: max |Δlogit| {shift.number('max_abs_logit_change')} at {shift.number('relative_shift')} times "
            f"the token norm, random noise of that norm {shift.number('control_max_abs_logit_change')}",
        )


def nullity_fact(kernel: Result) -> str:
    """The dimension of the kernel, and what of it only shifts the token."""
    size = f"{kernel.number('nullity')} of {kernel.number('patch_dim')} directions (3·p·p)"
    if not kernel.flag("modulo_shift"):
        return size
    plain = kernel.value("plain_nullity")
    if plain is None or plain == kernel.value("nullity"):
        return f"{size}; no change of a patch only shifts its token"
    plain_text = f"{kernel.number('plain_nullity')} leave the token as it is"
    return f"{size}, modulo the shift: {plain_text}, one only shifts it, which is ignored"


def size(kernel: Result) -> str:
    """'673 of 768 directions of a patch, modulo the shift'."""
    text = f"{kernel.number('nullity')} of {kernel.number('patch_dim')} directions of a patch"
    return f"{text}, modulo the shift" if kernel.flag("modulo_shift") else text


def sentence(kernel: Result) -> str:
    """What the exact nullspace of this model is worth."""
    if kernel.value("nullity"):
        return f"The model is blind to {size(kernel)}."
    return (
        f"The patch embedding sees all {kernel.number('patch_dim')} directions of a patch (nullity 0), and none of "
        "them only shifts the token, which the model might ignore: nothing can be added to the pixels without the "
        "model seeing it."
    )


def tile(view: StageView) -> Tile:
    kernel = view.result
    unit = f"of {kernel.number('patch_dim')} directions"
    return Tile("Exact kernel", kernel.number("nullity"), unit, sentence(kernel))


def figures(view: StageView) -> Iterator[ReportFigure]:
    """Spectrum of the patch embedding."""
    kernel, table = view.result, view.table("spectrum.parquet")
    tolerance, size = kernel.value("tolerance"), kernel.value("patch_dim")
    if table is None or not tolerance or size is None:
        return
    sigma = table["sigma"].to_numpy(dtype=float)
    alt = (
        f"Singular values of the patch embedding, log scale, from {kernel.number('sigma_max')} down to "
        f"{kernel.number('sigma_min')}; tolerance {wording.format_number(tolerance)}; "
        f"{kernel.number('nullity')} of {wording.format_number(size)} directions form the kernel."
    )
    yield ReportFigure(
        "spectrum",
        "What the patch embedding sees",
        alt,
        lambda theme: spectrum(sigma, tolerance, patch_dim=int(size), theme=theme),
    )


def nullity_cell(view: StageView) -> Cell:
    value = view.result.value("nullity")
    detail = f"of {view.result.number('patch_dim')}"
    return Cell(view.result.number("nullity"), detail, None if value is None else Mean(value))


REPORT = StageReport(
    name="kernel",
    title=TITLE,
    section=section,
    tile=tile,
    lines=lambda view: [size(view.result)],
    columns={"Nullity": nullity_cell},
    figures=figures,
)
