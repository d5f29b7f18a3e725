"""What is searched: one function per architecture, from KerasTuner's ``hp`` to keywords of the builder and fields of the recipe.

Names of hyper-parameters are those of the keywords and fields that they set. Keywords that the featurizer has too (``k``, ``cutoff``,
``n_list``) go to both, so that the data of a trial are featurized as its model needs them. The default of each hyper-parameter is that of
the architecture's default variant, or of its recipe ``default``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict

from tfmat.errors import InputError

AUTOMATIC = 0
"""The value of ``batch_size`` that leaves it to the recipe, see `tfmat.training.recipe.Recipe.batch_size_for`."""


class Hyperparameters(Protocol):
    """What a space asks for its values: a `keras_tuner.HyperParameters`, or `tfmat.tuning.configuration.Reduced`."""

    def Choice(self, name: str, values: Sequence[Any], *, default: Any = None) -> Any:
        """Choose one of `values`."""

    def Int(
        self, name: str, min_value: int, max_value: int, *, step: int | None = None, sampling: str = "linear", default: Any = None
    ) -> Any:
        """A whole number, both bounds included."""

    def Float(
        self, name: str, min_value: float, max_value: float, *, step: float | None = None, sampling: str = "linear", default: Any = None
    ) -> Any:
        """A number, both bounds included."""

    def Boolean(self, name: str, *, default: bool = False) -> Any:
        """Yes or no."""


class Values(TypedDict):
    """What a space returns.

    Attributes:
        keywords: keywords of the builder, which go to the featurizer too where it has them.
        recipe: fields of `tfmat.training.recipe.Recipe`.
    """

    keywords: dict[str, Any]
    recipe: dict[str, Any]


Space = Callable[[Hyperparameters], Values]
SPACES: dict[str, Space] = {}
"""Architecture -> its space."""


def search_space(function: Space) -> Space:
    """Decorator: `function` is the space of the architecture that it is named after."""
    SPACES[function.__name__] = function
    return function


@search_space
def lgdcnn(hp: Hyperparameters) -> Values:
    """Width, depth and kind of the layers of `tfmat.zoo.LGDCNN`, and its element table."""
    return {
        "keywords": {
            "dim": hp.Choice("dim", [128, 192, 256, 512, 768], default=256),
            "recurrent": tuple(hp.Choice("recurrent", ["lstm", "gru", "lstm-gru"], default="lstm-gru").split("-")),
            "attention": hp.Boolean("attention", default=True),
            "conv_blocks": hp.Int("conv_blocks", 1, 4, default=3),
            "conv_dim": hp.Choice("conv_dim", [128, 192, 256, 512], default=256),
            "kernel_size": hp.Choice("kernel_size", [1, 3], default=3),
            "elements": hp.Choice("elements", ["mat2vec", "onehot", "magpie", "matscholar"], default="mat2vec"),
        },
        "recipe": {
            **_optimizer(hp, weight_decay=0.01),
            "batch_size": _batch_size(hp, [AUTOMATIC, 32, 64, 128, 256]),
            "fraction_jitter": hp.Choice("fraction_jitter", [0.0, 0.01, 0.02, 0.05], default=0.02),
        },
    }


@search_space
def megnet(hp: Hyperparameters) -> Values:
    """Bond radius, width and depth of `tfmat.zoo.MEGNet`."""
    return {
        "keywords": _backbone(hp, set2set_steps=3),
        "recipe": {**_optimizer(hp, weight_decay=1e-4), "batch_size": _batch_size(hp, [AUTOMATIC, 32, 64, 128])},
    }


@search_space
def paraisite(hp: Hyperparameters) -> Values:
    """The backbone of `tfmat.zoo.ParAIsite` and the widths of its perceptron. Its recipe has Adam, without weight decay or averaging."""
    widths = hp.Choice("head_dims", ["128-64", "256-128", "450-350-350", "512-512-512"], default="450-350-350")
    return {
        "keywords": {**_backbone(hp, set2set_steps=2), "head_dims": tuple(int(width) for width in widths.split("-"))},
        "recipe": {
            "learning_rate": hp.Float("learning_rate", 1e-4, 5e-3, sampling="log", default=1e-3),
            "batch_size": _batch_size(hp, [8, 16, 32, 64]),
        },
    }


@search_space
def crysformer(hp: Hyperparameters) -> Values:
    """Neighbours, width and depth of `tfmat.zoo.Crysformer`, and what it has against over-fitting."""
    return {
        "keywords": {
            "k": hp.Choice("k", [8, 12, 16], default=12),
            "blocks": hp.Int("blocks", 1, 5, default=2),
            "dim": hp.Choice("dim", [64, 128, 192], default=64),
            "heads": hp.Choice("heads", [2, 4, 8], default=4),
            "dropout": hp.Choice("dropout", [0.0, 0.1, 0.2], default=0.0),
            "stochastic_depth": hp.Choice("stochastic_depth", [0.0, 0.1, 0.2], default=0.0),
        },
        "recipe": {**_optimizer(hp, weight_decay=0.01), "batch_size": _batch_size(hp, [AUTOMATIC, 32, 64, 128])},
    }


@search_space
def atom_list_lstm(hp: Hyperparameters) -> Values:
    """Length of the lists, width and depth of `tfmat.zoo.AtomListLSTM`."""
    return {
        "keywords": {
            "n_list": hp.Choice("n_list", [12, 16, 20, 24], default=20),
            "embedding_dim": hp.Choice("embedding_dim", [16, 32, 64], default=32),
            "site_units": hp.Choice("site_units", [32, 64, 128], default=64),
            "crystal_units": hp.Choice("crystal_units", [64, 128, 256], default=128),
            "layers": hp.Int("layers", 1, 4, default=4),
            "pooling": hp.Choice("pooling", ["lstm", "mean"], default="mean"),
        },
        "recipe": {
            **_optimizer(hp, weight_decay=0.01, learning_rate=3e-3),
            "batch_size": hp.Choice("batch_size", [16, 32, 64, 128], default=32),
        },
    }


def _backbone(hp: Hyperparameters, *, set2set_steps: int) -> dict[str, Any]:
    return {
        "cutoff": hp.Choice("cutoff", [4.0, 5.0, 6.0], default=4.0),
        "blocks": hp.Int("blocks", 1, 5, default=3),
        "embedding_dim": hp.Choice("embedding_dim", [8, 16, 32], default=16),
        "hidden_dim": hp.Choice("hidden_dim", [32, 64, 128], default=64),
        "dim": hp.Choice("dim", [16, 32, 64], default=32),
        "set2set_steps": hp.Int("set2set_steps", 1, 4, default=set2set_steps),
        "dropout": hp.Choice("dropout", [0.0, 0.1, 0.2], default=0.0),
    }


def _optimizer(hp: Hyperparameters, *, weight_decay: float, learning_rate: float = 1e-3) -> dict[str, Any]:
    """AdamW with a moving average of the weights."""
    return {
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=learning_rate),
        "weight_decay": hp.Choice("weight_decay", [0.0, 1e-4, 1e-3, 1e-2, 1e-1], default=weight_decay),
        "ema": hp.Choice("ema", [0.99, 0.995, 0.999], default=0.995),
    }


def _batch_size(hp: Hyperparameters, sizes: Sequence[int]) -> int | None:
    """The first one is the default."""
    return hp.Choice("batch_size", list(sizes), default=sizes[0]) or None


def space_of(architecture: str) -> Space:
    """The search space of an architecture."""
    if architecture not in SPACES:
        raise InputError(f"{architecture} has no search space", expected=f"one of {', '.join(sorted(SPACES))}, or a space of your own")
    return SPACES[architecture]
