"""The pages: what the templates show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from tfmat import __version__
from tfmat.analysis.report.comparison import LEVEL, RESAMPLES, SEED, Paired, compare
from tfmat.analysis.report.comparison_figures import comparison_figures, letters
from tfmat.analysis.report.crystal_text import crystal_text
from tfmat.analysis.report.figures import accuracy, calibration, learning, size_figure
from tfmat.analysis.report.periodic_table import element_figure
from tfmat.analysis.report.results import Result, Run
from tfmat.elements import SYMBOLS
from tfmat.model_directory.card import score_lines
from tfmat.training.scores import worst_rows

_SHOWN = 10
"""Rows of the tables of single materials."""


def run_page(run: Run) -> str:
    """Write one run as a self-contained HTML page."""
    split = str(run.evaluation["split"])
    sections = [_section(run, result, split) for result in run.results]
    return _render("run.html", run=run, sections=sections, learning=learning(run) if run.history else [], card=_html(run.card))


def comparison_page(runs: Sequence[Run], paired: Sequence[Paired] | None = None) -> str:
    """Several runs side by side as a self-contained HTML page.

    Args:
        runs: at least two; differences are to the first.
        paired: default: `compare` of the runs.
    """
    listed = []
    for letter, run in zip(letters(len(runs)), runs, strict=True):
        data = f"{run.evaluation['data']}, {run.evaluation['split']}"
        listed.append({"letter": letter, "name": run.name, "model": _model(run), "data": data, "epochs": len(run.history) or "–"})
    sections = [_compared(found, runs) for found in (compare(runs) if paired is None else paired)]
    return _render("comparison.html", runs=listed, sections=sections, level=f"{100 * LEVEL:.0f} %", resamples=RESAMPLES, seed=SEED)


def _render(template: str, **values: Any) -> str:
    loader = PackageLoader("tfmat.analysis.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(version=__version__, **values)


def _html(markdown: str) -> Markup:
    """A card as HTML, its headings below those of the page. Markup in the card is shown as text, and nothing is loaded."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4g}"


def _named(quantity: str, unit: str) -> str:
    return quantity.replace("_", " ") + (f" [{unit}]" if unit else "")


def _section(run: Run, result: Result, split: str) -> dict[str, Any]:
    """Collect what the page shows of one target of a run."""
    target, scores = result.target, run.evaluation["scores"].get(result.target.name, {})
    common: dict[str, Any] = {"name": target.name, "title": target.name.replace("_", " "), "heading": _named(target.name, target.unit)}
    common |= {"scores": score_lines(scores, target.unit), "notes": _notes(result, len(result) >= 2, int(run.evaluation["rows"]))}
    if len(result) < 2:
        return common | {"images": [], "confusion": [], "elements": [], "worst": []}
    elements = [{"symbol": SYMBOLS[number], "rows": rows, "error": _number(error)} for number, (rows, error) in result.by_element().items()]
    images = [*accuracy(result, split), *calibration(result), size_figure(result), element_figure(result)]
    return common | {
        "images": images,
        "confusion": _confusion(result) if result.binary else [],
        "elements": elements,
        "error_title": _named(result.error_name, result.error_unit),
        "worst": _worst(run, result),
        "worst_caption": _caption(result),
        "uncertain": result.uncertainty is not None,
    }


def _notes(result: Result, enough: bool, rows: int) -> list[str]:
    notes = []
    if len(result) + result.unpredicted < rows:
        notes.append(f"{len(result) + result.unpredicted:,} of {rows:,} rows have a value of this target.")
    if result.unpredicted:
        notes.append(f"{result.unpredicted:,} predictions are not finite; these rows are left out of the scores and plots.")
    if not enough:
        notes.append(f"There are no plots: {len(result)} row{'' if len(result) == 1 else 's'} with a value and a prediction.")
    elif not result.binary and result.uncertainty is None:
        notes.append("The model predicts no uncertainty, so there is no calibration.")
    elif result.uncertainty is not None and (unusable := int((~(result.uncertainty > 0) | ~np.isfinite(result.uncertainty)).sum())):
        notes.append(f"{unusable:,} predicted uncertainties are not positive and finite; the calibration is without them.")
    return notes


