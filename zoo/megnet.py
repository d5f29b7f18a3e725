"""MEGNet: a property from a crystal, by messages between atoms, bonds and a global state.

C. Chen, W. Ye, Y. Zuo, C. Zheng, S. P. Ong, Chem. Mater. 2019, 31, 3564, doi 10.1021/acs.chemmater.9b01294; several fidelities: C. Chen,
Y. Zuo, W. Ye, X. Li, S. P. Ong, Nat. Comput. Sci. 2021, 1, 46, doi 10.1038/s43588-020-00002-x.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from tfmat.architecture import Architecture, register, with_keywords_of
from tfmat.featurizers.bonds import HEAVIEST, BondFeaturizer
from tfmat.layers.activations import softplus2
from tfmat.layers.gaussians import GaussianExpansion
from tfmat.layers.joint_dense import JointDense
from tfmat.layers.lists import Edges, at_receivers, at_senders, list_inputs, sum_of
from tfmat.layers.neighbors import CrystalGraph
from tfmat.layers.outputs import dense_outputs
from tfmat.layers.precision import exact, weights_dtype
from tfmat.layers.set2set import Set2Set
from tfmat.training.recipe import Recipe
from tfmat.zoo.model import zoo_model
from tfmat.zoo.presets import PRESETS
from tfmat.zoo.pretrained import pretrained

Flavor = Literal["megnet", "matgl"]


def megnet_features(
    *,
    flavor: Flavor = "megnet",
    cutoff: float = 4.0,
    blocks: int = 3,
    embedding_dim: int = 16,
    hidden_dim: int = 64,
    dim: int = 32,
    gaussians: int = 100,
    gaussian_width: float | None = None,
    set2set_steps: int = 3,
    legacy_set2set: bool = False,
    state_dim: int = 0,
    fidelities: int = 0,
    readout_dims: tuple[int, int] = (32, 16),
    dropout: float = 0.0,
    l2: float = 0.0,
) -> tuple[dict[str, Any], Any]:
    """MEGNet up to the last hidden layer, before its activation: the backbone of `MEGNet` and of `tfmat.zoo.paraisite.ParAIsite`.

    Args:
        flavor: ``"megnet"`` or ``"matgl"``, see `MEGNet`.
        cutoff: bond radius [Å]; the Gaussians reach to ``cutoff + 1``.
        blocks: number of blocks.
        embedding_dim: width of the element (and fidelity) embedding.
        hidden_dim: width of the hidden layers before and in the blocks.
        dim: width D of atoms, bonds and state.
        gaussians: number of Gaussians.
        gaussian_width: [Å]; None: 0.5, or sqrt(2) for matgl.
        set2set_steps: number of questions that each Set2Set asks.
        legacy_set2set: as the published weights of the flavor ``megnet`` need it.
        state_dim: number of state features; 0 (and no `fidelities`): the state is [0, 0], as in the published models.
        fidelities: number of fidelities of a multi-fidelity model, whose state is one integer.
        readout_dims: widths of the two layers behind the Set2Sets.
        dropout: rate, in the blocks and before the read-out.
        l2: weight of the L2 penalty of all kernels of the backbone.

    Returns:
        The inputs by name, and the features (B, readout_dims[1]).
    """
    if flavor not in ("megnet", "matgl"):
        raise ValueError(f"`flavor` must be 'megnet' or 'matgl'. Received: flavor={flavor!r}")
    if blocks < 1:
        raise ValueError(f"`blocks` must be at least 1. Received: blocks={blocks}")
    if state_dim and fidelities:
        raise ValueError(f"`state_dim` and `fidelities` exclude each other. Received: {state_dim}, {fidelities}")
    matgl = flavor == "matgl"

    def dense(width: int, label: str, activation: Any = softplus2) -> keras.layers.Dense:
        return keras.layers.Dense(width, activation, kernel_regularizer=keras.regularizers.L2(l2) if l2 else None, name=label)

    inputs = list_inputs(BondFeaturizer(cutoff, state_dim, fidelities).spec)
    linked = {key: value for key, value in inputs.items() if key not in ("distances", "state")}
    graph = BondGraph(name="graph", dtype=weights_dtype())(linked)

    # v0, e0, u0, each through two dense layers
    atoms = keras.layers.Embedding(HEAVIEST + 1, embedding_dim, name="atom_embedding")(inputs["species"])
    width = gaussian_width or (2**0.5 if matgl else 0.5)
    bonds = GaussianExpansion(cutoff + 1.0, gaussians, width, name="bond_expansion", dtype=weights_dtype())(inputs["distances"])
    state = _state(inputs, state_dim, fidelities, embedding_dim)
    atoms = dense(dim, "atom_encoder_2")(dense(hidden_dim, "atom_encoder_1")(atoms))
    bonds = dense(dim, "bond_encoder_2")(dense(hidden_dim, "bond_encoder_1")(bonds))
    state = dense(dim, "state_encoder_2")(dense(hidden_dim, "state_encoder_1")(state))

    receive: Literal["centers", "neighbors"] = "neighbors" if matgl else "centers"
    for block in range(1, blocks + 1):
        atoms, bonds, state = MEGNetBlock(
            dim, hidden_dim, feed_forward=block > 1, activate_last=matgl, receive=receive, dropout=dropout, l2=l2, name=f"block{block}"
        )(atoms, bonds, state, graph)

    def summary(label: str) -> Set2Set:
        width = dim if matgl else dim // 2
        return Set2Set(width, set2set_steps, project=not matgl, legacy=legacy_set2set, l2=l2, name=label, dtype=weights_dtype())

    of_atoms = summary("atom_set2set")(atoms, graph["sites"], graph["crystals"], state)
    of_bonds = summary("bond_set2set")(bonds, graph["bond_counts"], graph["bond_crystals"], state)
    features = keras.layers.Concatenate(name="crystal")([of_atoms, of_bonds, state])
    if dropout:
        features = keras.layers.Dropout(dropout, name="crystal_dropout")(features)
    return inputs, dense(readout_dims[1], "readout_2", None)(dense(readout_dims[0], "readout_1")(features))


def _state(inputs: dict[str, Any], state_dim: int, fidelities: int, embedding_dim: int) -> Any:
    """The state u of each crystal, (B, F): an embedding of its fidelity, its features, or [0, 0] where models have neither."""
    if fidelities:
        embedded = keras.layers.Embedding(fidelities, embedding_dim, name="state_embedding")(inputs["state"])
        return keras.layers.Flatten(name="state_features")(embedded)
    return inputs["state"] if state_dim else ConstantState(2, name="state_features")(inputs["batch_sites"])


@zoo_model("megnet")
@with_keywords_of(megnet_features)
def MEGNet(
    targets: Sequence[str] = ("target",),
    *,
    uncertainty: bool = False,
    weights: str | os.PathLike[str] | None = None,
    name: str = "megnet",
    **backbone: Any,
) -> keras.Model:
    """MEGNet as in the package megnet, or as in matgl.

    Data flow (B crystals, S sites, E bonds, D = `dim`): atoms v = Emb[Z], bonds e = Gaussians of the distance, state u; each through two
    dense layers to width D; `blocks` times `MEGNetBlock`, the first without its feed-forward layers; atoms and bonds
    are summarised by `Set2Set`; [atoms; bonds; u] through two dense layers, and one linear output per target.

    Inputs: dict of the lists of a batch, whose crystals follow each other: ``species`` int32 (S,) atomic numbers and ``site_multiplicity``
    int32 (S,), how many equal sites of its crystal each one stands for; ``bond_receivers``, ascending, and ``bond_senders`` int32 (E,)
    sites, ``distances`` (E,) [Å] and ``bond_multiplicity`` int32 (E,), how many equal bonds arrive at one site; ``batch_sites`` int32
    (B,) sites of each crystal. The last site and bond are empty, with multiplicity 0. With `state_dim` also ``state`` (B, state_dim),
    with `fidelities` ``state`` int32 (B, 1).
    Outputs: dict target -> (B, 1) value, or logit for a binary target, in scaled units; (B, 2) with `uncertainty`.

    Differences from the paper and its published code:
        - Set2Set is a proper LSTM: the published code does not carry its cell state and uses a piecewise linear gate, and the published
          weights need that (``legacy_set2set=True``, set by the presets).
        - a classifier gives its logit; the sigmoid is applied by `tfmat.target.Target`.
        - equal sites and equal bonds are computed once; the numbers are the same.
        - ``flavor="matgl"`` is the variant of the package matgl and of ParAIsite: Gaussians of width sqrt(2) Å, an activation after
          the last layer of each update, the ends of a bond change places in phi_e, no map before Set2Set, which is 2 D wide. The two bias
          vectors and the two matrices that act on h in PyTorch's LSTM are one here (8,448 weights fewer), with the same values.
        - heads for several targets, and optionally a log-scale.

    Args:
        targets: names of the outputs.
        **backbone: as of `megnet_features`.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        weights: a preset such as ``"mp-2018.6.1/formation_energy"``, or a model directory, whose keywords the model then has; others that
            are given must agree with them. Targets with other names than there get a new output layer; the default is those there.
            The outputs are scaled: `tfmat.Predictor.load` gives physical ones.
        name: name of the model.

    Returns:
        A functional `keras.Model`; 167,761 parameters with the defaults.
    """
    if weights is not None:
        return pretrained(ARCHITECTURE, weights, targets, backbone | {"uncertainty": uncertainty}, name)
    inputs, features = megnet_features(**backbone)
    features = keras.layers.Activation(softplus2, name="readout_2_activation")(features)
    return keras.Model(inputs, dense_outputs(features, targets, uncertainty), name=name)


@keras.saving.register_keras_serializable("tfmat")
class BondGraph(CrystalGraph):
    """A `CrystalGraph`, and what MEGNet's blocks and readouts need beside it, computed once for all of them.

    Call arguments:
        inputs: dict of the model's inputs, as of `CrystalGraph`.

    Returns:
        dict of ``crystals``, ``sites`` and ``bonds`` as of `CrystalGraph`, and of

        - ``bond_crystals`` int (E,), which crystal each bond belongs to, and ``bond_counts`` (E, 1), how many of it this one stands for;
        - ``message_share`` (E, 1), ``site_share`` (S, 1), ``bond_share`` (S, 1): weights of the means of the bonds of a site, of the sites
          of a crystal, and of the bonds of a crystal as the mean of its sites' messages. Each adds up to 1, or to 0 where there is nothing.
    """

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        graph, batch_sites, receivers = super().call(inputs), inputs["batch_sites"], inputs["bond_receivers"]
        crystals, sites = graph["crystals"], graph["sites"]
        multiplicity = ops.expand_dims(ops.cast(inputs["bond_multiplicity"], self.compute_dtype), -1)
        degree = sum_of(multiplicity, receivers, sites)

        def share(weights: Any, owners: Any, nodes: Any) -> Any:
            total = sum_of(weights, owners, nodes)
            return weights / ops.take(ops.where(total > 0, total, 1.0), owners, axis=0)

        return graph | {
            "bond_crystals": ops.take(crystals, receivers, axis=0),
            "bond_counts": multiplicity * ops.take(sites, receivers, axis=0),
            "message_share": share(multiplicity, receivers, sites),
            "site_share": share(sites, crystals, batch_sites),
            "bond_share": share(sites * degree, crystals, batch_sites),
        }

    def compute_output_spec(self, inputs: dict[str, Any]) -> dict[str, Any]:
        graph, bonds = super().compute_output_spec(inputs), inputs["bond_receivers"].shape[0]
        columns = {
            "bond_counts": bonds,
            "message_share": bonds,
            "site_share": graph["sites"].shape[0],
            "bond_share": graph["sites"].shape[0],
        }
        graph |= {key: keras.KerasTensor((length, 1), self.compute_dtype) for key, length in columns.items()}
        return graph | {"bond_crystals": keras.KerasTensor((bonds,), "int32")}


@keras.saving.register_keras_serializable("tfmat")
class ConstantState(keras.layers.Layer):
    """The state of crystals that have none: zeros (B, dim), for any input (B, ...)."""

    def __init__(self, dim: int = 2, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.dim = dim

    def call(self, inputs: Any) -> Any:
        return ops.zeros((ops.shape(inputs)[0], self.dim), self.compute_dtype)

    def compute_output_shape(self, inputs_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (inputs_shape[0], self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim}


@keras.saving.register_keras_serializable("tfmat")
class MEGNetBlock(keras.layers.Layer):
    """One block of MEGNet: feed-forward layers, then updates of bonds e, atoms v and state u, with a residual over all of it.

    With s = `softplus2`, (v, e, u) = (ff(V), ff(E), ff(U)) and ff two activated dense layers (or none):

        e' = phi_e([v_center; v_neighbor; e; u])      phi: dense, s, dense, s, dense (and s, with `activate_last`)
        m_i = mean of e' over the bonds that arrive at site i, 0 if none
        v' = phi_v([m; v; u])
        u' = phi_u([mean of e'; mean of v'; u])
        result = (V + v', E + e', U + u')

    C. Chen et al., Chem. Mater. 2019, 31, 3564, doi 10.1021/acs.chemmater.9b01294.

    Args:
        dim: width D of atoms, bonds and state.
        hidden_dim: width of the hidden layers.
        feed_forward: whether the two dense layers before the update are there.
        activate_last: also activate the last layer of each phi (matgl's variant).
        receive: the end of a bond where it arrives: ``"centers"``, or ``"neighbors"`` as in matgl. Bonds go both ways, so this only says
            which rows of the kernel of phi_e belong to which end.
        dropout: rate of the dropout of v', e' and u'.
        l2: weight of the L2 penalty of all kernels.

    Call arguments:
        atoms: (S, D).
        bonds: (E, D).
        state: (B, D).
        graph: what `BondGraph` gives.

    Returns:
        New atoms, bonds and state, shaped like the old ones.
    """

    def __init__(
        self,
        dim: int = 32,
        hidden_dim: int = 64,
        *,
        feed_forward: bool = True,
        activate_last: bool = False,
        receive: Literal["centers", "neighbors"] = "centers",
        dropout: float = 0.0,
        l2: float = 0.0,
        **layer_options: Any,
    ) -> None:
        super().__init__(**layer_options)
        self.options: dict[str, Any] = {"dim": dim, "hidden_dim": hidden_dim, "feed_forward": feed_forward, "activate_last": activate_last}
        self.options |= {"receive": receive, "dropout": dropout, "l2": l2}

    def build(self, atoms_shape: Any, bonds_shape: Any, state_shape: Any, graph_shape: Any = None) -> None:
        dim, hidden = self.options["dim"], self.options["hidden_dim"]
        layers: dict[str, keras.layers.Layer] = {}

        def dense(name: str, rows: int, width: int, activated: bool = True) -> None:
            activation = softplus2 if activated else None
            layers[name] = keras.layers.Dense(width, activation, kernel_regularizer=self._penalty(), name=name, dtype=self.dtype_policy)
            layers[name].build((None, rows))

        for kind in ("atom", "bond", "state") if self.options["feed_forward"] else ():
            dense(f"{kind}_ff_1", dim, hidden)
            dense(f"{kind}_ff_2", hidden, dim)
        for letter, parts in (("e", 4), ("v", 3), ("u", 3)):
            name = f"phi_{letter}_1"
            layers[name] = JointDense(hidden, self._penalty(), name=name, dtype=self.dtype_policy)
            layers[name].build(*[(None, dim)] * parts)
            dense(f"phi_{letter}_2", hidden, hidden)
            dense(f"phi_{letter}_3", hidden, dim, activated=self.options["activate_last"])
        self.sublayers = layers
        self.drop = keras.layers.Dropout(self.options["dropout"]) if self.options["dropout"] else None

    def _penalty(self) -> Any:
        return keras.regularizers.L2(self.options["l2"]) if self.options["l2"] else None

    def call(self, atoms: Any, bonds: Any, state: Any, graph: dict[str, Any], training: bool = False) -> tuple[Any, Any, Any]:
        v, e, u = (self._feed_forward(kind, x) for kind, x in (("atom", atoms), ("bond", bonds), ("state", state)))
        new_bonds = self._bond_update(v, e, u, graph)
        messages = sum_of(exact(new_bonds) * exact(graph["message_share"]), graph["bonds"]["receivers"], atoms)

        first = self.sublayers["phi_v_1"]
        of_state = at_receivers(first.part(u, 2) + first.shift, graph["crystals"])
        new_atoms = first.part(ops.cast(messages, self.compute_dtype), 0) + first.part(v, 1) + of_state
        new_atoms = self._finish("v", new_atoms)

        means = [
            ops.cast(sum_of(values * exact(graph[share]), graph["crystals"], state), self.compute_dtype)
            for values, share in ((messages, "bond_share"), (exact(new_atoms), "site_share"))
        ]
        new_state = self._finish("u", self.sublayers["phi_u_1"](*means, u))

        if self.drop is not None:
            new_atoms, new_bonds, new_state = (self.drop(x, training=training) for x in (new_atoms, new_bonds, new_state))
        return atoms + new_atoms, bonds + new_bonds, state + new_state

    def _bond_update(self, v: Any, e: Any, u: Any, graph: dict[str, Any]) -> Any:
        """phi_e([v_center; v_neighbor; e; u]) as a sum of parts, each computed where it lives and then gathered."""
        first = self.sublayers["phi_e_1"]
        receiver, sender = (0, 1) if self.options["receive"] == "centers" else (1, 0)
        edges = Edges(**graph["bonds"])
        at_receiver = first.part(v, receiver) + at_receivers(first.part(u, 3) + first.shift, graph["crystals"])
        gathered = at_receivers(at_receiver, edges.receivers) + at_senders(first.part(v, sender), edges)
        return self._finish("e", first.part(e, 2) + gathered)

    def _feed_forward(self, kind: str, x: Any) -> Any:
        for name in (f"{kind}_ff_1", f"{kind}_ff_2") if self.options["feed_forward"] else ():
            x = self.sublayers[name](x)
        return x

    def _finish(self, letter: str, first: Any) -> Any:
        """Activate the first layer's sum and apply the other two."""
        return self.sublayers[f"phi_{letter}_3"](self.sublayers[f"phi_{letter}_2"](softplus2(first)))

    def compute_output_shape(self, atoms_shape: Any, bonds_shape: Any, state_shape: Any, graph_shape: Any = None) -> Any:
        return atoms_shape, bonds_shape, state_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.options


PARTS = {
    "backbone": ("atom_*", "bond_*", "state_*", "block*", "readout_*"),
    "embedding": ("atom_embedding", "state_embedding"),
    "encoders": ("*_encoder_*",),
    "blocks": ("block*",),
    "readout": ("*_set2set", "readout_*"),
}

RECIPES = {
    "default": Recipe(loss="mae", weight_decay=1e-4, clip_norm=1.0, ema=0.995, epochs=100),
    "paper": Recipe(
        loss="mse", optimizer="adam", schedule="constant", clip_norm_each=3.0, keep="best", patience=500, batch_size=128, epochs=1000
    ),
}
"""``paper``: the defaults of the package megnet."""

ARCHITECTURE = register(
    Architecture(
        name="megnet",
        title="MEGNet: messages between atoms, bonds and a global state",
        material="crystal",
        builder=MEGNet,
        featurizer=BondFeaturizer,
        recipes=RECIPES,
        variants={"megnet": {}, "matgl": {"flavor": "matgl", "set2set_steps": 2}},
        parts=PARTS,
        presets=PRESETS,
        citation="C. Chen et al., Chem. Mater. 2019, 31, 3564, doi 10.1021/acs.chemmater.9b01294",
        small={"dim": 8, "hidden_dim": 8, "gaussians": 16, "blocks": 2},
    )
)
