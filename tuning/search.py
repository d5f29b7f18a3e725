"""Hyper-parameter search in Python; ``tfmat tune`` is the same on the command line."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat import architecture as registry
from tfmat.data.cache import RecordCache
from tfmat.data.table import Table, check_targets
from tfmat.errors import InputError
from tfmat.extras import require
from tfmat.featurizers.base import Featurizer
from tfmat.runs.data import featurize_split
from tfmat.runs.progress import SILENT, Progress
from tfmat.target import Target
from tfmat.training.recipe import Recipe
from tfmat.tuning.configuration import Reader
from tfmat.tuning.objective import Objective
from tfmat.tuning.results import SearchResult
from tfmat.tuning.spaces import Space, space_of

if TYPE_CHECKING:
    from tfmat.data.rejections import Rejection
    from tfmat.predictor import Predictor
    from tfmat.tuning.tuner import Watcher

TUNERS = ("hyperband", "bayesian", "random", "grid")
DEFAULT_TRIALS = 20
"""Most trials of the tuners that would otherwise go on for ever."""
_LOGGER = logging.getLogger("tfmat")


@dataclass(frozen=True)
class Search:
    """A search that is ready to run; made by `prepare`.

    Attributes:
        reader: makes a configuration of the values of a trial.
        objective: what is minimised.
        training: rows to learn.
        validation: rows to measure the objective on.
        hp: the space, a `keras_tuner.HyperParameters`.
        tuner: one of `TUNERS`.
        trials: most trials; None: as many as the tuner has.
        epochs: number of epochs of the longest trial.
        seed: seed of the values, and of weights, shuffling and noise.
        strategy: ``none`` or ``mirrored``.
        init: model directory or preset whose weights every trial begins with.
        init_sha256: of these weights.
        freeze: layers that are not trained.
    """

    reader: Reader
    objective: Objective
    training: Table
    validation: Table
    hp: Any
    tuner: str
    trials: int | None
    epochs: int
    seed: int = 0
    strategy: str = "none"
    init: str | None = None
    init_sha256: str = ""
    freeze: tuple[str, ...] = ()

    @property
    def combinations(self) -> int | None:
        """How many trials a grid has; None for other tuners."""
        if self.tuner != "grid":
            return None
        return math.prod(len({parameter.default, *parameter.values}) for parameter in self.hp.space)

    @property
    def featurizers(self) -> list[Featurizer]:
        """Those of the trials, as far as one hyper-parameter at a time differs from its default."""
        return self.reader.featurizers(self.hp)

    def check(self) -> Predictor:
        """Build the model with the default of every hyper-parameter, and see whether its recipe fits it.

        Returns:
            What each trial begins with; ``info`` tells which weights were taken from `init`.

        Raises:
            InputError: it cannot be built or trained.
        """
        from tfmat.training.loop import check_recipe
        from tfmat.tuning.trial import Fitting

        architecture, configuration = self.reader.architecture, self.reader.read(type(self.hp)())
        try:
            predictor = Fitting(self).create(configuration)
            check_recipe(predictor.model, self.objective.targets, configuration.recipe, architecture.parts, validated=True)
        except InputError:
            raise
        except (ValueError, TypeError, ArithmeticError) as error:
            raise InputError(f"{architecture.name} cannot be built with the defaults of its search space: {error}") from None
        return predictor


def search(
    architecture: str,
    targets: Sequence[Target],
    training: Table,
    validation: Table,
    out: str | os.PathLike[str],
    *,
    tuner: str = "hyperband",
    trials: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    strategy: str = "none",
    space: Space | None = None,
    vary: Sequence[str] = (),
    keywords: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    init: str | os.PathLike[str] | None = None,
    freeze: Sequence[str] = (),
    cache: RecordCache | None = None,
    watcher: Watcher | None = None,
) -> SearchResult | None:
    """Search the hyper-parameters with which a model has the lowest validation error.

    The same call with the same `out` goes on where a killed search was, and with more `trials` where a finished one ended. Several
    processes share a search if KerasTuner's environment variables say so, see `tfmat.tuning.cluster`.

    With ``hyperband`` a trial trains the first epochs of a run of `epochs`, whose learning rate is scheduled for all of them; one that is
    promoted goes on from the checkpoint of the trial that it comes from, the optimizer's state included. So a trial that reaches the end
    has the weights that `tfmat.Predictor.fit` gives with its configuration.

    Args:
        architecture: name, e.g. ``lgdcnn``.
        targets: what is predicted.
        training: rows to learn.
        validation: rows that the error is measured on. There is no way to pass a test split.
        out: results folder.
        tuner: ``hyperband``, ``bayesian``, ``random`` or ``grid``.
        trials: most trials. Default: 20; for ``hyperband`` all brackets once, for ``grid`` all combinations.
        epochs: number of epochs of the longest trial. Default: the recipe's.
        seed: seed of the values, and of weights, shuffling and noise of all trials.
        strategy: ``none`` or ``mirrored``, see `tfmat.training.distribution`.
        space: what is searched. Default: the architecture's, see `tfmat.tuning.spaces`.
        vary: names of the hyper-parameters that are searched; the others keep their default. Default: all.
        keywords: keywords of the builder that are not searched.
        recipe: fields of `tfmat.training.recipe.Recipe` that are not searched, such as ``{"rates": (("backbone", 0.1),)}``.
        init: model directory or preset whose weights every trial begins with. Its builder keywords are kept, not searched.
        freeze: layers that are not trained, see `tfmat.Predictor.create`.
        cache: where featurized data is kept. Default: every trial featurizes again.
        watcher: is told how it goes.

    Returns:
        What was found, whose ``train()`` gives a predictor with the best configuration; None in a worker of several processes, as the
        chief has it.

    Raises:
        InputError: something does not fit, `out` holds another search, or all trials failed.
    """
    from tfmat.tuning.running import run

    ready = prepare(
        architecture, targets, training, validation, tuner=tuner, trials=trials, epochs=epochs, seed=seed, strategy=strategy, space=space,
        vary=vary, keywords=keywords, recipe=recipe, init=init, freeze=freeze,
    )  # fmt: skip
    ready.check()
    tables, refused = usable_tables(ready, cache=cache)
    if refused:
        _LOGGER.warning("%d rows cannot be featurized and are left out; the first is %s", len(refused), refused[0])
    return run(ready, tables, Path(out), cache=cache, watcher=watcher)


def prepare(
    architecture: str,
    targets: Sequence[Target],
    training: Table,
    validation: Table,
    *,
    tuner: str = "hyperband",
    trials: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    strategy: str = "none",
    space: Space | None = None,
    vary: Sequence[str] = (),
    keywords: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    init: str | os.PathLike[str] | None = None,
    freeze: Sequence[str] = (),
) -> Search:
    """The search for the arguments of `search`.

    Raises:
        InputError: something does not fit, or the extra ``tuning`` is not installed.
    """
    check_installed()
    import keras_tuner

    from tfmat.model_directory.files import model_folder, read_config
    from tfmat.model_directory.transfer import shared_keywords

    if tuner not in TUNERS:
        raise InputError(f"unknown tuner {tuner!r}", expected=f"one of {', '.join(TUNERS)}")
    for name, number in (("trials", trials), ("epochs", epochs)):
        if number is not None and number < 1:
            raise InputError(f"{name} must be at least 1. Received: {name}={number}")
    for table in (training, validation):
        check_targets(targets, table, learnable=True)
    family = registry.get(architecture)
    family.check_keywords(keywords or {})
    source = {} if init is None else read_config(model_folder(init))
    fixed = (shared_keywords(family, source) if source else {}) | dict(keywords or {})
    changes = dict(recipe or {}) | ({} if epochs is None else {"epochs": epochs})
    try:
        base: Recipe = dataclasses.replace(family.recipes["default"], **changes)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None
    reader = Reader(family, space or space_of(architecture), fixed, base, frozenset(recipe or {}), tuple(vary))
    hp = keras_tuner.HyperParameters()
    reader.read(hp)
    if not hp.space:
        raise InputError("nothing is left to search", expected="a hyper-parameter that is not set")
    if trials is None and tuner in ("bayesian", "random"):
        trials = DEFAULT_TRIALS
    return Search(
        reader, Objective.of(targets, training), training, validation, hp, tuner, trials, base.epochs, seed, strategy,
        None if init is None else os.fspath(init), source.get("weights_sha256", ""), tuple(freeze),
    )  # fmt: skip


def check_installed() -> None:
    """Refuse to go on without the extra ``tuning``."""
    require("tuning", "a search", "keras_tuner", "tensorboard", "sklearn")


def usable_tables(
    ready: Search, *, strict: bool = False, cache: RecordCache | None = None, progress: Progress = SILENT
) -> tuple[tuple[Table, Table], list[Rejection]]:
    """The training and validation rows that all featurizers of the search accept, so that all trials have the same; and the other rows.

    Args:
        ready: the search.
        strict: a row that is not accepted is an error, as a formula always is.
        cache: where featurized data is kept.
        progress: follows the work.
    """
    strict = strict or ready.reader.architecture.material != "crystal"
    tables, refused = [], []
    for name, table in (("training", ready.training), ("validation", ready.validation)):
        usable, left_out = featurize_split(table, ready.featurizers, name, strict=strict, cache=cache, progress=progress)
        tables.append(usable)
        refused += left_out
    return (tables[0], tables[1]), refused
