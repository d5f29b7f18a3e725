"""Turns the values of a trial's hyper-parameters into keywords of a builder and a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tfmat.architecture import Architecture
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer
from tfmat.training.recipe import Recipe
from tfmat.tuning.spaces import Hyperparameters, Space

DIGITS = 6
"""Significant digits of a number in a trial: as many as survive KerasTuner's messages between processes, which hold them in 32 bits."""


@dataclass(frozen=True)
class Configuration:
    """What is trained.

    Attributes:
        keywords: keywords of the builder.
        recipe: how it is trained.
    """

    keywords: dict[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Reader:
    """Turns hyper-parameters into a `Configuration`.

    Attributes:
        architecture: what is built.
        space: what is searched.
        keywords: keywords of the builder that are not searched.
        base: recipe whose fields hold where the space sets none.
        fields: names of the fields of the recipe that are not searched: they hold as they are in `base`.
        vary: names of the hyper-parameters that are searched; the others keep their default. Empty: all.
    """

    architecture: Architecture
    space: Space
    keywords: Mapping[str, Any]
    base: Recipe
    fields: Collection[str] = ()
    vary: Sequence[str] = ()

    def read(self, hp: Hyperparameters) -> Configuration:
        """The configuration for the values of `hp`, in which everything that is searched is registered.

        Raises:
            InputError: the space or `vary` names what there is not, or the values do not fit each other.
        """
        reduced = Reduced(hp, self.vary, {*self.keywords, *self.fields})
        values = self.space(cast(Hyperparameters, reduced))
        for name in self.vary:
            if name not in reduced.offered:
                raise InputError(f"{name!r} is not in the search space of {self.architecture.name}", expected=_one_of(reduced.offered))
            if name not in reduced.used:
                raise InputError(f"{name!r} cannot be both set and varied", expected="one of the two")
        if unknown := set(values) - {"keywords", "recipe"}:
            raise InputError(f"the search space returns {sorted(unknown)[0]!r}", expected="keywords and recipe")
        chosen, fields = dict(values.get("keywords", {})), dict(values.get("recipe", {}))
        self._check_names(chosen, fields)
        fields = {name: value for name, value in fields.items() if name not in self.fields}
        try:
            return Configuration(chosen | dict(self.keywords), dataclasses.replace(self.base, **fields))
        except ValueError as error:
            raise InputError(str(error)) from None

    def _check_names(self, keywords: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        known = list(self.architecture.default_keywords())
        for name in keywords:
            if name not in known:
                raise InputError(f"the search space sets {name!r}, which {self.architecture.name} does not have", expected=_one_of(known))
        known = [field.name for field in dataclasses.fields(Recipe) if field.name != "epochs"]
        for name in fields:
            if name not in known:
                raise InputError(f"the search space sets {name!r} of the recipe, which it does not have", expected=_one_of(known))

    def featurizers(self, hp: Any) -> list[Featurizer]:
        """Every featurizer in which one hyper-parameter differs from its default, the default one first.

        Args:
            hp: a `keras_tuner.HyperParameters` in which the space is registered.
        """
        found: list[Featurizer] = []
        defaults = {parameter.name: parameter.default for parameter in hp.space}
        settings = [{}, *({parameter.name: value} for parameter in hp.space for value in _extremes(parameter))]
        for changed in settings:
            one = hp.copy()
            one.values = defaults | changed
            try:
                featurizer = self.architecture.default_featurizer(self.read(one).keywords)
            except (ValueError, TypeError):  # values that do not fit the others' defaults: no trial of its own is judged here
                continue
            if featurizer not in found:
                found.append(featurizer)
        return found


class Reduced:
    """A `keras_tuner.HyperParameters` of which only some hyper-parameters are searched; the others have their default.

    Args:
        hp: takes what is searched.
        vary: names of what is searched; empty: everything.
        without: names of what is not searched anyway.

    Attributes:
        offered: names that the space asked for.
        used: those of them that are searched.
    """

    def __init__(self, hp: Any, vary: Collection[str], without: Collection[str]) -> None:
        self._hp, self._vary, self._without = hp, vary, without
        self.offered: list[str] = []
        self.used: list[str] = []

    def _source(self, name: str) -> Any:
        self.offered.append(name)
        if name in self._without or (self._vary and name not in self._vary):
            return type(self._hp)()  # knows nothing of the trial, so that it answers with the default
        self.used.append(name)
        return self._hp

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        """``Choice``, ``Int``, ``Float`` and ``Boolean`` of `tfmat.tuning.spaces.Hyperparameters`."""
        return lambda name, *bounds, **options: getattr(self._source(name), kind)(name, *bounds, **options)


def rounded(value: Any) -> Any:
    """A number with `DIGITS` significant digits; anything else as it is."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def trial_values(hp: Any) -> dict[str, Any]:
    """The values of a trial's hyper-parameters, in the order of the space; not those that KerasTuner sets for itself."""
    return {parameter.name: rounded(hp.values[parameter.name]) for parameter in hp.space if parameter.name in hp.values}


def _extremes(parameter: Any) -> list[Any]:
    """All values of a choice, both ends of a range."""
    bounds = [getattr(parameter, name, None) for name in ("min_value", "max_value")]
    return list(parameter.values) if None in bounds else bounds


def _one_of(names: Collection[str]) -> str:
    return f"one of {', '.join(names)}"
