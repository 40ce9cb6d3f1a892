"""The parts of the report about one model: what is said, in which tables, beside which figures. Layout: template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines import digits, wording
from pipelines.report.inputs import StageFolders, examples
from pipelines.report.parts import Cell, ModelPart, Section, Table, Tile, stability_table
from pipelines.report.saved_figures import kernel_figures, noise_figures
from pipelines.tracking.ledger import redact
from pipelines.wording import KERNEL_CONDITIONS, NOISE_CONDITIONS, number, number_interval, percent, percent_interval

COLUMN_TITLES = {
    "plain": "plain mark",
    "marked": "marked, model blind to it",
    "difference": "difference, amplified",
    "hidden": "with a hidden message",
    "hidden_difference": "its difference, amplified",
    "exact": "kernel noise (clipped to be shown)",
    "exact_difference": "its difference, amplified",
    "in_box": "kernel noise, valid pixels",
    "in_box_difference": "its difference, amplified",
}
TRIAL_COLUMNS = {
    "relative_norm": "Relative norm",
    "learning_rate": "Learning rate",
    "steps": "Steps",
    "step": "Steps done",
    "radius": "Radius",
    "agreement": "Unchanged",
    "seconds": "Seconds",
    "status": "Status",
}


def model_part(label: str, position: int, results: Mapping[str, Any], stages: StageFolders) -> ModelPart:
    """The part of the report about model `label`."""
    model = results["models"][label]
    sections = [
        kernel_section(label, model, stages),
        noise_section(label, model, stages),
        watermark_section(label, model, stages),
        hidden_section(model),
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
    conditions = {} if wording.why_missing(noise) else noise.get("conditions") or {}
    yield share_tile("Learned noise", conditions.get("learned") or {}, wording.noise_sentence(noise))
    yield share_tile("Visible watermark", mark, wording.watermark_sentence(mark))


def share_tile(title: str, outcome: Mapping[str, Any], sentence: str) -> Tile:
    """A headline about predictions unchanged; a dash when nothing was measured."""
    measured = wording.is_number(outcome.get("agreement"))
    return Tile(title, percent(outcome.get("agreement")), "unchanged" if measured else "", sentence)


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
    yield "Nullity", nullity_fact(kernel)
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


def nullity_fact(kernel: Mapping[str, Any]) -> str:
    """The dimension of the kernel, and what of it only shifts the token."""
    size = f"{number(kernel.get('nullity'))} of {number(kernel.get('patch_dim'))} directions (3·p·p)"
    if not kernel.get("modulo_shift"):
        return size
    plain = kernel.get("plain_nullity", kernel["nullity"])
    if plain == kernel["nullity"]:
        return f"{size}; no change of a patch only shifts its token"
    return f"{size}, modulo the shift: {number(plain)} leave the token as it is, one only shifts it, which is ignored"


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
    if noise.get("guarantee"):
        yield "Guarantee", wording.guarantee_sentence(noise["guarantee"])
    if wording.is_number(learned.get("mse_probabilities")) and wording.is_number(noise.get("epsilon")):
        yield "ε-region, test images", epsilon_verdict(learned, noise["epsilon"])
    if noise.get("objective"):
        yield "Objective", str(noise["objective"])
    if noise.get("space"):
        ranges = (f"{TRIAL_COLUMNS[name].lower()} {a:g} to {b:g}" for name, (a, b) in noise["space"].items())
        yield "Searched", "; ".join(ranges)
    if noise.get("importance"):
        shares = sorted(noise["importance"].items(), key=lambda item: -item[1])
        said = ", ".join(f"{TRIAL_COLUMNS[name].lower()} {percent(share)}" for name, share in shares)
        yield "What decided the radius", f"{said} of its variance over the trials (fANOVA)"
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
    best = trials.sort_values("radius", ascending=False).head(limit)
    rows = [
        [Cell(str(row["trial_id"])), *(Cell(trial_value(name, row)) for name in shown)]
        for row in best.to_dict("records")
    ]
    cost = (
        f", {wording.duration(sum(trials['seconds'].dropna().tolist()))} of learning in all"
        if "seconds" in trials
        else ""
    )
    yield Table(
        f"Best {len(best)} of {len(trials)} trials{cost}. Radius: largest relative norm with ‖Δprobabilities‖² ≤ ε, "
        "on validation images",
        ["Trial", *(TRIAL_COLUMNS[name] for name in shown)],
        rows,
    )


def trial_value(name: str, row: Mapping[Any, Any]) -> str:
    """One value of a trial; a radius the search ended at is a lower bound."""
    value = row[name]
    if isinstance(value, str):
        return value.lower()
    if name == "radius" and row.get("capped") == 1:
        return f"≥ {number(value)}"
    return percent(value) if name == "agreement" else number(value)


def watermark_section(label: str, model: Mapping[str, Any], stages: StageFolders) -> Section:
    """The visible mark: how it looks, what it costs the model."""
    mark = model.get("watermark") or {}
    title = "Visible watermark"
    if wording.why_missing(mark):
        return Section(title, missing=wording.why_missing(mark))
    conditions = {"marked": mark, **(mark.get("controls") or {})}
    tables = [stability_table("Marked images, 8-bit pixels, and the controls", conditions, wording.MARK_CONDITIONS)]
    jpeg = {f"JPEG {quality}": outcome for quality, outcome in (mark.get("after_jpeg") or {}).items()}
    if jpeg:
        tables.append(stability_table("Marked against unmarked, both saved as JPEG first", jpeg, {}))
    facts = [
        ("PSNR to the original", f"{wording.decibel(mark.get('psnr'))} {number_interval(mark.get('psnr_ci'))}"),
        ("SSIM to the original", f"{number(mark.get('ssim'))} {number_interval(mark.get('ssim_ci'))}"),
        *contrast_facts(mark),
    ]
    if "max_probability_change" in mark:
        facts.append(("Largest change of a probability", number(mark["max_probability_change"])))
    facts += moved_fact(mark)
    if mark.get("unmarked"):
        facts.append(("Left as they were", f"{number(mark['unmarked'])} images leave no room for the mark"))
    return Section(title, facts=facts, tables=tables, pictures=examples(stages.of(label, "watermark")))


def contrast_facts(mark: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How well the mark is told from its ground: by its texture, 1 on plain ground, and what is there without it."""
    said = {
        "Texture contrast": "texture_contrast",
        "Texture contrast at half size": "texture_contrast_half",
        "Texture contrast without the mark": "clean_texture_contrast",
    }
    return [
        (title, f"{number(mark.get(name))} {number_interval(mark.get(f'{name}_ci'))}") for title, name in said.items()
    ]


