"""Crysformer: a property from a crystal, by attention on its atom graph and on the line graph of the angles.

"Crysformer: an attention-based graph neural network for properties prediction of crystals", Chin. Phys. B 2023, 32, 090703.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from tfmat.architecture import Architecture, register
from tfmat.featurizers.neighbors import HEAVIEST, NeighborFeaturizer
from tfmat.layers.attention import GATES, ConditionalAttention, CrossAttention, FeedForward, Gate
from tfmat.layers.elements import ElementEmbedding
from tfmat.layers.gaussians import GaussianExpansion
from tfmat.layers.lists import Edges, list_inputs
from tfmat.layers.neighbors import CrystalGraph, MeanOverSites
from tfmat.layers.normalization import LayerNorm
from tfmat.layers.outputs import dense_outputs
from tfmat.layers.rematerialization import computed_again
from tfmat.training.recipe import Recipe
from tfmat.zoo.model import zoo_model

REACH = 8.0
"""The Gaussians of the distance end here [Å]."""


@zoo_model("crysformer")
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
    `tfmat.batching.arrays`.
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
        heads: number of heads of every attention, a divisor of D.
        ff_ratio: hidden width of the feed-forward networks, in D.
        elements: the name of a fixed table that is mapped to width D, see `tfmat.elements.element_table`, or ``"learned"``.
        distance_gaussians: number, from 0 to 8 Å.
        angle_gaussians: number, from -1 to 1.
        embed_norm_act: normalisation and ReLU after the dense layer of bonds and angles; Algorithm 1 of the paper shows that layer alone.
        gate: gate of the conditional attention.
        cross_attention: False leaves it out (an ablation of the paper).
        conditional_attention: False leaves it out, and with it all messages between atoms.
        update_last_edges: whether the last edges of each graph are updated, see above.
        head: ``"mlp"`` has one hidden layer of width D, ``"linear"`` none.
        dropout: rate, on every update.
        stochastic_depth: probability that a crystal skips an update in training, for the last block; it rises linearly up to there.
        remat: compute what is inside a layer again for the gradient instead of keeping it: less memory.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        name: name of the model.

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
    return keras.Model(inputs, dense_outputs(crystal, targets, uncertainty), name=name)


@keras.saving.register_keras_serializable("tfmat")
class EdgeEmbedding(keras.layers.Layer):
    """One number per edge, as Gaussians, then a dense layer, normalisation and ReLU.

    Args:
        dim: D.
        lowest: first Gaussian, in the unit of the numbers.
        highest: last one.
        number: number of Gaussians, whose exponent is (their distance)**-1 * (x - c)**2.
        norm_act: whether normalisation and ReLU follow.
        remat: in training, keep only the layer's inputs for the gradient, which computes the rest again.

    Call arguments:
        numbers: (M,), one per edge.

    Returns:
        (M, D).
    """

    def __init__(
        self, dim: int, lowest: float, highest: float, number: int, *, norm_act: bool = True, remat: bool = False, **layer_options: Any
    ) -> None:
        super().__init__(**({"autocast": False} | layer_options))  # mixed precision must not round the numbers themselves
        self.options: dict[str, Any] = {"dim": dim, "lowest": lowest, "highest": highest, "number": number}
        self.options |= {"norm_act": norm_act, "remat": remat}
        width = ((highest - lowest) / (number - 1)) ** 0.5
        self.expansion = GaussianExpansion(highest, number, width, lowest, dtype="float32", name="expansion")

    def build(self, numbers_shape: Any) -> None:
        self.map = keras.layers.Dense(self.options["dim"], name="map", dtype=self.dtype_policy)
        self.map.build((None, self.options["number"]))
        self.norm = None
        if self.options["norm_act"]:
            self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)
            self.norm.build((None, self.options["dim"]))

    def call(self, numbers: Any, training: bool = False) -> Any:
        if self.options["remat"] and training:
            return computed_again(self, self._embedded, numbers)
        return self._embedded(numbers)

    def _embedded(self, numbers: Any) -> Any:
        x = self.map(self.expansion(numbers))
        return x if self.norm is None else ops.relu(self.norm(x))

    def compute_output_shape(self, numbers_shape: Any) -> Any:
        return (*numbers_shape, self.options["dim"])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.options


@keras.saving.register_keras_serializable("tfmat")
class CrysformerLayer(keras.layers.Layer):
    """One layer: cross-attention, conditional attention and feed-forward networks F, with nodes h and edges e.

        h = LN1(h + CrossAttention(h, e))
        h, e = LN2(h + update), LN3(e + update)    of ConditionalAttention(h, e)
        h, e = LN4(h + F(h)), LN5(e + F(e))

    The paper's text with the forms that its equations lack; see `Crysformer`.

    Args:
        heads: a divisor of D.
        ff_ratio: hidden width of the feed-forward networks, in D.
        gate: gate of `ConditionalAttention`.
        cross: whether there is the cross-attention.
        conditional: whether there is the conditional attention.
        update_edges: the edges are updated; otherwise they come back as they are and LN3, LN5 and their network do not exist.
        dropout: rate, on every update of nodes and edges.
        stochastic_depth: probability that a crystal skips an update in training; the others are scaled up by 1 / (1 - it).
        remat: see `EdgeEmbedding`.

    Call arguments:
        nodes: (N, D).
        features: (M, D), of the edges.
        edges: the edges of the graph, from `tfmat.layers.lists.edge_list`.
        crystals: int (N,), which crystal each node belongs to, ascending.

    Returns:
        New nodes (N, D) and edges (M, D).
    """

    def __init__(
        self,
        heads: int = 4,
        ff_ratio: int = 2,
        *,
        gate: Gate = "tanh",
        cross: bool = True,
        conditional: bool = True,
        update_edges: bool = True,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        remat: bool = False,
        **layer_options: Any,
    ) -> None:
        super().__init__(**layer_options)
        if gate not in GATES:
            raise ValueError(f"`gate` must be one of {tuple(GATES)}. Received: gate={gate!r}")
        if remat and dropout:
            raise ValueError("`remat` computes the updates twice and cannot drop the same numbers again: `dropout` must be 0")
        self.options: dict[str, Any] = {"heads": heads, "ff_ratio": ff_ratio, "gate": gate, "cross": cross, "conditional": conditional}
        self.options |= {"update_edges": update_edges, "dropout": dropout, "stochastic_depth": stochastic_depth, "remat": remat}
        self.random = keras.random.SeedGenerator() if stochastic_depth else None

    def build(self, nodes_shape: Any, features_shape: Any = None, edges_shape: Any = None, crystals_shape: Any = None) -> None:
        options, dim = self.options, int(nodes_shape[-1])
        if dim % options["heads"]:
            raise ValueError(f"the width must be a multiple of `heads`. Received: {dim} and heads={options['heads']}")
        precision = self.dtype_policy
        rows = (None, dim)
        self.norms = {}
        if options["cross"]:
            self.cross = CrossAttention(options["heads"], name="cross", dtype=precision)
            self.cross.build(rows)
        if options["conditional"]:
            updated = options["update_edges"]
            self.conditional = ConditionalAttention(options["heads"], options["gate"], updated, name="conditional", dtype=precision)
            self.conditional.build(rows)
        used = {1: options["cross"], 2: options["conditional"], 3: options["conditional"] and options["update_edges"]}
        for number in (n for n, use in (used | {4: True, 5: options["update_edges"]}).items() if use):
            self.norms[f"norm_{number}"] = LayerNorm(name=f"norm_{number}", dtype=precision)
            self.norms[f"norm_{number}"].build(rows)
        self.feed_forward = FeedForward(options["ff_ratio"] * dim, name="feed_forward", dtype=precision)
        self.feed_forward.build(rows)
        if options["update_edges"]:
            self.edge_feed_forward = FeedForward(options["ff_ratio"] * dim, name="edge_feed_forward", dtype=precision)
            self.edge_feed_forward.build(rows)
        self.drop = keras.layers.Dropout(options["dropout"], dtype=precision) if options["dropout"] else None

    def call(self, nodes: Any, features: Any, edges: dict[str, Any], crystals: Any, training: bool = False) -> tuple[Any, Any]:
        graph, survival = Edges(**edges), self._survival(crystals, training)
        if not (self.options["remat"] and training):
            return self._update(nodes, features, graph, survival, training)
        return computed_again(self, lambda h, e: self._update(h, e, graph, survival, training=True), nodes, features)

    def _survival(self, crystals: Any, training: bool) -> Any:
        """Factors of the five updates of each node, (N, 5), the same in all of a crystal: 0 where it skips one. None: none is skipped."""
        rate = self.options["stochastic_depth"]
        if not training or not rate:
            return None
        kept = keras.random.uniform((ops.shape(crystals)[0], 5), seed=self.random) >= rate  # more rows than there are crystals
        return ops.take(ops.cast(kept, self.compute_dtype) / (1.0 - rate), crystals, axis=0)

    def _update(self, nodes: Any, features: Any, edges: Edges, survival: Any, training: bool) -> tuple[Any, Any]:
        h, e = nodes, features

        def add(number: int, x: Any, update: Any) -> Any:
            """LN(x + update), of nodes (N, D) or, as 3 and 5, of edges (M, D)."""
            if self.drop is not None:
                update = self.drop(update, training=training)
            if survival is not None:
                factors = survival[:, number - 1 : number]
                update = update * (ops.take(factors, edges.receivers, axis=0) if number in (3, 5) else factors)
            return self.norms[f"norm_{number}"](x + update)

        if self.options["cross"]:
            h = add(1, h, self.cross(h, e, edges))
        if self.options["conditional"]:
            of_nodes, of_edges = self.conditional(h, e, edges)
            h = add(2, h, of_nodes)
            e = e if of_edges is None else add(3, e, of_edges)
        h = add(4, h, self.feed_forward(h))
        if self.options["update_edges"]:
            e = add(5, e, self.edge_feed_forward(e))
        return h, e

    def compute_output_spec(self, nodes: Any, features: Any, edges: Any, crystals: Any, training: bool = False) -> Any:
        return keras.KerasTensor(nodes.shape, self.compute_dtype), keras.KerasTensor(features.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.options


RECIPES = {
    "default": Recipe(loss="mae", weight_decay=1e-2, clip_norm=1.0, ema=0.995, batch_range=(32, 64), epochs=100),
    "paper": Recipe(loss="mse", learning_rate=4e-4, warmup=5 / 300, final_rate=1e-6, weight_decay=1e-4, batch_size=64, epochs=300),
}
"""``paper``: AdamW, batches of 64, 300 epochs and the weight decay as in the text; rate and schedule as in the public implementations."""

CUT_TIES = (
    "The prediction depends a little on the cell: with strict=True the k nearest neighbours are cut out of equally distant ones, and "
    "another description of the same crystal may keep others. With strict=False it does not."
)

ARCHITECTURE = register(
    Architecture(
        name="crysformer",
        title="Crysformer: attention on the atom graph and its line graph",
        material="crystal",
        builder=Crysformer,
        featurizer=NeighborFeaturizer,
        recipes=RECIPES,
        variants={"crysformer": {}, "small": {"dim": 64, "blocks": 2}},
        default="small",
        cell_dependence=lambda keywords: CUT_TIES if keywords["strict"] else None,
        retired=("site_noise",),
        parts={
            "embedding": ("*_embedding",),
            "blocks": ("block*",),
            "backbone": ("*_embedding", "block*"),
            "head": ("head",),
        },
        citation="Chin. Phys. B 2023, 32, 090703",
        small={"dim": 16, "blocks": 1},
    )
)
