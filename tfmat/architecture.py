"""The registry through which the library, the command line and the tests see the zoo.

`tfmat.zoo` registers its architectures here when it is imported; `get` imports it on first use, so that nothing in the
library depends on a particular model.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from tfmat.crystal import Material
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer

if TYPE_CHECKING:
    import keras

    from tfmat.training.recipe import Recipe

Reference = Literal["local", "global"]
Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class Architecture:
    """One model family: all that the library, the command line and the tests know of it. It stands in one file of `tfmat.zoo`.

    Attributes:
        name: its name on the command line, e.g. ``lgdcnn``.
        title: one line for listings.
        material: what it takes: a formula or a crystal.
        builder: function of keywords (with true defaults) that returns a functional `keras.Model`; one of them is ``targets``.
        featurizer: class of its featurizer, a frozen dataclass with defaults.
        recipes: name -> how it is trained; one of them is ``default``.
        variants: name -> builder keywords of the named variants.
        default: name of the variant that is trained where nothing is said; None: that of the builder's defaults. A model directory holds
            the keywords themselves, so those that exist do not change with it.
        cell_dependence: function of all builder keywords that says in a sentence how the predictions of such a model depend on the choice
            among descriptions of one crystal; None where they do not.
        parts: name of a part of the network, e.g. ``backbone`` -> patterns (as of `fnmatch`) of its layers' names. Layers are frozen and
            given learning rates by part; see `tfmat.training.parts`.
        presets: name of a trained model -> function that returns its model directory, obtaining it first if need be. The name is
            accepted wherever a model directory is, see `tfmat.model_directory.files.model_folder`.
        retired: builder keywords of older versions that changed the training alone: a folder that has them still loads, without them.
        citation: where it was published.
        small: builder keywords of a model that tests build, train and export within seconds.
        reference: function of all builder keywords that tells whether such a model is a reference of CECV (`tfmat.analysis.cecv`):
            ``"local"`` where no element or site sees the others, ``"global"`` where each sees all; None for the others.
    """

    name: str
    title: str
    material: Material
    builder: Callable[..., keras.Model]
    featurizer: type[Featurizer]
    recipes: Mapping[str, Recipe]
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    default: str | None = None
    cell_dependence: Callable[[Mapping[str, Any]], str | None] = lambda keywords: None
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    presets: Mapping[str, Callable[[], Path]] = field(default_factory=dict)
    retired: tuple[str, ...] = ()
    citation: str = ""
    small: Mapping[str, Any] = field(default_factory=dict)
    reference: Callable[[Mapping[str, Any]], Reference | None] = lambda keywords: None

    def default_featurizer(self, keywords: Mapping[str, Any]) -> Featurizer:
        """The featurizer for a model built with `keywords`: those that it has too go to both."""
        known = inspect.signature(self.featurizer).parameters
        return self.featurizer(**{name: value for name, value in keywords.items() if name in known})

    def variant(self, name: str | None = None) -> dict[str, Any]:
        """Builder keywords of the variant called `name`, or of the default one."""
        name = self.default if name is None else name
        return {} if name is None else dict(self.variants[name])

    def default_keywords(self) -> dict[str, Any]:
        """Keywords that describe a model of this family, with their defaults: not its targets and not where its weights come from."""
        parameters = inspect.signature(self.builder).parameters
        return {name: parameter.default for name, parameter in parameters.items() if name not in ("targets", "weights")}

    def reference_role(self, keywords: Mapping[str, Any]) -> Reference | None:
        """The role of a model built with `keywords` among the references of CECV; see `reference`."""
        return self.reference(self.default_keywords() | dict(keywords))

    def depends_on_cell(self, keywords: Mapping[str, Any]) -> str | None:
        """Say how predictions of a model built with `keywords` depend on the description of a crystal; see `cell_dependence`."""
        return self.cell_dependence(self.default_keywords() | dict(keywords))

    def recipe(self, name: str) -> Recipe:
        """Look up one of its recipes by name."""
        if name not in self.recipes:
            raise InputError(f"{self.name} has no recipe {name!r}", expected=f"one of {', '.join(self.recipes)}")
        return self.recipes[name]

    def check_keywords(self, keywords: Mapping[str, Any]) -> None:
        """Refuse a keyword that the builder does not have."""
        known = list(self.default_keywords())
        for name in keywords:
            if name not in known:
                raise InputError(f"{self.name} has no keyword {name!r}", expected=f"one of {', '.join(known)}")


_REGISTRY: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Make an architecture known by its name, and return it."""
    if _REGISTRY.get(architecture.name, architecture) is not architecture:
        raise ValueError(f"an architecture named {architecture.name!r} is registered already")
    _REGISTRY[architecture.name] = architecture
    return architecture


def with_keywords_of(part: Callable[..., Any], **defaults: Any) -> Callable[[Builder], Builder]:
    """Decorator of a builder that hands keywords on to the function of a `part` of its network, which alone lists them.

    The builder takes them as its last parameter, ``**keywords``. Its signature and its docstring then show them one by one, and one that
    `part` does not have is a `TypeError`.

    Args:
        part: function of keywords with defaults, which its docstring describes under ``Args:``.
        defaults: defaults of this builder that differ from those of `part`.
    """
    described = (inspect.getdoc(part) or "").partition("Args:\n")[2].partition("\n\n")[0]
    inner = [p.replace(default=defaults.get(p.name, p.default)) for p in inspect.signature(part).parameters.values()]

    def decorated(builder: Builder) -> Builder:
        outer = list(inspect.signature(builder).parameters.values())
        signature = inspect.signature(builder).replace(parameters=[*outer[:1], *inner, *outer[1:-1]])

        @functools.wraps(builder)
        def build(*arguments: Any, **keywords: Any) -> Any:
            signature.bind(*arguments, **keywords)
            return builder(*arguments, **(defaults | keywords))

        build.__signature__ = signature  # type: ignore[attr-defined]
        types = typing.get_type_hints(part) | typing.get_type_hints(builder)
        build.__annotations__ = {name: value for name, value in types.items() if name != outer[-1].name}
        own_line = re.compile(rf"^ *\*\*{outer[-1].name}:.*$", re.MULTILINE)
        build.__doc__ = own_line.sub(lambda _: textwrap.indent(described, "    "), builder.__doc__ or "")
        return cast(Builder, build)

    return decorated


def architectures() -> dict[str, Architecture]:
    """All known architectures by name."""
    importlib.import_module("tfmat.zoo")
    return dict(_REGISTRY)


def list_models() -> list[str]:
    """Names of the architectures, as `tfmat.Predictor.create` takes them."""
    return sorted(architectures())


def get(name: str) -> Architecture:
    """The architecture called `name`."""
    known = architectures()
    if name not in known:
        raise InputError(f"unknown architecture {name!r}", expected=f"one of {', '.join(sorted(known))}")
    return known[name]


def check_preset(name: str) -> None:
    """Refuse what is not the name of a preset."""
    known = [preset for architecture in architectures().values() for preset in architecture.presets]
    if name not in known:
        raise InputError(f"no preset {name!r}", expected=f"one of {', '.join(known)}")
