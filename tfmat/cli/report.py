"""``tfmat report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmat.cli import evaluations
from tfmat.cli.failures import tell, writing
from tfmat.cli.progress import task
from tfmat.cli.quiet import load_tensorflow
from tfmat.cli.runs import SUFFIX, opened
from tfmat.cli.tables import aligned, number, scores_table, with_unit
from tfmat.errors import InputError
from tfmat.extras import require

if TYPE_CHECKING:
    from tfmat.analysis.report import Paired, Run
    from tfmat.target import Target

PAGE, COMPARISON = "report.html", Path("comparison.html")


def report(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help="Folders written by `tfmat train`; several are compared.")],
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
    runs = [_run(model, name, evaluation) for model, name in zip(models, _names(models), strict=True)]
    if len(runs) == 1:
        _write_run(runs[0], target)
    else:
        _write_comparison(runs, target)
    print(f"\nwritten to {target}")


def _write_run(run: Run, target: Path) -> None:
    from tfmat.analysis.report import run_page

    with task("drawing the report"):
        page = run_page(run)
    _write(page, target)
    units = {result.target.name: result.target.unit for result in run.results}
    scores = {name: run.evaluation["scores"].get(name, {}) for name in units}
    print(scores_table(f"{run.evaluation['data']}, {run.evaluation['split']}", scores, units))


def _write_comparison(runs: Sequence[Run], target: Path) -> None:
    from tfmat.analysis.report import compare, comparison_page

    paired = compare(runs)
    with task("drawing the report"):
        page = comparison_page(runs, paired)
    _write(page, target)
    for position, found in enumerate(paired):
        print("\n" * (position > 0) + _differences(found, runs))


def _differences(paired: Paired, runs: Sequence[Run]) -> str:
    """One line a run: its error on the common rows, and the difference to the first."""
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

    with writing(target), staged(target, overwrite=True) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _out(models: Sequence[Path], out: Path | None, overwrite: bool) -> Path:
    """Where the page goes. The page in a model's own folder is renewed, as its evaluations are."""
    same = [model for position, model in enumerate(models) if model.resolve() in [other.resolve() for other in models[:position]]]
    if same:
        raise InputError("it is given twice", file=str(same[0]), expected="different models")
    renewed = out is None and len(models) == 1 and models[0].is_dir()
    target = out or (models[0] / PAGE if renewed else Path(PAGE) if len(models) == 1 else COMPARISON)
    if target.is_dir():
        raise InputError("it is a folder", file=str(target), expected="--out FILE.html")
    if target.exists() and not (overwrite or renewed):
        raise InputError("it exists already", file=str(target), expected="a new --out, or --overwrite")
    return target


def _names(models: Sequence[Path]) -> list[str]:
    """The folders' names, or their paths where names repeat."""
    names = [model.absolute().name if model.is_dir() else str(model) for model in models]
    return names if len(set(names)) == len(names) else [str(model) for model in models]


def _run(model: Path, name: str, evaluation: str | None) -> Run:
    """What the page shows of one model; the test split is scored if that has not been done."""
    from tfmat.analysis.report import Result, Run
    from tfmat.model_directory.files import CARD, model_folder, read_config
    from tfmat.target import Target

    _check_finished(model)
    folder = model_folder(model)
    config = read_config(folder)
    targets = [Target(**target) for target in config["targets"]]
    history, card = _history(folder, config, targets), folder / CARD
    if not card.is_file():
        raise InputError("no model card: the file is missing", file=str(card), expected="the folder as `tfmat train` wrote it")
    chosen = _evaluated(folder, config, evaluation)
    stored = evaluations.read(chosen, targets)
    results = [Result.of(target, stored.predictions) for target in targets]
    run = Run(name, config, history, card.read_text(encoding="utf-8"), stored.scores, results, stored.worst)
    run.check(str(chosen / evaluations.PREDICTIONS))
    return run


def _check_finished(model: Path) -> None:
    folder = opened(model)
    if folder.unfinished and (model.name.endswith(SUFFIX) or not model.exists()):
        raise InputError("the run is not finished", file=str(model), expected=f"a trained model: tfmat train --resume {folder.out}")


def _history(folder: Path, config: dict[str, Any], targets: Sequence[Target]) -> list[dict[str, float]]:
    """Figures of each epoch; none of a model that was converted."""
    import pandas as pd

    from tfmat.model_directory.files import HISTORY

    path = folder / HISTORY
    if not config["info"].get("epochs"):
        return []
    expected = "the folder as `tfmat train` wrote it"
    if not path.is_file() or path.stat().st_size <= 1:
        raise InputError("no history: the file is missing or empty", file=str(path), expected=expected)
    try:
        frame = pd.read_csv(path).astype(float)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"it cannot be read ({str(error).splitlines()[0]})", file=str(path), expected=expected) from None
    absent = [name for name in ("epoch", "loss", *(f"{target.name}_mae" for target in targets)) if name not in frame]
    if absent or not len(frame):
        raise InputError(f"no history: {f'no column {absent[0]!r}' if absent else 'no epoch'}", file=str(path), expected=expected)
    return [{str(name): float(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _evaluated(folder: Path, config: dict[str, Any], evaluation: str | None) -> Path:
    """The folder of the evaluation that is wanted."""
    present = sorted(path.parent.name for path in (folder / evaluations.FOLDER).glob(f"*/{evaluations.SCORES}"))
    listed = ", ".join(present) or "none"
    if evaluation is not None:
        if evaluation not in present:
            problem = f"it has no evaluation {evaluation[:60]!r} (there: {listed})"
            raise InputError(problem, file=str(folder), expected=f"what `tfmat evaluate {folder} --data ...` writes")
        return folder / evaluations.FOLDER / evaluation
    own = config["info"].get("dataset")
    if not own:
        problem = f"no predictions: the model does not say what it was trained on (evaluations: {listed})"
        raise InputError(problem, file=str(folder), expected="`tfmat evaluate MODEL --data ...`, then --evaluation with what it wrote")
    found = evaluations.folder_of(folder, str(own["name"]), "test")
    if not found.is_dir():
        from tfmat.cli.evaluate import score

        tell(f"{folder} has no predictions of its test split yet: evaluating")
        found, _ = score(folder, split="test")
    return found