def moved_fact(mark: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The certificate of pictures as saved in 8 bits: how far their tokens moved."""
    if not wording.is_number(mark.get("largest_token_change")):
        return []
    mean, worst = percent(mark.get("token_change")), percent(mark["largest_token_change"])
    return [("Tokens moved, ‖A·δ‖ in token norms", f"{mean} (root mean square), {worst} in the worst patch")]


def hidden_section(model: Mapping[str, Any]) -> Section:
    """Hidden messages: what they survive, and what the model notices."""
    mark = model.get("watermark") or {}
    found = mark.get("hidden") or {}
    title = "Hidden messages"
    reason = wording.why_missing(mark) or wording.why_missing(found)
    if reason:
        return Section(title, missing=reason)
    unmarked = found.get("unmarked") or {}
    quality = [(name, found.get(key)) for name, key in (("SSIM", "ssim"), ("VIF", "vif"))]
    facts = [
        ("Message", f"{8 * found['message_bytes']} bits of its own in every image, n = {number(found.get('n'))}"),
        ("PSNR to the original", f"{wording.decibel(found.get('psnr'))} {number_interval(found.get('psnr_ci'))}"),
        *((f"{name} to the original", number(value)) for name, value in quality if value is not None),
        ("Largest change of a probability", number(found.get("max_probability_change"))),
        *moved_fact(found),
        ("Found where there is none", f"{percent(unmarked.get('found_at_1e-3'))} at a stated rate of 0.1 %"),
    ]
    columns = ["After", "Bits", "Whole messages", "Found at 1e-6", "Model unchanged", "max |Δp|"]
    rows = [_distortion_row(row) for row in found["distortions"]]
    return Section(title, facts=facts, tables=[Table("Read back after distortions", columns, rows)])


def _distortion_row(row: Mapping[str, Any]) -> list[Cell]:
    shares = [
        Cell(percent(row.get(name)), percent_interval(row.get(f"{name}_ci")))
        for name in ("bit_accuracy", "word_accuracy", "found_at_1e-6", "agreement")
    ]
    title = "saved as PNG" if row["distortion"] == "none" else row["distortion"].replace("+", " + ").replace("_", " ")
    return [Cell(title), *shares, Cell(number(row.get("max_probability_change")))]


def model_section(label: str, model: Mapping[str, Any], run: Mapping[str, Any]) -> Section:
    """Which model it was, exactly, and how to load its noise."""
    facts = model.get("model") or {}
    rows = [("timm name", facts.get("name", label)), ("Weights", facts.get("weights_source"))]
    rows += [("About them", note) for note in facts.get("notes") or []]
    rows.append(("SHA-256 of the weights", facts.get("weights_sha256")))
    rows += [(f"Argument {name}", value) for name, value in (facts.get("args") or {}).items()]
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
        name = facts.get("name", label)
        lines += ["from nullspace import NullNoise, SplitViT"]
        if name == digits.MODEL_NAME:
            lines += ["from pipelines import digits", "", "digits.register()  # makes the name known to timm"]
        else:
            lines.append("")
        lines += [f"vit = SplitViT.load({name!r}, {load_arguments(facts)})", f"noise = NullNoise.load({path!r})"]
        lines += ["with noise.apply(vit):", "    logits = vit(images)  # float (B,3,H,W) in [0,1]"]
    return "\n".join(lines).strip()


def load_arguments(facts: Mapping[str, Any]) -> str:
    """Arguments of `SplitViT.load` that bring back the model of the results."""
    said: dict[str, Any] = {"weights": redact(str(facts.get("weights", "pretrained")))}
    if said["weights"] == "random":
        said["seed"] = facts.get("seed", 0)
    if facts.get("args"):
        said["model_args"] = facts["args"]
    if not facts.get("ema", True):
        said["ema"] = False
    return ", ".join(f"{name}={value!r}" for name, value in said.items())
