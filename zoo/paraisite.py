"""ParAIsite: a multilayer perceptron on the last hidden layer of MEGNet, for the lattice thermal conductivity.

L. Klochko, M. d'Aquin, "Two-stage transfer learning for deep learning-based prediction of lattice thermal conductivity", Phys. Chem. Chem.
Phys. 2026, doi 10.1039/d5cp04401d; first as arXiv:2411.18259.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfmat.architecture import Architecture
from tfmat.featurizers.bonds import BondFeaturizer
from tfmat.layers.precision import weights_dtype
from tfmat.training.recipe import Recipe
from tfmat.zoo.megnet import PARTS, Flavor, megnet_features
from tfmat.zoo.model import zoo_model


@zoo_model("paraisite")
def ParAIsite(
    targets: Sequence[str] = ("target",),
    *,
    head_dims: Sequence[int] = (450, 350, 350),
    flavor: Flavor = "matgl",
    cutoff: float = 4.0,
    blocks: int = 3,
    embedding_dim: int = 16,
    hidden_dim: int = 64,
    dim: int = 32,
    gaussians: int = 100,
    gaussian_width: float | None = None,
    set2set_steps: int = 2,
    legacy_set2set: bool = False,
    state_dim: int = 0,
    fidelities: int = 0,
    readout_dims: tuple[int, int] = (32, 16),
    dropout: float = 0.0,
    l2: float = 0.0,
    uncertainty: bool = False,
    name: str = "paraisite",
) -> keras.Model:
    """MEGNet without its output, and a perceptron in its place: x (B, 16) -> ReLU 450 -> ReLU 350 -> ReLU 350 -> one output a target.

    x is MEGNet's last hidden layer before its activation. The backbone's layers have the names of those of `tfmat.zoo.megnet.MEGNet`, so
    its weights are taken over by ``tfmat train paraisite --init``. The three steps of the paper: (I) everything random; (II) the backbone
    from a MEGNet of formation energies; (III) everything from a model of step II that learnt a large set (AFLOW).

    Inputs: those of `tfmat.zoo.megnet.MEGNet`. Outputs: dict target -> (B, 1) value in scaled units; (B, 2) with `uncertainty`.

    Differences from the paper and its published code:
        - in the published code step II loads no weights (all names differ by a prefix), and scores on another data set are not in
          W/(m K) (labels are inverted with the wrong scaler); neither is repeated here. ``benchmarks/paraisite_matrix.py`` shows both.
        - any MEGNet can be the backbone, matgl's (as in the paper) or the original one; heads for several targets.
        - weights start as Keras' (Glorot) instead of PyTorch's.

    Args:
        targets: names of the outputs.
        head_dims: widths of the hidden layers of the perceptron; a 0 ends the list, as in the published ``450, 350, 350, 0``.
        flavor: of the backbone, as all keywords below.
        cutoff: bond radius [Å].
        blocks: number of blocks.
        embedding_dim: width of the element (and fidelity) embedding.
        hidden_dim: width of the hidden layers before and in the blocks.
        dim: width of atoms, bonds and state.
        gaussians: number of Gaussians.
        gaussian_width: [Å]; None: that of the flavor.
        set2set_steps: of each Set2Set.
        legacy_set2set: as the published weights of the flavor ``megnet`` need it.
        state_dim: number of state features.
        fidelities: number of fidelities.
        readout_dims: widths of the two layers before the perceptron.
        dropout: rate, in the backbone.
        l2: weight of the L2 penalty of all kernels of the backbone.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        name: of the model.

    Returns:
        A functional `keras.Model`; 469,853 parameters with the defaults.
    """
    sizes = list(head_dims)
    sizes = sizes[: sizes.index(0)] if 0 in sizes else sizes
    if not sizes or min(sizes) < 0:
        raise ValueError(f"`head_dims` must hold at least one positive width. Received: head_dims={tuple(head_dims)}")
    inputs, features = megnet_features(
        flavor=flavor, cutoff=cutoff, blocks=blocks, embedding_dim=embedding_dim, hidden_dim=hidden_dim, dim=dim, gaussians=gaussians,
        gaussian_width=gaussian_width, set2set_steps=set2set_steps, legacy_set2set=legacy_set2set, state_dim=state_dim,
        fidelities=fidelities, readout_dims=readout_dims, dropout=dropout, l2=l2,
    )  # fmt: skip
    for number, width in enumerate(sizes, 1):
        features = keras.layers.Dense(width, "relu", name=f"head_{number}")(features)
    columns = 2 if uncertainty else 1
    outputs = {target: keras.layers.Dense(columns, name=target, dtype=weights_dtype())(features) for target in targets}
    return keras.Model(inputs, outputs, name=name)


RECIPES = {
    "default": Recipe(loss="mape", optimizer="adam", clip_norm=10.0, keep="best", epochs=300, batch_size=8),
    "paper": Recipe(loss="mape", optimizer="adam", warmup=0.0, cosine_epochs=500, final_rate=1e-5, keep="best", epochs=300, batch_size=8),
}
"""``paper``: the published code steps its cosine of 1,000 epochs twice an epoch. ``loss=mse_physical`` is its other loss."""

ARCHITECTURE = Architecture(
    name="paraisite",
    title="ParAIsite: a perceptron on a pretrained MEGNet, for thermal conductivity",
    material="crystal",
    builder=ParAIsite,
    featurizer=BondFeaturizer,
    recipes=RECIPES,
    parts=PARTS | {"head": ("head_*",)},
)
