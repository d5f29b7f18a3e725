"""What a run is made of: all its settings, and the file of ``tfmat train --config`` that may give a part of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.errors import InputError
from tfmat.runs.settings import builder_keywords, changed_recipe, checked_keywords, checked_recipe, known, layer_rates, stated

if TYPE_CHECKING:
    from tfmat.data.splits import SplitSpec
    from tfmat.target import Target

KEYS = ("architecture", "keywords", "recipe", "seed", "data", "search")
"""What a config may hold; ``search`` tells where it comes from and is not read."""
_DATA_KEYS = ("name", "targets", "split", "reading")
_READING = ("formula_column", "structure_column", "max_sites")


@dataclass(frozen=True)
class Settings:
    """Everything that determines a run, JSON-able, so that an interrupted run can go on with the same settings.

    Attributes:
        architecture: name.
        keywords: of the builder.
        targets: configs of the targets, not fitted.
        recipe: config of the recipe.
        epochs: total number.
        seed: of weights, shuffling and noise.
        data: name of a dataset, or absolute path of a file or folder; a list of them where several are merged.
        label: the same as it was typed.
        split: config of the `SplitSpec` by which a file is split; None for a dataset, which has its own.
        cache: keep featurized data on disk.
        overwrite: replace an existing model at the end.
        train_sha256: content hash of the training split.
        tfmat: version that began the run.
        strict: refuse a file with a bad row.
        formula_column: of files; None: the usual ones.
        structure_column: of files; None: the usual ones.
        max_sites: most sites of a crystal in a file; None: 1,000.
        init: absolute path of the model directory, or name of the preset, that the weights come from.
        init_label: the same as it was typed.
        init_sha256: of the weights there.
        freeze: layers that are not trained.
        strategy: name of the strategy, see `tfmat.training.distribution.strategy_of`.
        precision: in which the model is trained.
    """

    architecture: str
    keywords: dict[str, Any]
    targets: list[dict[str, Any]]
    recipe: dict[str, Any]
    epochs: int
    seed: int = 0
    data: str | list[str] = ""
    label: str | list[str] = ""
    split: dict[str, Any] | None = None
    cache: bool = True
    overwrite: bool = False
    train_sha256: str = ""
    tfmat: str = ""
    strict: bool = False
    formula_column: str | None = None
    structure_column: str | None = None
    max_sites: int | None = None
    init: str | None = None
    init_label: str = ""
    init_sha256: str = ""
    freeze: list[str] = field(default_factory=list)
    strategy: str = "none"
    precision: str = "float32"

    @property
    def reading(self) -> dict[str, Any]:
        """How files are read, where that is not the default: options of `tfmat.datasets.open_data`."""
        return stated(**{name: getattr(self, name) for name in _READING})


@dataclass(frozen=True)
class RunConfig:
    """What a config file says about a run; explicit options come before it.

    Attributes:
        architecture: name.
        keywords: of the builder.
        recipe: fields in which the recipe differs from the architecture's ``default``.
        seed: of weights, shuffling and noise; None if it says none.
        data: name of a dataset, or path, or a list of them; None if it says none.
        targets: what is predicted.
        split: how a file is split.
        reading: how files are read, see `Settings.reading`.
    """

    architecture: str
    keywords: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    data: str | list[str] | None = None
    targets: tuple[Target, ...] = ()
    split: SplitSpec | None = None
    reading: dict[str, Any] = field(default_factory=dict)


def read_run_config(path: Path, architecture: str | None) -> RunConfig:
    """Read and check a config.

    Args:
        path: JSON file, such as ``best.json`` of a search.
        architecture: the one that was asked for, which must be that of the file; None: any.

    Raises:
        InputError: it cannot be read, or holds what no model or recipe has.
    """
    content = _object(_read(path), "a config", path)
    try:
        for key in content:
            known("key", key, KEYS)
        if "architecture" not in content:
            raise InputError("it names no architecture", expected='"architecture": "lgdcnn" or another of `tfmat models`')
        return _checked(content, architecture, path)
    except InputError as error:
        raise error.located(file=str(path)) from None


def model_settings(
    given: RunConfig | None,
    name: str | None,
    variant: str | None,
    keywords: list[str],
    recipe: str,
    recipe_options: list[str],
    *,
    rates: list[str],
    epochs: int | None,
    batch_size: int | None,
    new: bool,
) -> Settings:
    """Collect what options, and where these are silent a config, say about the model and its recipe; the data is filled in later.

    Args:
        given: the config.
        name: of the architecture; None: that of the config.
        variant: of the architecture; None: the default one of a `new` model, else no one.
        keywords: ``key=value`` of the builder.
        recipe: name.
        recipe_options: ``key=value`` of the recipe.
        rates: ``pattern=factor`` of the learning rate.
        epochs: total number; None: the recipe's.
        batch_size: None: the recipe's.
        new: neither a config nor a model that it begins with describes the network.
    """
    from tfmat import __version__
    from tfmat.architecture import architectures

    given = given or RunConfig("")
    family = architectures()
    architecture = family[known("architecture", name or given.architecture, family)]
    base = architecture.recipes[known(f"recipe of {architecture.name}", recipe, architecture.recipes)]
    chosen = changed_recipe(checked_recipe(base, given.recipe), recipe_options, batch_size=batch_size, epochs=epochs)
    if rates:
        chosen = dataclasses.replace(chosen, rates=(*layer_rates(rates), *chosen.rates))
    chosen_keywords = given.keywords | builder_keywords(architecture, variant or (architecture.default if new else None), keywords)
    return Settings(architecture.name, chosen_keywords, [], chosen.to_config(), chosen.epochs, tfmat=__version__)


def _checked(content: Mapping[str, Any], architecture: str | None, path: Path) -> RunConfig:
    from tfmat.architecture import architectures

    family = architectures()
    name = known("architecture", str(content["architecture"]), family)
    if architecture not in (None, name):
        raise InputError(f"it is a config of {name}, not of {architecture}", expected=f"tfmat train {name} --config, or another config")
    seed = content.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31):
        raise InputError(f"seed is {seed!r}", expected="a whole number from 0 on")
    keywords = checked_keywords(family[name], _object(content.get("keywords", {}), "keywords", path))
    recipe = _object(content.get("recipe", {}), "recipe", path)
    checked_recipe(family[name].recipes["default"], recipe)
    return RunConfig(name, keywords, recipe, seed, **_data(_object(content.get("data", {}), "data", path)))


def _data(content: Mapping[str, Any]) -> dict[str, Any]:
    from tfmat.data.splits import SplitSpec
    from tfmat.target import Target

    for key in content:
        known("key of data", key, _DATA_KEYS)
    if not content:
        return {}
    try:
        split = SplitSpec.from_config(content["split"]) if content.get("split") else None
        name = content["name"]
        data = [str(part) for part in name] if isinstance(name, list) else str(name)
        reading = {known("option", option, _READING): value for option, value in content.get("reading", {}).items()}
        return {"data": data, "targets": tuple(Target(**config) for config in content["targets"]), "split": split, "reading": reading}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"its data cannot be read ({error})", expected="name, targets and split as in best.json of a search") from None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", file=str(path), expected="a JSON file such as best.json of tfmat tune") from None
    except IsADirectoryError:
        raise InputError("is a folder", file=str(path), expected=f"a file, such as {path / 'best.json'}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"not valid JSON ({error})", file=str(path)) from None


def _object(value: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} is no JSON object", file=str(path), expected="{...}")
    return value
