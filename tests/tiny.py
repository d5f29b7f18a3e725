"""A small architecture whose outputs are Dense layers called by their targets, one column each, as in MEGNet."""

import pathlib

import keras
import pytest
from keras import ops

from tfmat import architecture
from tfmat.architecture import Architecture
from tfmat.featurizers import CompositionFeaturizer
from tfmat.training.recipe import Recipe


def build(targets=("target",), *, dim: int = 8, depth: int = 2, dropout: float = 0.0, columns: int = 1, name: str = "tiny"):
    species = keras.Input((None,), dtype="int32", name="species")
    fractions = keras.Input((None,), name="fractions")
    codes = keras.layers.Embedding(119, dim, name="embedding")(species)
    features = ops.sum(codes * ops.expand_dims(fractions, -1), axis=1)
    for index in range(depth):
        features = keras.layers.Dense(dim, "tanh", name=f"hidden_{index + 1}")(features)
    features = keras.layers.Dropout(dropout, name="dropout")(features)
    outputs = {target: keras.layers.Dense(columns, name=target)(features) for target in targets}
    return keras.Model({"species": species, "fractions": fractions}, outputs, name=name)


def register(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path | None = None) -> Architecture:
    """Make it known as ``tiny`` for one test; `folder` is the model directory of its preset ``tiny-1/gap``."""
    tiny = Architecture(
        name="tiny",
        title="a mean of embeddings and dense layers",
        material="composition",
        builder=build,
        featurizer=CompositionFeaturizer,
        recipes={"default": Recipe(loss="mae")},
        parts={"backbone": ("embedding", "hidden_*"), "absent": ("state_*",)},
        presets={} if folder is None else {"tiny-1/gap": lambda: folder},
    )
    architecture.architectures()
    monkeypatch.setitem(architecture._REGISTRY, "tiny", tiny)
    return tiny
