"""The atom-list LSTM: a property from a crystal, read as one sequence of neighbours a site and one sequence of sites.

"A simple machine-learning model for predicting compound properties", README of the public repository LC_NET; its training script and its
checkpoint tell what the README leaves out. There is no paper. Predicted there: band gaps of AFLOW.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from tfmat.architecture import Architecture
from tfmat.featurizers.atom_list import AtomListFeaturizer, Order
from tfmat.layers.atom_list import ListEmbedding, ListGraph
from tfmat.layers.lists import list_inputs
from tfmat.layers.neighbors import MeanOverSites
from tfmat.layers.normalization import LayerNorm, SitesNorm
from tfmat.layers.precision import weights_dtype
from tfmat.layers.stacked_lstm import StackedLSTM
from tfmat.layers.summed_dense import SummedDense
from tfmat.training.recipe import Recipe
from tfmat.zoo.model import zoo_model

EPSILON = 1e-5
"""Of the normalisations."""


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
    `StackedLSTM` 1 reads each list; u = mean over its layers of the final hidden states + the same of the cell states, one vector a list,
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
        - one bias a gate where PyTorch has two (3,072 of the published 655,956 parameters; the batch normalisations had 100).
        - lists are ordered by their contents (``order="published"`` by fractional coordinates), with neighbours as far as it takes; the
          published cut-off and weight of the site itself are not known.
        - the sum of 16 may be negative (``output="linear"``). ``"relu"`` bounds it as published, at the physical zero of the target, and no
          training value may be negative then; but in training gradients pass this bound, so that no network dies below it.
        - elements up to Am instead of At.
        - ``pooling="mean"``: in place of the second LSTM a dense layer with ReLU and the mean over the sites, which no order and no number
          of sites can change. With ``"lstm"`` a supercell is a longer sequence than its primitive cell, and predictions differ.
        - targets are scaled, several may be learnt at once, and optionally a log-scale.

    Args:
        targets: names of the outputs.
        n_list: entries of a list, the site itself included.
        cutoff: farthest neighbour [Å]; None: as far as it takes.
        order: of the sites, see `AtomListFeaturizer`.
        heaviest: largest atomic number.
        centre_weight: of the site itself in its list [1/Å].
        embedding_dim: width of the embedding of the elements.
        site_units: width of the LSTM over lists.
        crystal_units: width of the LSTM over sites, and of what follows; a multiple of 4.
        layers: of each LSTM.
        normalisation: with the three norms.
        pooling: of the sites.
        output: ``"relu"`` for targets that cannot be negative.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        name: of the model.

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


RECIPES = {
    "default": Recipe(loss="mae", learning_rate=3e-3, weight_decay=1e-2, clip_norm=1.0, ema=0.995, batch_size=32, epochs=30),
    "paper": Recipe(
        loss="mse", optimizer="adam", learning_rate=1e-3, schedule="step", step_epochs=20, step_factor=0.1, batch_size=25, epochs=80
    ),
}
"""``paper``: as in the training script, but for the labels, which were multiplied by 3 and are standardised here, and for the batches,
which were in the order of the file and are shuffled here."""

ARCHITECTURE = Architecture(
    name="atom_list_lstm",
    title="atom-list LSTM: LSTMs over the neighbours of each site and over the sites",
    material="crystal",
    builder=AtomListLSTM,
    featurizer=AtomListFeaturizer,
    recipes=RECIPES,
    variants={"lstm": {}, "mean": {"pooling": "mean"}},
    counts_sites=("lstm",),
    parts={
        "embedding": ("embedding",),
        "sites": ("site_*",),
        "crystal": ("crystal_*",),
        "backbone": ("embedding", "site_*", "crystal_*"),
        "head": ("head_*",),
    },
)
