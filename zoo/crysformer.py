"""Crysformer: a property from a crystal, by attention on its atom graph and on the line graph of the angles.

"Crysformer: an attention-based graph neural network for properties prediction of crystals", Chin. Phys. B 2023, 32, 090703.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import keras
from keras import ops

from tfmat.architecture import Architecture
from tfmat.featurizers.neighbors import HEAVIEST, NeighborFeaturizer
from tfmat.layers.attention import CrysformerLayer, EdgeEmbedding, Gate
from tfmat.layers.composition import ElementEmbedding
from tfmat.layers.lists import list_inputs
from tfmat.layers.neighbors import CrystalGraph, MeanOverSites
from tfmat.training.recipe import Recipe

REACH = 8.0
"""The Gaussians of the distance end here [Å]."""


def Crysformer(
    targets: Sequence[str] = ("target",),
    *,
    k: int = 12,
    tolerance: float = 0.01,
    max_neighbors: int = 24,
    strict: bool = False,
    angle_neighbors: int | None = None,
    blocks: int = 4,
    dim: int = 128,
    heads: int = 4,
    ff_ratio: int = 2,
    elements: str = "mat2vec",
    distance_gaussians: int = 80,
    angle_gaussians: int = 40,
    embed_norm_act: bool = True,
    gate: Gate = "tanh",
    cross_attention: bool = True,
    conditional_attention: bool = True,
    update_last_edges: bool = False,
    head: Literal["mlp", "linear"] = "mlp",
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    remat: bool = False,
    uncertainty: bool = False,
    name: str = "crysformer",
) -> keras.Model:
    """Crysformer.

    Data flow (B crystals, D = `dim`): atoms h = a map of the features of Z; bonds e and angles t are Gaussians of the distance and of the
    cosine, each through a dense layer, normalisation and ReLU. `blocks` times: `CrysformerLayer` on the line graph updates (e, t), then
    another one on the atom graph updates (h, e). Mean of h over the sites, and one output per target. Sites, bonds and angles that the
    network cannot tell apart are computed once (`tfmat.featurizers.quotient`).

    Inputs: dict of what `NeighborFeaturizer` gives, one crystal after the other in each list, and ``batch_sites`` int32 (B,), see
    `tfmat.batching.lists`.
    Outputs: dict target -> (B, 1) value, or logit for a binary target, in scaled units; (B, 2) with `uncertainty`.

    Differences from the paper:
        - the text lost its equations and its table of hyper-parameters. The forms and numbers here are those that public implementations
          of the same two mechanisms share: scores over sqrt(D / heads), the gate tanh of a map of the edge, values not gated, the update
          of an edge by the products before they are summed; `blocks`, `dim`, `heads`, the numbers of Gaussians.
        - neighbours are complete in ties and directed, see `NeighborFeaturizer`: with strictly 12 of them, or with every pair stored in
          both directions, predictions depend on the order of the atoms and on the choice of the cell.
        - elements are known by a fixed table that is mapped to width D, so that rare ones are no strangers (matbench_phonons, fold 0:
          34 instead of 46 1/cm). ``elements="learned"`` has a free row for each of 95 elements, as published.
        - the edges of the last layer of each graph are not updated, since nothing reads them (``update_last_edges=True`` does, for 165,888
          weights without effect). One layer of the line graph, the last, then has angles as they were before it.
        - targets are scaled, several may be learnt at once, and optionally a log-scale.
        - `dropout` and `stochastic_depth` against over-fitting, which the paper names as its weakness.

    Args:
        targets: names of the outputs.
        k: neighbours of a site.
        tolerance: neighbours this much farther than the k-th one are neighbours too [Å].
        max_neighbors: most slots.
        strict: exactly k neighbours.
        angle_neighbors: angles are among so many nearest neighbours of a site; None for all.
        blocks: number of blocks.
        dim: D.
        heads: of every attention, a divisor of D.
        ff_ratio: hidden width of the feed-forward networks, in D.
        elements: the name of a fixed table that is mapped to width D, see `tfmat.elements.element_table`, or ``"learned"``.
        distance_gaussians: number, from 0 to 8 Å.
        angle_gaussians: number, from -1 to 1.
        embed_norm_act: normalisation and ReLU after the dense layer of bonds and angles; Algorithm 1 of the paper shows that layer alone.
        gate: of the conditional attention.
        cross_attention: False leaves it out (an ablation of the paper).
        conditional_attention: False leaves it out, and with it all messages between atoms.
        update_last_edges: see above.
        head: ``"mlp"`` has one hidden layer of width D, ``"linear"`` none.
        dropout: rate, on every update.
        stochastic_depth: probability that a crystal skips an update in training, for the last block; it rises linearly up to there.
        remat: compute what is inside a layer again for the gradient instead of keeping it: less memory.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        name: of the model.

    Returns:
        A functional `keras.Model`; 2,414,337 parameters with ``elements="learned", head="linear", update_last_edges=True``.
    """
    if blocks < 1:
        raise ValueError(f"`blocks` must be at least 1. Received: blocks={blocks}")
    if head not in ("mlp", "linear"):
        raise ValueError(f"`head` must be 'mlp' or 'linear'. Received: head={head!r}")
    inputs = list_inputs(NeighborFeaturizer().spec)
    graph = CrystalGraph(name="graph")(inputs)

    # Algorithm 1: h0, e0 and t0
    if elements == "learned":
        atoms = keras.layers.Embedding(HEAVIEST, dim, name="atom_embedding")(ops.maximum(inputs["species"] - 1, 0))
    else:
        atoms = ElementEmbedding(dim, elements, name="atom_embedding")(inputs["species"])
    edges = {"norm_act": embed_norm_act, "remat": remat}
    bonds = EdgeEmbedding(dim, 0.0, REACH, distance_gaussians, **edges, name="bond_embedding")(inputs["distances"])
    angles = EdgeEmbedding(dim, -1.0, 1.0, angle_gaussians, **edges, name="angle_embedding")(inputs["cosines"])

    def layer(label: str, block: int, update_edges: bool) -> CrysformerLayer:
        depth = stochastic_depth * block / blocks
        return CrysformerLayer(
            heads, ff_ratio, gate=gate, cross=cross_attention, conditional=conditional_attention, update_edges=update_edges,
            dropout=dropout, stochastic_depth=depth, remat=remat, name=f"block{block}_{label}",
        )  # fmt: skip

    for block in range(1, blocks + 1):
        update_edges = block < blocks or update_last_edges
        bonds, angles = layer("line_graph", block, update_edges)(bonds, angles, graph["pairs"], graph["bond_crystals"])
        atoms, bonds = layer("atom_graph", block, update_edges)(atoms, bonds, graph["bonds"], graph["crystals"])

    crystal = MeanOverSites(name="crystal")(atoms, graph["sites"], graph["crystals"], inputs["batch_sites"])
    if head == "mlp":
        crystal = keras.layers.Dense(dim, "relu", dtype="float32", name="head")(crystal)
    columns = 2 if uncertainty else 1
    outputs = {target: keras.layers.Dense(columns, dtype="float32", name=target)(crystal) for target in targets}
    return keras.Model(inputs, outputs, name=name)


RECIPES = {
    "default": Recipe(loss="mae", weight_decay=1e-2, clip_norm=1.0, ema=0.995, batch_range=(32, 64), epochs=100),
    "paper": Recipe(loss="mse", learning_rate=4e-4, warmup=5 / 300, final_rate=1e-6, weight_decay=1e-4, batch_size=64, epochs=300),
}
"""``paper``: AdamW, batches of 64, 300 epochs and the weight decay as in the text; rate and schedule as in the public implementations."""

ARCHITECTURE = Architecture(
    name="crysformer",
    title="Crysformer: attention on the atom graph and its line graph",
    material="crystal",
    builder=Crysformer,
    featurizer=NeighborFeaturizer,
    recipes=RECIPES,
    variants={"crysformer": {}, "small": {"dim": 64, "blocks": 2}},
    retired=("site_noise",),
    parts={
        "embedding": ("*_embedding",),
        "blocks": ("block*",),
        "backbone": ("*_embedding", "block*"),
        "head": ("head",),
    },
)
