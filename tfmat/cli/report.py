"""``tfmat report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfmat.cli.errors import check_file
from tfmat.cli.progress import SHOWN, load_tensorflow
from tfmat.cli.tables import MODEL_HELP, aligned, names_of_models, number, scores_table, with_unit
from tfmat.errors import InputError
from tfmat.extras import require

if TYPE_CHECKING:
    from tfmat.analysis.report import Paired, Run

PAGE, COMPARISON = "report.html", Path("comparison.html")


def report(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help=f"{MODEL_HELP} Several are compared.")],
    evaluation: Annotated[
        str | None, typer.Option(metavar="NAME", help="A folder of MODEL/evaluations. Default: the test split of the model's own data.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Default: MODEL/{PAGE}, renewed each time; {PAGE} of a preset, {COMPARISON} of several."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out.")] = False,
) -> None:
    """Write a web page about a model, or about several on the same rows.

    One file with everything in it, to be opened in a browser. Of one model: learning curves, predicted against true values, residuals,
    error by element and by size, calibration of the uncertainty, the worst ten, the model card. Of several: scores on the rows that all
    evaluations have, and paired differences to the first with bootstrap intervals.

    The test split is scored by `tfmat evaluate`; where that has not been done yet, it is done first.

    \b
    Examples:
      tfmat report runs/gap
      tfmat report runs/gap --evaluation new_measurements-all --out new.html
      tfmat report runs/gap-lstm runs/gap-gru runs/gap-seed1 --out gaps.html
    """  # noqa: D301
    target = _out(models, out, overwrite)
    require("report", "a report", "matplotlib", "jinja2", "markdown_it")
    load_tensorflow()
    from tfmat.runs.report import read_run

    runs = [read_run(model, name, evaluation, SHOWN) for model, name in zip(models, names_of_models(models), strict=True)]
    if len(runs) == 1:
        _write_run(runs[0], target)
    else:
        _write_comparison(runs, target)
    print(f"\nwritten to {target}")


def _write_run(run: Run, target: Path) -> None:
    from tfmat.analysis.report import run_page

    with SHOWN.task("drawing the report"):
        page = run_page(run)
    _write(page, target)
    units = {result.target.name: result.target.unit for result in run.results}
    scores = {name: run.evaluation["scores"].get(name, {}) for name in units}
    print(scores_table(f"{run.evaluation['data']}, {run.evaluation['split']}", scores, units))


def _write_comparison(runs: Sequence[Run], target: Path) -> None:
    from tfmat.analysis.report import compare, comparison_page

    paired = compare(runs)
    with SHOWN.task("drawing the report"):
        page = comparison_page(runs, paired)
    _write(page, target)
    for position, found in enumerate(paired):
        print("\n" * (position > 0) + _differences(found, runs))


def _differences(paired: Paired, runs: Sequence[Run]) -> str:
    """Write one line per run: its error on the common rows, and the difference to the first."""
    first = paired.results[0]
    header = [
        f"{first.target.name}, {len(first):,} common rows",
        with_unit(first.error_name, first.error_unit),
        "difference",
        "95 % interval",
    ]
    rows = [[runs[0].name, number(paired.mean_error(0)[0]), "", ""]]
    for position, run in list(enumerate(runs))[1:]:
        mean, low, high = paired.difference(position)
        rows.append([run.name, number(paired.mean_error(position)[0]), f"{mean:+.3g}", f"{low:+.3g} to {high:+.3g}"])
    return aligned(header, rows, right=[1, 2])


def _write(page: str, target: Path) -> None:
    from tfmat.atomic import staged

    with staged(target, overwrite=True) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _out(models: Sequence[Path], out: Path | None, overwrite: bool) -> Path:
    """Decide where the page goes. The page in a model's own folder is renewed, as its evaluations are."""
    same = [model for position, model in enumerate(models) if model.resolve() in [other.resolve() for other in models[:position]]]
    if same:
        raise InputError("it is given twice", file=str(same[0]), expected="different models")
    renewed = out is None and len(models) == 1 and models[0].is_dir()
    target = out or (models[0] / PAGE if renewed else Path(PAGE) if len(models) == 1 else COMPARISON)
    check_file(target, overwrite or renewed, "html")
    return target
