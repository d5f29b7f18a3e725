"""What a report about a trained model needs, gathered from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.errors import InputError
from tfmat.runs import evaluations
from tfmat.runs.evaluate import own_names, score
from tfmat.runs.folder import SUFFIX, opened
from tfmat.runs.progress import SILENT, Progress

if TYPE_CHECKING:
    from tfmat.analysis.report import Run
    from tfmat.target import Target

_TRAINED = "the folder as `tfmat train` wrote it"


def read_run(model: Path, name: str, evaluation: str | None = None, progress: Progress = SILENT) -> Run:
    """Read what a page shows of one model; its test split is scored if that has not been done.

    Args:
        model: its folder, or a preset.
        name: what the page calls it.
        evaluation: name of a folder in its ``evaluations``. Default: that of the test split of its own data.
        progress: follows the scoring.

    Raises:
        InputError: the model is not finished, or a file of it is missing or damaged.
    """
    from tfmat.analysis.report import Result, Run
    from tfmat.model_directory.files import CARD, model_folder, read_config
    from tfmat.target import Target

    training = opened(model)
    if training.unfinished and (model.name.endswith(SUFFIX) or not model.exists()):
        raise InputError("the run is not finished", file=str(model), expected=f"a trained model: tfmat train --resume {training.out}")
    folder = model_folder(model)
    config = read_config(folder)
    targets = [Target(**target) for target in config["targets"]]
    history, card = _history(folder, config, targets), folder / CARD
    if not card.is_file():
        raise InputError("no model card: the file is missing", file=str(card), expected=_TRAINED)
    chosen = _evaluated(folder, config, evaluation, progress)
    stored = evaluations.read(chosen, targets)
    results = [Result.of(target, stored.predictions) for target in targets]
    run = Run(name, config, history, card.read_text(encoding="utf-8"), stored.scores, results, stored.worst)
    run.check(str(chosen / evaluations.PREDICTIONS))
    return run


def _history(folder: Path, config: dict[str, Any], targets: Sequence[Target]) -> list[dict[str, float]]:
    """Read the figures of each epoch; a model that was converted has none."""
    from tfmat.model_directory.files import HISTORY

    path = folder / HISTORY
    if not config["info"].get("epochs"):
        return []
    if not path.is_file() or path.stat().st_size <= 1:
        raise InputError("no history: the file is missing or empty", file=str(path), expected=_TRAINED)
    frame = evaluations.read_csv(path, _TRAINED, dtype=float)
    absent = [name for name in ("epoch", "loss", *(f"{target.name}_mae" for target in targets)) if name not in frame]
    if absent or not len(frame):
        raise InputError(f"no history: {f'no column {absent[0]!r}' if absent else 'no epoch'}", file=str(path), expected=_TRAINED)
    return [{str(name): float(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _evaluated(folder: Path, config: dict[str, Any], evaluation: str | None, progress: Progress) -> Path:
    """Find the folder of the evaluation that is wanted, or make it."""
    present = sorted(path.parent.name for path in (folder / evaluations.FOLDER).glob(f"*/{evaluations.SCORES}"))
    listed = ", ".join(present) or "none"
    if evaluation is not None:
        if evaluation not in present:
            problem = f"it has no evaluation {evaluation[:60]!r} (there: {listed})"
            raise InputError(problem, file=str(folder), expected=f"what `tfmat evaluate {folder} --data ...` writes")
        return folder / evaluations.FOLDER / evaluation
    own = own_names(config["info"])
    if not own:
        problem = f"no predictions: the model does not say what it was trained on (evaluations: {listed})"
        raise InputError(problem, file=str(folder), expected="`tfmat evaluate MODEL --data ...`, then --evaluation with what it wrote")
    found = evaluations.folder_of(folder, own, "test")
    if not found.is_dir():
        progress.tell(f"{folder} has no predictions of its test split yet: evaluating")
        found, _ = score(folder, split="test", progress=progress)
    return found
