"""MEGNet: a property from a crystal, by messages between atoms, bonds and a global state.

C. Chen, W. Ye, Y. Zuo, C. Zheng, S. P. Ong, Chem. Mater. 2019, 31, 3564, doi 10.1021/acs.chemmater.9b01294; several fidelities: C. Chen,
Y. Zuo, W. Ye, X. Li, S. P. Ong, Nat. Comput. Sci. 2021, 1, 46, doi 10.1038/s43588-020-00002-x.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import keras

from tfmat.architecture import Architecture
from tfmat.featurizers.bonds import HEAVIEST, BondFeaturizer
from tfmat.layers.activations import softplus2
from tfmat.layers.bonds import BondGraph, GaussianExpansion, MEGNetBlock
from tfmat.layers.constants import ConstantState
from tfmat.layers.lists import list_inputs
from tfmat.layers.precision import weights_dtype
from tfmat.layers.set2set import Set2Set
from tfmat.training.recipe import Recipe
from tfmat.zoo.model import zoo_model
from tfmat.zoo.presets import PRESETS
from tfmat.zoo.pretrained import pretrained

Flavor = Literal["megnet", "matgl"]


@zoo_model("megnet")
def MEGNet(
    targets: Sequence[str] = ("target",),
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
    uncertainty: bool = False,
    weights: str | os.PathLike[str] | None = None,
    name: str = "megnet",
) -> keras.Model:
    """MEGNet as in the package megnet, or as in matgl.

    Data flow (B crystals, S sites, E bonds, D = `dim`): atoms v = Emb[Z], bonds e = Gaussians of the distance, state u; each through two
    dense layers to width D; `blocks` times `tfmat.layers.bonds.MEGNetBlock`, the first without its feed-forward layers; atoms and bonds
    are summarised by `Set2Set`; [atoms; bonds; u] through two dense layers, and one linear output a target.

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
        flavor: ``"megnet"`` or ``"matgl"``.
        cutoff: bond radius [Å]; the Gaussians reach to ``cutoff + 1``.
        blocks: number of blocks.
        embedding_dim: width of the element (and fidelity) embedding.
        hidden_dim: width of the hidden layers before and in the blocks.
        dim: D.
        gaussians: number of Gaussians.
        gaussian_width: [Å]; None: 0.5, or sqrt(2) for matgl.
        set2set_steps: of each Set2Set.
        legacy_set2set: as the published weights need it.
        state_dim: number of state features; 0 (and no `fidelities`): the state is [0, 0], as in the published models.
        fidelities: number of fidelities of a multi-fidelity model, whose state is one integer.
        readout_dims: widths of the two layers before the output.
        dropout: rate, in the blocks and before the read-out.
        l2: weight of the L2 penalty of all kernels but the output's.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        weights: a preset such as ``"mp-2018.6.1/formation_energy"``, or a model directory, whose keywords the model then has; others that
            are given must agree with them. Targets with other names than there get a new output layer; the default is those there.
            The outputs are scaled: `tfmat.Predictor.load` gives physical ones.
        name: of the model.

    Returns:
        A functional `keras.Model`; 167,761 parameters with the defaults.
    """
    if weights is not None:
        given = {
            "flavor": flavor, "cutoff": cutoff, "blocks": blocks, "embedding_dim": embedding_dim, "hidden_dim": hidden_dim, "dim": dim,
            "gaussians": gaussians, "gaussian_width": gaussian_width, "set2set_steps": set2set_steps, "legacy_set2set": legacy_set2set,
            "state_dim": state_dim, "fidelities": fidelities, "readout_dims": tuple(readout_dims), "uncertainty": uncertainty,
        }  # fmt: skip
        return pretrained(ARCHITECTURE, weights, targets, given, name)
    inputs, features = megnet_features(
        flavor=flavor, cutoff=cutoff, blocks=blocks, embedding_dim=embedding_dim, hidden_dim=hidden_dim, dim=dim, gaussians=gaussians,
        gaussian_width=gaussian_width, set2set_steps=set2set_steps, legacy_set2set=legacy_set2set, state_dim=state_dim,
        fidelities=fidelities, readout_dims=readout_dims, dropout=dropout, l2=l2,
    )  # fmt: skip
    features = keras.layers.Activation(softplus2, name="readout_2_activation")(features)
    columns = 2 if uncertainty else 1
    outputs = {target: keras.layers.Dense(columns, name=target, dtype=weights_dtype())(features) for target in targets}
    return keras.Model(inputs, outputs, name=name)


def megnet_features(
    *,
    flavor: Flavor,
    cutoff: float,
    blocks: int,
    embedding_dim: int,
    hidden_dim: int,
    dim: int,
    gaussians: int,
    gaussian_width: float | None,
    set2set_steps: int,
    legacy_set2set: bool,
    state_dim: int,
    fidelities: int,
    readout_dims: tuple[int, int],
    dropout: float,
    l2: float,
) -> tuple[dict[str, Any], Any]:
    """MEGNet up to the last hidden layer, before its activation; see `MEGNet`.

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
    graph = BondGraph(name="graph", dtype=weights_dtype())(
        {key: value for key, value in inputs.items() if key not in ("distances", "state")}
    )

    # v0, e0, u0, each through two dense layers
    atoms = keras.layers.Embedding(HEAVIEST + 1, embedding_dim, name="atom_embedding")(inputs["species"])
    width = gaussian_width or (2**0.5 if matgl else 0.5)
    bonds = GaussianExpansion(cutoff + 1.0, gaussians, width, name="bond_expansion", dtype=weights_dtype())(inputs["distances"])
    if fidelities:
        state = keras.layers.Embedding(fidelities, embedding_dim, name="state_embedding")(inputs["state"])
        state = keras.layers.Flatten(name="state_features")(state)
    elif state_dim:
        state = inputs["state"]
    else:
        state = ConstantState(2, name="state_features")(inputs["batch_sites"])
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

ARCHITECTURE = Architecture(
    name="megnet",
    title="MEGNet: messages between atoms, bonds and a global state",
    material="crystal",
    builder=MEGNet,
    featurizer=BondFeaturizer,
    recipes=RECIPES,
    variants={"megnet": {}, "matgl": {"flavor": "matgl", "set2set_steps": 2}},
    parts=PARTS,
    presets=PRESETS,
)
