"""The atom-list LSTM: a property from a crystal, read as one sequence of neighbours per site and one sequence of sites.

"A simple machine-learning model for predicting compound properties", README of the public repository LC_NET; its training script and its
checkpoint tell what the README leaves out. There is no paper. Predicted there: band gaps of AFLOW.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfmat.architecture import Architecture, register
from tfmat.errors import InputError
from tfmat.featurizers.atom_list import AtomListFeaturizer, Order
from tfmat.layers.lists import at_receivers, crystals_of, list_inputs, mean_of
from tfmat.layers.neighbors import MeanOverSites
from tfmat.layers.normalization import LayerNorm
from tfmat.layers.precision import exact, weights_dtype
from tfmat.layers.recurrent import StackedLSTM
from tfmat.target import Target
from tfmat.training.recipe import Recipe
from tfmat.zoo.model import zoo_model

EPSILON = 1e-5
"""Added to the variance in the norms."""


@zoo_model("atom_list_lstm")
def AtomListLSTM(
    targets: Sequence[str] = ("target",),
    *,
    n_list: int = 20,
    cutoff: float | None = None,
    order: Order = "canonical",
    heaviest: int = 95,
    centre_weight: float = 1.0,
    embedding_dim: int = 32,
    site_units: int = 64,
    crystal_units: int = 128,
    layers: int = 4,
    normalisation: bool = True,
    pooling: Literal["lstm", "mean"] = "lstm",
    output: Literal["linear", "relu"] = "linear",
    uncertainty: bool = False,
    name: str = "atom_list_lstm",
) -> keras.Model:
    """The atom-list LSTM.

    Data flow (B crystals, A sites, S different lists of `n_list` entries): an entry is Emb[Z] / r, the site itself Emb[Z] `centre_weight`.
    `StackedLSTM` 1 reads each list; u = mean over its layers of the final hidden states + the same of the cell states, one vector per list,
    which all sites with that list take. `SitesNorm`; `StackedLSTM` 2 reads the sites in their order; y = mean over its layers of the final
    cell states, D = `crystal_units` wide. Norm; dense layers with ReLU of width D, D / 2, norm, D / 2, D / 4 and D / 4; and for each target
    the sum of 16 affine maps.

    Inputs: dict of the different lists of a batch, whose crystals follow each other: ``species`` int32 (S,) atomic numbers of the sites
    that they belong to, ``site_multiplicity`` int32 (S,) number of these sites, ``elements`` int32 (S, n_list - 1) and ``distances``
    (S, n_list - 1) [Å] of their neighbours; ``batch_sites`` int32 (B,) lists of each crystal. The last list is empty, of multiplicity 0.
    With ``pooling="lstm"`` also ``lists`` int32 (B, A), number of each site's list within its crystal, from 1 on; 0 = padding.
    Outputs: dict target -> (B, 1) value, or logit for a binary target, in scaled units; (B, 2) with `uncertainty`.

    Differences from the paper and its published code:
        - the README says Emb[Z] / r. The published run multiplied by the index of the element instead (the array of distances was loaded
          and never used), so its model knew distances only through the order of the entries. That is not reproduced.
        - equal lists are read once, which gives the same numbers: a third of the work on lists for mp2018_subset.
        - layer normalisation over the real sites and features of a crystal, or over features, where there were batch normalisations: with
          swapped axes, one scale for each place in the batch, always in training mode, and one module used twice.
        - padding is masked in the second LSTM; there it was read like sites, so a prediction depended on the batch.
        - one bias per gate where PyTorch has two (3,072 of the published 655,956 parameters; the batch normalisations had 100).
        - lists are ordered by their contents (``order="published"`` by fractional coordinates), with neighbours as far as it takes; the
          published cut-off and weight of the site itself are not known.
        - the sum of 16 may be negative (``output="linear"``). ``"relu"`` bounds it as published, at the physical zero of the target, and no
          training value may be negative then; but in training gradients pass this bound, so that no network dies below it.
        - elements up to Am instead of At.
        - ``pooling="mean"``, variant ``mean``, which `tfmat train` takes: in place of the second LSTM a dense layer with ReLU and the mean
          over the sites, which no order and no number of sites can change. With ``"lstm"`` a supercell is a longer sequence than its
          primitive cell, and predictions differ.
        - targets are scaled, several may be learnt at once, and optionally a log-scale.

    Args:
        targets: names of the outputs.
        n_list: entries of a list, the site itself included.
        cutoff: farthest neighbour [Å]; None: as far as it takes.
        order: how the sites are sorted, see `AtomListFeaturizer`.
        heaviest: largest atomic number.
        centre_weight: weight of the site itself in its list [1/Å].
        embedding_dim: width of the embedding of the elements.
        site_units: width of the LSTM over lists.
        crystal_units: width of the LSTM over sites, and of what follows; a multiple of 4.
        layers: number of layers of each LSTM.
        normalisation: whether the three norms are there.
        pooling: how the sites become one vector: the second LSTM, or their mean.
        output: ``"relu"`` for targets that cannot be negative.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        name: name of the model.

    Returns:
        A functional `keras.Model`; with ``heaviest=85`` 653,296 parameters that are trained, 652,784 with ``normalisation=False``.
    """
    for label, value, allowed in (("pooling", pooling, ("lstm", "mean")), ("output", output, ("linear", "relu"))):
        if value not in allowed:
            raise ValueError(f"`{label}` must be one of {allowed}. Received: {label}={value!r}")
    if n_list < 2:
        raise ValueError(f"`n_list` must be at least 2. Received: n_list={n_list}")
    if crystal_units < 4 or crystal_units % 4:
        raise ValueError(f"`crystal_units` must be a multiple of 4. Received: crystal_units={crystal_units}")
    inputs = list_inputs(AtomListFeaturizer(n_list, cutoff, order, heaviest).spec)
    if pooling == "mean":
        del inputs["lists"]  # the order of the sites
    graph = ListGraph(name="graph")(inputs["site_multiplicity"], inputs["batch_sites"], inputs.get("lists"))
    embedding = ListEmbedding(heaviest, embedding_dim, centre_weight, name="embedding", dtype=weights_dtype())
    entries = embedding(inputs["species"], inputs["elements"], inputs["distances"])
    shorter = None if cutoff is None else ops.concatenate([ops.ones_like(inputs["species"])[:, None], inputs["elements"]], axis=-1) > 0
    hidden, carry = StackedLSTM(site_units, layers, name="site_lstm")(entries, shorter)
    sites, of_sites = hidden + carry, (graph["sites"], graph["crystals"], inputs["batch_sites"])
    if normalisation:
        sites = SitesNorm(EPSILON, name="site_norm")(sites, *of_sites)

    if pooling == "lstm":
        sequence = ops.take(sites, graph["rows"], axis=0)
        _, crystal = StackedLSTM(crystal_units, layers, name="crystal_lstm")(sequence, graph["real_sites"])
    else:
        crystal = MeanOverSites(name="crystal")(_dense("crystal_dense", crystal_units)(sites), *of_sites)
    if normalisation:
        crystal = LayerNorm(EPSILON, name="crystal_norm")(crystal)
    for number, part in enumerate((1, 2, 2, 4, 4), 1):
        crystal = _dense(f"head_{number}", crystal_units // part)(crystal)
        if normalisation and number == 2:
            crystal = LayerNorm(EPSILON, name="head_norm")(crystal)
    columns = 2 if uncertainty else 1
    outputs = {target: SummedDense(columns, floor=output == "relu", name=target)(crystal) for target in targets}
    return keras.Model(inputs, outputs, name=name)


def _dense(name: str, units: int) -> Any:
    """A dense layer with ReLU and the published initial weights: uniform as of Glorot with the gain sqrt(2), biases 0.1."""
    kernel, bias = keras.initializers.VarianceScaling(2.0, "fan_avg", "uniform"), keras.initializers.Constant(0.1)
    return keras.layers.Dense(units, "relu", kernel_initializer=kernel, bias_initializer=bias, name=name)


@keras.saving.register_keras_serializable("tfmat")
class ListGraph(keras.layers.Layer):
    """Which crystal each list of atoms belongs to, and in which order the sites of a crystal have them.

    Call arguments:
        site_multiplicity: int (S,), sites that each list belongs to.
        batch_sites: int (B,), lists of each crystal.
        lists: int (B, A), number of each site's list within its crystal, counted from 1; 0 = padding. Or None.

    Returns:
        dict of ``crystals`` int (S,) and ``sites`` (S, 1), as of `tfmat.layers.neighbors.CrystalGraph`; with `lists` also ``rows`` int
        (B, A), which of the S lists is each site's, any one in padding, and ``real_sites`` (B, A), 1 or 0.
    """

    def __init__(self, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))

    def call(self, site_multiplicity: Any, batch_sites: Any, lists: Any = None) -> dict[str, Any]:
        graph = {
            "crystals": crystals_of(batch_sites, site_multiplicity),
            "sites": ops.expand_dims(ops.cast(site_multiplicity, self.compute_dtype), -1),
        }
        if lists is None:
            return graph
        first = ops.expand_dims(ops.cumsum(batch_sites) - batch_sites, -1)
        return graph | {"rows": ops.where(lists > 0, lists - 1 + first, 0), "real_sites": ops.cast(lists > 0, self.compute_dtype)}

    def compute_output_spec(self, site_multiplicity: Any, batch_sites: Any, lists: Any = None) -> dict[str, Any]:
        shape = site_multiplicity.shape
        graph = {"crystals": keras.KerasTensor(shape, "int32"), "sites": keras.KerasTensor((*shape, 1), self.compute_dtype)}
        if lists is None:
            return graph
        return graph | {
            "rows": keras.KerasTensor(lists.shape, "int32"),
            "real_sites": keras.KerasTensor(lists.shape, self.compute_dtype),
        }


@keras.saving.register_keras_serializable("tfmat")
class ListEmbedding(keras.layers.Layer):
    """Entries of lists: the vector of the element, divided by its distance from the site; that of the site itself times a weight.

    Args:
        heaviest: largest atomic number.
        dim: D.
        centre_weight: weight of the site itself, in 1/Å like the others.

    Call arguments:
        species: int (S,), element of each list's site.
        elements: int (S, N), of its neighbours; 0 = none.
        distances: float (S, N) [Å], of its neighbours; 0 = none.

    Returns:
        (S, N + 1, D), the site itself first.
    """

    def __init__(self, heaviest: int, dim: int, centre_weight: float = 1.0, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.heaviest, self.dim, self.centre_weight = heaviest, dim, centre_weight

    def build(self, *shapes: Any) -> None:
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.heaviest, self.dim), initializer=keras.initializers.GlorotUniform()
        )

    def call(self, species: Any, elements: Any, distances: Any) -> Any:
        species, distances = ops.expand_dims(species, -1), ops.cast(distances, self.compute_dtype)
        present = distances > 0
        inverse = ops.where(present, 1.0 / ops.where(present, distances, 1.0), 0.0)
        weights = ops.concatenate([self.centre_weight * ops.cast(species > 0, self.compute_dtype), inverse], axis=-1)
        rows = ops.maximum(ops.concatenate([species, elements], axis=-1) - 1, 0)
        return ops.take(ops.cast(self.embeddings, self.compute_dtype), rows, axis=0) * ops.expand_dims(weights, -1)

    def compute_output_shape(self, species_shape: Any, elements_shape: Any = None, distances_shape: Any = None) -> Any:
        return (*elements_shape[:-1], elements_shape[-1] + 1, self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"heaviest": self.heaviest, "dim": self.dim, "centre_weight": self.centre_weight}


@keras.saving.register_keras_serializable("tfmat")
class SitesNorm(keras.layers.Layer):
    """``gamma (x - mean) / sqrt(variance + epsilon) + beta``, mean and variance over all features of all sites of a crystal, in float32.

    Args:
        epsilon: added to the variance.

    Call arguments:
        x: (S, D).
        multiplicity: (S, 1), sites that each row stands for; 0 for an empty one.
        crystals: int (S,), which crystal each belongs to, ascending; the last one is B - 1.
        batch_sites: any array with B rows.

    Returns:
        (S, D).
    """

    def __init__(self, epsilon: float = 1e-5, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.epsilon = epsilon

    def build(self, x_shape: tuple[int | None, ...], *other_shapes: Any) -> None:
        self.gamma = self.add_weight(name="gamma", shape=x_shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=x_shape[-1:], initializer="zeros")

    def call(self, x: Any, multiplicity: Any, crystals: Any, batch_sites: Any) -> Any:
        x, multiplicity = exact(x), exact(multiplicity)

        def mean(values: Any) -> Any:
            return at_receivers(mean_of(ops.mean(values, axis=-1, keepdims=True), multiplicity, crystals, batch_sites), crystals)

        centered = x - mean(x)
        normalised = centered * ops.rsqrt(mean(ops.square(centered)) + self.epsilon)
        return ops.cast(normalised * ops.cast(self.gamma, x.dtype) + ops.cast(self.beta, x.dtype), self.compute_dtype)

    def compute_output_shape(self, x_shape: tuple[int | None, ...], *other_shapes: Any) -> tuple[int | None, ...]:
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"epsilon": self.epsilon}


NOWHERE = -1e9
"""A floor that nothing reaches."""


@keras.saving.register_keras_serializable("tfmat")
class SummedDense(keras.layers.Layer):
    """An affine map to `terms` numbers per column, which are added: ``y = sum_k (x W + b)_k``; with a floor, ``max(y, floor)``.

    The floor is the published ReLU in scaled units, where the physical zero is not 0. It acts on the first column, the value. It is a
    weight that is not trained; `fit_target` puts it where it belongs. Gradients pass it as if it were not there: what lies below can only
    be drawn upwards, because no training value lies there, and a network that gives nothing but the floor would else never learn again.

    Args:
        columns: number of columns of the output.
        terms: how many numbers are added for each column.
        floor: whether there is one.

    Call arguments:
        x: (B, features).

    Returns:
        (B, columns).
    """

    def __init__(self, columns: int = 1, terms: int = 16, floor: bool = False, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))
        self.columns, self.terms, self.with_floor = columns, terms, floor

    def build(self, shape: tuple[int | None, ...]) -> None:
        features, width = int(shape[-1] or 0), self.columns * self.terms
        limit = features**-0.5

        def add(name: str, shape: tuple[int, ...]) -> Any:
            return self.add_weight(name=name, shape=shape, initializer=keras.initializers.RandomUniform(-limit, limit))

        self.kernel, self.bias = add("kernel", (features, width)), add("bias", (width,))
        self.floor = None
        if self.with_floor:
            self.floor = self.add_weight(name="floor", shape=(), initializer=keras.initializers.Constant(NOWHERE), trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        terms = ops.matmul(x, self.kernel) + self.bias
        y = ops.sum(ops.reshape(terms, (-1, self.columns, self.terms)), axis=-1)
        if self.floor is None:
            return y
        value, floored = y[:, :1], ops.maximum(y[:, :1], self.floor)
        value = value + ops.stop_gradient(floored - value) if training else floored
        return value if self.columns == 1 else ops.concatenate([value, y[:, 1:]], axis=-1)

    def fit_target(self, target: Target, values: np.ndarray) -> None:
        """Put the floor, if there is one, at the physical zero of `target`, whose training `values` [unit] must not be negative.

        A binary target and one behind ``log10`` get none: they know no negative values anyway.
        """
        if self.floor is None:
            return
        if target.task == "binary" or target.transform == "log10":
            self.floor.assign(NOWHERE)
        elif negative := int(np.sum(values < 0)):
            problem = f"a model with output='relu' gives no negative values, but {negative} of the training values of"
            raise InputError(f"{problem} {target.name!r} are negative", expected="output='linear'")
        else:
            self.floor.assign(float(target.scale(np.zeros(1))[0]))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], self.columns)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"columns": self.columns, "terms": self.terms, "floor": self.with_floor}


RECIPES = {
    "default": Recipe(loss="mae", learning_rate=3e-3, weight_decay=1e-2, clip_norm=1.0, ema=0.995, batch_size=32, epochs=30),
    "paper": Recipe(
        loss="mse", optimizer="adam", learning_rate=1e-3, schedule="step", step_epochs=20, step_factor=0.1, batch_size=25, epochs=80
    ),
}
"""``paper``: as in the training script, but for the labels, which were multiplied by 3 and are standardised here, and for the batches,
which were in the order of the file and are shuffled here."""

SEQUENCE = (
    "The prediction depends on the cell: the second LSTM reads the sites one after the other, so a supercell of the same crystal gets "
    "another value. pooling=mean does not depend on it."
)

ARCHITECTURE = register(
    Architecture(
        name="atom_list_lstm",
        title="atom-list LSTM: LSTMs over the neighbours of each site and over the sites",
        material="crystal",
        builder=AtomListLSTM,
        featurizer=AtomListFeaturizer,
        recipes=RECIPES,
        variants={"lstm": {}, "mean": {"pooling": "mean"}},
        default="mean",
        cell_dependence=lambda keywords: SEQUENCE if keywords["pooling"] == "lstm" else None,
        parts={
            "embedding": ("embedding",),
            "sites": ("site_*",),
            "crystal": ("crystal_*",),
            "backbone": ("embedding", "site_*", "crystal_*"),
            "head": ("head_*",),
        },
        citation="README of the public repository LC_NET",
        small={"embedding_dim": 8, "site_units": 8, "crystal_units": 32, "layers": 2},
    )
)
