"""The parts of the report about one model: what is said, in which tables, beside which figures. Layout: template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import wording
from pipelines.ledger import redact
from pipelines.report_figures import ReportFigure, kernel_figures, noise_figures
from pipelines.report_inputs import Examples, StageFolders, examples
from pipelines.wording import KERNEL_CONDITIONS, NOISE_CONDITIONS, number, number_interval, percent, percent_interval

COLUMN_TITLES = {
    "plain": "plain mark",
    "marked": "marked, model blind to it",
    "difference": "difference, amplified",
}
OUTCOMES = {
    "mse_logits": "‖Δlogits‖²",
    "mse_probabilities": "‖Δprobabilities‖²",
    "mse_features": "‖Δfeatures‖²",
    "confidence_change": "Δ confidence",
}


TRIAL_COLUMNS = {
    "relative_norm": "Relative norm",
    "learning_rate": "Learning rate",
    "steps": "Steps",
    "step": "Steps done",
    "score": "Score",
    "agreement": "Unchanged",
    "seconds": "Seconds",
    "status": "Status",
}


@dataclass(frozen=True)
class Cell:
    """A value and, smaller below it, its interval."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """First column names the row; the others are numbers unless `numeric` is False. `muted` rows are controls."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    muted: list[bool] = field(default_factory=list)
    numeric: bool = True


@dataclass(frozen=True)
class Section:
    """One heading with everything below it. `missing` says why there is nothing to show."""

    title: str
    sentence: str = ""
    missing: str | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[ReportFigure] = field(default_factory=list)
    pictures: Examples | None = None
    code: str = ""


@dataclass(frozen=True)
class Tile:
    """One headline: a number and the sentence that says what it means."""

    title: str
    value: str
    unit: str
    sentence: str


@dataclass(frozen=True)
class ModelPart:
    """Everything about one model; `anchor` is its place on the page."""

    label: str
    anchor: str
    subtitle: str
    tiles: list[Tile]
    sections: list[Section]


def model_part(label: str, position: int, results: Mapping[str, Any], stages: StageFolders) -> ModelPart:
    """The part of the report about model `label`."""
    model = results["models"][label]
    sections = [
        kernel_section(label, model, stages),
        noise_section(label, model, stages),
        watermark_section(label, model, stages),
        model_section(label, model, results.get("run") or {}),
    ]
    return ModelPart(label, f"model-{position}", _subtitle(label, model), list(tiles(model)), sections)


def _subtitle(label: str, model: Mapping[str, Any]) -> str:
    facts = model.get("model") or {}
    accuracy = model.get("clean_accuracy")
    words = [facts["name"]] if facts.get("name") not in (None, label) else []
    if accuracy and not wording.why_missing(accuracy):
        ends = percent_interval(accuracy.get("ci"))
        words.append(f"clean accuracy {percent(accuracy.get('accuracy'))} {ends}, n = {number(accuracy.get('n'))}")
    return " · ".join(words)


def tiles(model: Mapping[str, Any]) -> Iterator[Tile]:
    """The three headlines of a model: kernel, learned noise, watermark."""
    kernel, noise, mark = (model.get(name) or {} for name in ("kernel", "noise", "watermark"))
    value, unit = wording.MISSING, ""
    if not wording.why_missing(kernel):
        value, unit = number(kernel.get("nullity")), f"of {number(kernel.get('patch_dim'))} directions"
    yield Tile("Exact kernel", value, unit, wording.kernel_sentence(kernel))
    learned = {} if wording.why_missing(noise) else (noise.get("conditions") or {}).get("learned") or {}
    yield Tile("Learned noise", percent(learned.get("agreement")), "unchanged", wording.noise_sentence(noise))
    share = wording.MISSING if wording.why_missing(mark) else percent(mark.get("agreement"))
    yield Tile("Visible watermark", share, "unchanged", wording.watermark_sentence(mark))


def kernel_section(label: str, model: Mapping[str, Any], stages: StageFolders) -> Section:
    """Exact nullspace of the patch embedding: numbers, controls, spectrum."""
    kernel = model.get("kernel") or {}
    title = "Exact kernel of the patch embedding"
    if wording.why_missing(kernel):
        return Section(title, missing=wording.why_missing(kernel))
    conditions = kernel.get("conditions") or {}
    reason = wording.why_missing(conditions)
    return Section(
        title,
        missing=f"Noise in the kernel was not evaluated: {reason}" if reason else None,
        facts=list(kernel_facts(kernel)),
        tables=[]
        if reason
        else [stability_table("Noise in the kernel and its controls", conditions, KERNEL_CONDITIONS)],
        figures=list(kernel_figures(label, kernel, stages)),
        pictures=examples(stages.of(label, "evaluate")),
    )


