"""L-G-DCNN: a property from a formula, through recurrent layers with soft attention and a deep convolution stack.

H. Du, J. Hui, L. Zhang, H. Wang, J. Chem. Theory Comput. 2024, 20 (15), 6756-6771, doi 10.1021/acs.jctc.4c00187.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from tfmat.architecture import Architecture
from tfmat.featurizers import CompositionFeaturizer
from tfmat.layers.composition import ElementEmbedding, FractionEncoding, GatedMeanHead
from tfmat.layers.precision import weights_dtype
from tfmat.layers.recurrent import BidirectionalRNN
from tfmat.layers.sequence import MaskedConv1D, NeighbourMaxPooling, SoftAttentionResidual
from tfmat.training.recipe import Recipe
from tfmat.zoo.model import zoo_model


@keras.saving.register_keras_serializable("tfmat")
class ElementMask(keras.layers.Layer):
    """1 where a slot holds an element, 0 for padding: int (B, E) -> float (B, E)."""

    def call(self, species: Any) -> Any:
        return ops.cast(species > 0, self.compute_dtype)

    def compute_output_shape(self, species_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return species_shape


@zoo_model("lgdcnn")
def LGDCNN(
    targets: Sequence[str] = ("target",),
    *,
    dim: int = 512,
    recurrent: Sequence[Literal["lstm", "gru"]] = ("lstm", "gru"),
    attention: bool = True,
    conv_blocks: int = 3,
    conv_dim: int = 512,
    kernel_size: Literal[1, 3] = 3,
    fuse_states: bool = False,
    elements: Literal["mat2vec", "onehot", "magpie", "matscholar"] = "mat2vec",
    fraction_bins: int = 2000,
    legacy_padding: bool = False,
    name: str = "lgdcnn",
) -> keras.Model:
    """L-G-DCNN and its variants: element and fraction codes, BiLSTM, BiGRU, deep convolution, gated mean over the elements.

    Data flow (B compositions, E element slots): species, fractions -> X (B, E, dim) = element embedding + fraction codes;
    A1 = attend(BiLSTM(X)); A2 = attend(BiGRU(A1)) with the same scorer; z0 = conv(A2), z_k = z_(k-1) + conv(relu(conv(relu(z_(k-1)))));
    head: (v, s, g) = mean over the elements of Dense(z); value = v sigmoid(g), log-scale s.

    Inputs: dict of ``species`` int32 (B, E) atomic numbers sorted by descending amount, 0 = padding, and ``fractions`` (B, E).
    Outputs: dict target -> (B, 2): value (or logit) and log-scale s, in scaled units (see `tfmat.target.Target`).

    Differences from the paper and its published code:
        - padding is masked everywhere: recurrent layers, attention, convolutions. In the published code a prediction depends on the
          longest formula of its file; ``legacy_padding=True`` reproduces that.
        - 2,048 parameters fewer (8,633,863): a Keras LSTM has one bias vector where PyTorch's has two.
        - no stride-1, window-1 pooling between the blocks (it is the identity).
        - multi-target heads, and the ``gdcnn`` variant (BiGRU and convolutions), which the paper does not have.

    Args:
        targets: names of the outputs.
        dim: width of the embedding and of the recurrent output (dim/2 a direction).
        recurrent: recurrent layers in order; empty for none.
        attention: soft attention with residual after each recurrent layer, one shared scorer.
        conv_blocks: residual blocks of two convolutions after the first convolution; 0 leaves out the convolutions altogether.
        conv_dim: channels of the convolutions.
        kernel_size: of the convolutions: 3, or 1 for a purely local model.
        fuse_states: L-G-DCNN-v1: the head reads maxpool(A1 + A2 + z), pooled over three neighbouring features.
        elements: element table.
        fraction_bins: resolution of the fraction codes: 2000 in the fusion models, 5000 in the single ones.
        legacy_padding: no masks before the head, as published; for parity only.
        name: of the model.

    Returns:
        A functional `keras.Model`.
    """
    if fuse_states and (not recurrent or not conv_blocks or conv_dim != dim):
        raise ValueError("`fuse_states` needs recurrent layers and convolutions with `conv_dim` equal to `dim`")
    if dim % 4:
        raise ValueError(f"`dim` must be a multiple of 4. Received: dim={dim}")
    species = keras.Input((None,), dtype="int32", name="species")
    fractions = keras.Input((None,), name="fractions")
    real = ElementMask(name="mask")(species)
    mask = None if legacy_padding else real

    codes = FractionEncoding(dim, fraction_bins, name="fractions_code", dtype=weights_dtype())(fractions)
    features = ElementEmbedding(dim, elements, name="elements")(species) + codes
    if mask is not None:
        features = features * ops.expand_dims(mask, -1)

    attend = SoftAttentionResidual(name="attention") if attention and recurrent else None
    states = []
    for index, cell in enumerate(recurrent):
        features = BidirectionalRNN(dim // 2, cell, name=f"bi{cell}_{index + 1}")(features, mask)
        if attend is not None:
            features = attend(features, mask)
        states.append(features)

    if conv_blocks:
        features = MaskedConv1D(conv_dim, kernel_size, name="region")(features, mask)
        for block in range(1, conv_blocks + 1):
            update = MaskedConv1D(conv_dim, kernel_size, name=f"block{block}_conv1")(ops.relu(features), mask)
            update = MaskedConv1D(conv_dim, kernel_size, name=f"block{block}_conv2")(ops.relu(update), mask)
            features = features + update
    if fuse_states:
        features = NeighbourMaxPooling(name="fuse")(sum(states, features))

    outputs = GatedMeanHead(targets, name="head", dtype=weights_dtype())(features, real)
    outputs = {target: keras.layers.Activation("linear", name=target, dtype=weights_dtype())(outputs[target]) for target in targets}
    return keras.Model({"species": species, "fractions": fractions}, outputs, name=name)


VARIANTS: dict[str, dict[str, Any]] = {
    "base": {"dim": 256, "conv_dim": 256},
    "lstm": {"recurrent": ("lstm",), "attention": False, "conv_blocks": 0, "fraction_bins": 5000},
    "gru": {"recurrent": ("gru",), "attention": False, "conv_blocks": 0, "fraction_bins": 5000},
    "dcnn": {"recurrent": (), "attention": False, "fraction_bins": 5000},
    "dcnn_k1": {"recurrent": (), "attention": False, "conv_dim": 256, "kernel_size": 1, "fraction_bins": 5000},
    "ldcnn": {"recurrent": ("lstm",), "attention": False},
    "gdcnn": {"recurrent": ("gru",), "attention": False},
    "lgdcnn": {},
    "lgdcnn_v1": {"fuse_states": True},
}
"""Builder keywords: ``base`` is ``lgdcnn`` at half its width, a quarter of the weights, with no greater error (``benchmarks/README.md``);
the others are the published models (``gru`` and ``gdcnn`` follow the paper's description; no code of them was published)."""

RECIPES = {
    "default": Recipe(learning_rate=1e-3, weight_decay=0.01, clip_norm=1.0, ema=0.995, epochs=40, fraction_jitter=0.02),
    "paper": Recipe(
        optimizer="lookahead_lamb",
        learning_rate=6e-3,
        schedule="triangular",
        swa_epochs=20,
        batch_shift=4,
        batch_range=(128, 4096),
        epochs=300,
        fraction_jitter=0.02,
    ),
}
"""``paper`` is the published stack; ``default`` reaches a lower error in fewer epochs (see ``benchmarks/README.md``)."""

ARCHITECTURE = Architecture(
    name="lgdcnn",
    title="L-G-DCNN: BiLSTM, BiGRU and deep convolutions over the elements of a formula",
    material="composition",
    builder=LGDCNN,
    featurizer=CompositionFeaturizer,
    recipes=RECIPES,
    variants=VARIANTS,
    default="base",
)
