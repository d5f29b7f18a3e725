"""ParAIsite: a multilayer perceptron on the last hidden layer of MEGNet, for the lattice thermal conductivity.

L. Klochko, M. d'Aquin, "Two-stage transfer learning for deep learning-based prediction of lattice thermal conductivity", Phys. Chem. Chem.
Phys. 2026, doi 10.1039/d5cp04401d; first as arXiv:2411.18259.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfmat.architecture import Architecture, register, with_keywords_of
from tfmat.featurizers.bonds import BondFeaturizer
from tfmat.layers.outputs import dense_outputs
from tfmat.training.recipe import Recipe
from tfmat.zoo.megnet import PARTS, megnet_features
from tfmat.zoo.model import zoo_model


@zoo_model("paraisite")
@with_keywords_of(megnet_features, flavor="matgl", set2set_steps=2)
def ParAIsite(
    targets: Sequence[str] = ("target",),
    *,
    head_dims: Sequence[int] = (450, 350, 350),
    uncertainty: bool = False,
    name: str = "paraisite",
    **backbone: Any,
) -> keras.Model:
    """MEGNet without its output, and a perceptron in its place: x (B, 16) -> ReLU 450 -> ReLU 350 -> ReLU 350 -> one output per target.

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
        **backbone: as of `tfmat.zoo.megnet.megnet_features`.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        name: name of the model.

    Returns:
        A functional `keras.Model`; 469,853 parameters with the defaults.
    """
    sizes = list(head_dims)
    sizes = sizes[: sizes.index(0)] if 0 in sizes else sizes
    if not sizes or min(sizes) < 0:
        raise ValueError(f"`head_dims` must hold at least one positive width. Received: head_dims={tuple(head_dims)}")
    inputs, features = megnet_features(**backbone)
    for number, width in enumerate(sizes, 1):
        features = keras.layers.Dense(width, "relu", name=f"head_{number}")(features)
    return keras.Model(inputs, dense_outputs(features, targets, uncertainty), name=name)


RECIPES = {
    "default": Recipe(loss="mape", optimizer="adam", clip_norm=10.0, keep="best", epochs=300, batch_size=8),
    "paper": Recipe(loss="mape", optimizer="adam", warmup=0.0, cosine_epochs=500, final_rate=1e-5, keep="best", epochs=300, batch_size=8),
}
"""``paper``: the published code steps its cosine of 1,000 epochs twice per epoch. ``loss=mse_physical`` is its other loss."""

ARCHITECTURE = register(
    Architecture(
        name="paraisite",
        title="ParAIsite: a perceptron on a pretrained MEGNet, for thermal conductivity",
        material="crystal",
        builder=ParAIsite,
        featurizer=BondFeaturizer,
        recipes=RECIPES,
        parts=PARTS | {"head": ("head_*",)},
        citation="L. Klochko, M. d'Aquin, Phys. Chem. Chem. Phys. 2026, doi 10.1039/d5cp04401d",
        small={"dim": 8, "hidden_dim": 8, "gaussians": 16, "blocks": 1, "head_dims": (8, 8)},
    )
)