def kernel_facts(kernel: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Dimensions, numerical evidence, and whether shifts of tokens are invisible too."""
    yield "Nullity", f"{number(kernel.get('nullity'))} of {number(kernel.get('patch_dim'))} directions (3·p·p)"
    yield "Rank", f"{number(kernel.get('rank'))}, embedding dimension {number(kernel.get('embed_dim'))}"
    yield "Singular values", f"{number(kernel.get('sigma_min'))} to {number(kernel.get('sigma_max'))}"
    yield "Tolerance", f"{number(kernel.get('tolerance'))} (rtol {number(kernel.get('rtol'))}, decided in float64)"
    if wording.is_number(kernel.get("gap")):
        yield "Gap at the rank", f"{number(kernel['gap'])} times"
    shift = kernel.get("shift")
    if shift and not wording.why_missing(shift):
        verdict = "invisible" if shift.get("invariant") else "not invisible"
        change, control = shift.get("max_abs_logit_change"), shift.get("control_max_abs_logit_change")
        yield (
            "Shift of whole tokens",
            f"{verdict}: max |Δlogit| {number(change)} at {number(shift.get('relative_shift'))} times the token norm, "
            f"random noise of that norm {number(control)}",
        )


def stability_table(caption: str, conditions: Mapping[str, Any], labels: Mapping[str, str]) -> Table:
    """One row per condition, learned or exact first, controls after it; every mean with its 95 % interval."""
    names = list(dict.fromkeys(name for name in (*labels, *conditions) if name in conditions))
    shown = [key for key in OUTCOMES if any(key in conditions[name] for name in names)]
    return Table(
        caption,
        ["Noise", "Unchanged", "n", *(OUTCOMES[key] for key in shown), "max |Δlogit|"],
        [stability_row(labels.get(name, name), conditions[name], shown) for name in names],
        [name in wording.CONTROLS for name in names],
    )


def stability_row(title: str, outcome: Mapping[str, Any], shown: list[str]) -> list[Cell]:
    """Cells of one condition."""
    means = [Cell(number(outcome.get(key)), number_interval(outcome.get(f"{key}_ci"))) for key in shown]
    unchanged = Cell(percent(outcome.get("agreement")), percent_interval(outcome.get("agreement_ci")))
    return [
        Cell(title),
        unchanged,
        Cell(number(outcome.get("n"))),
        *means,
        Cell(number(outcome.get("max_abs_logit_change"))),
    ]


def noise_section(label: str, model: Mapping[str, Any], stages: StageFolders) -> Section:
    """Learned noise on the tokens: numbers, controls, the search."""
    noise = model.get("noise") or {}
    title = "Learned noise on the tokens"
    if wording.why_missing(noise):
        return Section(title, missing=wording.why_missing(noise))
    conditions = noise.get("conditions") or {}
    reason = wording.why_missing(conditions)
    tables = [] if reason else [stability_table("Learned noise and its controls", conditions, NOISE_CONDITIONS)]
    return Section(
        title,
        missing=f"The noise was not evaluated: {reason}" if reason else None,
        facts=list(noise_facts(noise)),
        tables=tables + list(trials_table(label, stages)),
        figures=list(noise_figures(label, noise, stages)),
    )


def noise_facts(noise: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Size of the noise, how it is spread, whether it stays in the ε-region, where it is kept."""
    yield "Relative norm", f"{number(noise.get('relative_norm'))} times the mean token norm, exact shift part removed"
    yield "Norm", f"{number(noise.get('norm'))} in all; mean token norm {number(noise.get('token_norm'))}"
    yield "Spread over tokens", f"{number(noise.get('spread'))} (1 = evenly)"
    learned = {} if wording.why_missing(noise.get("conditions")) else noise["conditions"].get("learned") or {}
    if wording.is_number(learned.get("mse_probabilities")) and wording.is_number(noise.get("epsilon")):
        yield "ε-region, images not learned from", epsilon_verdict(learned, noise["epsilon"])
    if noise.get("objective"):
        yield "Objective", str(noise["objective"])
    if noise.get("registered_model"):
        yield "Registered as", f"{noise['registered_model']}, version {noise.get('version')}"
    if noise.get("artifact"):
        yield "File", redact(str(noise["artifact"]))


def epsilon_verdict(learned: Mapping[str, Any], epsilon: float) -> str:
    """Whether mean ‖Δprobabilities‖² is at most ε: 'inside' only when its whole interval is."""
    change, ends = learned["mse_probabilities"], learned.get("mse_probabilities_ci")
    verdict = "outside" if change > epsilon else "inside" if ends and ends[1] <= epsilon else "not shown to be inside"
    return f"{verdict}: ‖Δprobabilities‖² {number(change)} {number_interval(ends)}, ε = {number(epsilon)}"


def trials_table(label: str, stages: StageFolders, limit: int = 10) -> Iterator[Table]:
    """The best trials of the search: the ablation over norm, learning rate and steps."""
    trials = stages.table(label, "search", "trials.parquet")
    if trials is None:
        return
    shown = [name for name in TRIAL_COLUMNS if name in trials]
    best = trials.sort_values("score", ascending=False).head(limit)
    rows = [
        [Cell(str(row["trial_id"])), *(Cell(_trial_value(name, row[name])) for name in shown)]
        for row in best.to_dict("records")
    ]
    cost = f", {wording.duration(sum(trials['seconds'].tolist()))} of learning in all" if "seconds" in trials else ""
    yield Table(
        f"Best {len(best)} of {len(trials)} trials{cost}; measured on the search's validation images",
        ["Trial", *(TRIAL_COLUMNS[name] for name in shown)],
        rows,
    )


def _trial_value(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return percent(value) if name == "agreement" else number(value)


def watermark_section(label: str, model: Mapping[str, Any], stages: StageFolders) -> Section:
    """The visible mark: how it looks, what it costs the model."""
    mark = model.get("watermark") or {}
    title = "Visible watermark"
    if wording.why_missing(mark):
        return Section(title, missing=wording.why_missing(mark))
    table = stability_table("Marked images beside the originals, 8-bit pixels", {"marked": mark}, {"marked": "marked"})
    facts = [
        ("PSNR to the original", f"{wording.decibel(mark.get('psnr'))} {number_interval(mark.get('psnr_ci'))}"),
        ("SSIM to the original", f"{number(mark.get('ssim'))} {number_interval(mark.get('ssim_ci'))}"),
        (
            "SSIM to the plain mark",
            f"{number(mark.get('ssim_to_plain'))} {number_interval(mark.get('ssim_to_plain_ci'))}",
        ),
    ]
    return Section(title, facts=facts, tables=[table], pictures=examples(stages.of(label, "watermark")))


def model_section(label: str, model: Mapping[str, Any], run: Mapping[str, Any]) -> Section:
    """Which model it was, exactly, and how to load its noise."""
    facts = model.get("model") or {}
    rows = [("timm name", facts.get("name", label)), ("Weights", facts.get("weights_source"))]
    rows.append(("SHA-256 of the weights", facts.get("weights_sha256")))
    preprocessing = facts.get("preprocessing") or {}
    rows += [(name.replace("_", " "), value) for name, value in preprocessing.items()]
    shown = [(title, redact(str(value))) for title, value in rows if value is not None]
    return Section("Model, and how to load its noise", facts=shown, code=load_snippet(label, model, run))


def load_snippet(label: str, model: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Python that applies the noise: through the registry, and without MLflow."""
    noise, facts = model.get("noise") or {}, model.get("model") or {}
    if wording.why_missing(noise):
        return ""
    lines: list[str] = []
    if noise.get("registered_model"):
        uri, store = f"models:/{noise['registered_model']}@champion", redact(str(run.get("tracking_uri") or ""))
        lines += ["import mlflow", ""] + ([f"mlflow.set_tracking_uri({store!r})"] if store else [])
        lines += [
            f"model = mlflow.pyfunc.load_model({uri!r})",
            "model.predict(images)  # uint8 (B,H,W,3): clean and noised",
            "",
        ]
    if noise.get("artifact"):
        path = redact(str(Path(noise["artifact"])))
        name, weights = facts.get("name", label), redact(str(facts.get("weights_source", "pretrained")))
        lines += ["from nullspace.artifact import NullNoise", "from nullspace.vit import SplitViT", ""]
        lines += [f"vit = SplitViT.load({name!r}, weights={weights!r})", f"noise = NullNoise.load({path!r})"]
        lines += ["with noise.applied(vit):", "    logits = vit(images)  # float (B,3,H,W) in [0,1]"]
    return "\n".join(lines).strip()