def _caption(result: Result) -> str:
    if result.binary:
        return "Predicted: probability of class 1; error: its distance from the class."
    unit = f" in {result.target.unit}" if result.target.unit else ""
    return f"Values{unit}; error: predicted − true." if unit else "Error: predicted − true."


def _confusion(result: Result) -> list[list[int]]:
    true, predicted = result.true > 0.5, result.predicted > 0.5
    return [[int(((true == row) & (predicted == column)).sum()) for column in (False, True)] for row in (False, True)]


def _worst(run: Run, result: Result) -> list[dict[str, Any]]:
    found = []
    for row in worst_rows(result.true, result.predicted, _SHOWN).tolist():
        crystal = run.inputs.get(result.ids[row])
        found.append(
            {
                "material": result.materials[row],
                "id": result.ids[row],
                "sites": None if result.sites is None else int(result.sites[row]),
                "crystal": None if crystal is None else crystal_text(crystal),
                "true": _number(result.true[row]),
                "predicted": _number(result.predicted[row]),
                "error": _number(result.predicted[row] - result.true[row], "+"),
                "uncertainty": None if result.uncertainty is None else _number(result.uncertainty[row]),
            }
        )
    return found


def _model(run: Run) -> str:
    """Architecture and the builder keywords that are not its defaults."""
    keywords = ", ".join(f"{key}={json.dumps(value)}" for key, value in run.config["keywords"].items())
    return str(run.config["architecture"]) + (f" ({keywords})" if keywords else "")


def _compared(paired: Paired, runs: Sequence[Run]) -> dict[str, Any]:
    """Collect what the page shows of one target of several runs."""
    first, names = paired.results[0], letters(len(runs))
    scores = [paired.scores(run) for run in range(len(runs))]
    others = [name for name in scores[0] if name not in ("n", "MAE") and all(name in other for other in scores)]
    units = {name: first.target.unit if name == "RMSE" else "" for name in others}
    rows = []
    for run, letter in enumerate(names):
        mean, low, high = paired.mean_error(run)
        values = [_number(scores[run][name]) for name in others]
        rows.append({"letter": letter, "mean": _number(mean), "low": f"{low:.3g}", "high": f"{high:.3g}", "others": values})
    return {
        "name": first.target.name,
        "heading": _named(first.target.name, first.target.unit),
        "rows_text": _rows_text(paired, runs),
        "error_title": _named(first.error_name, first.error_unit),
        "score_names": [_named(name, units[name]) for name in others],
        "scores": rows,
        "unit": f" [{first.error_unit}]" if first.error_unit else "",
        "differences": [_difference(paired, run, names[run]) for run in range(1, len(runs))],
        "images": comparison_figures(paired, runs),
        "apart": _apart(paired),
        "caption": ". Predicted probabilities of class 1." if first.binary else f". Predictions [{first.target.unit or '1'}].",
    }


def _rows_text(paired: Paired, runs: Sequence[Run]) -> str:
    count = len(paired.results[0])
    sizes = ", ".join(f"{count:,} of {rows:,} of {letter}" for letter, rows in zip(letters(len(runs)), paired.available, strict=True))
    text = f"{count:,} common rows: {sizes}. Rows are taken as the same by {paired.by}."
    return text + (f" {paired.differing:,} more have the same id and another value, and are left out." if paired.differing else "")


def _difference(paired: Paired, run: int, letter: str) -> dict[str, Any]:
    mean, low, high = paired.difference(run)
    better, worse = paired.better(run)
    verdict = f"{letter} is better" if high < 0 else "A is better" if low > 0 else "no clear difference"
    numbers = {name: f"{value:+.3g}" for name, value in (("mean", mean), ("low", low), ("high", high))}
    return numbers | {"letter": letter, "better": f"{100 * better:.0f} %", "worse": f"{100 * worse:.0f} %", "verdict": verdict}


def _apart(paired: Paired) -> list[dict[str, Any]]:
    """The rows on which the errors of the runs differ most."""
    first = paired.results[0]
    distances = np.stack([np.abs(result.predicted - result.true) for result in paired.results])
    order = np.argsort(-(distances.max(axis=0) - distances.min(axis=0)), kind="stable")[:_SHOWN]
    return [
        {
            "material": first.materials[row],
            "id": first.ids[row],
            "true": _number(first.true[row]),
            "predicted": [_number(result.predicted[row]) for result in paired.results],
        }
        for row in order.tolist()
    ]
