"""L-G-DCNN: a property from a formula, through recurrent layers with soft attention and a deep convolution stack.

H. Du, J. Hui, L. Zhang, H. Wang, J. Chem. Theory Comput. 2024, 20 (15), 6756-6771, doi 10.1021/acs.jctc.4c00187.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfmat.architecture import Architecture, Reference, register
from tfmat.featurizers.composition import CompositionFeaturizer, Ties
from tfmat.layers.elements import ElementEmbedding, torch_uniform
from tfmat.layers.precision import weights_dtype
from tfmat.layers.recurrent import BidirectionalRNN
from tfmat.layers.sequence import MaskedConv1D, product
from tfmat.training.recipe import Recipe
from tfmat.zoo.model import zoo_model


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
    ties: Ties = "as_written",
    uncertainty: bool = True,
    name: str = "lgdcnn",
) -> keras.Model:
    """L-G-DCNN and its variants: element and fraction codes, BiLSTM, BiGRU, deep convolution, gated mean over the elements.

    Data flow (B compositions, E element slots): species, fractions -> X (B, E, dim) = element embedding + fraction codes;
    A1 = attend(BiLSTM(X)); A2 = attend(BiGRU(A1)) with the same scorer; z0 = conv(A2), z_k = z_(k-1) + conv(relu(conv(relu(z_(k-1)))));
    head: (v, s, g) = mean over the elements of Dense(z); value = v sigmoid(g), log-scale s.

    Inputs: dict of ``species`` int32 (B, E) atomic numbers sorted by descending amount, 0 = padding, and ``fractions`` (B, E).
    Outputs: dict target -> (B, 2): value (or logit) and log-scale s, in scaled units (see `tfmat.target.Target`); (B, 1), the value
    alone, with ``uncertainty=False``.

    Differences from the paper and its published code:
        - padding is masked everywhere: recurrent layers, attention, convolutions. In the published code a prediction depends on the
          longest formula of its file; ``legacy_padding=True`` reproduces that.
        - 2,048 parameters fewer (8,633,863): a Keras LSTM has one bias vector where PyTorch's has two.
        - no stride-1, window-1 pooling between the blocks (it is the identity).
        - multi-target heads, and the ``gdcnn`` variant (BiGRU and convolutions), which the paper does not have.

    Args:
        targets: names of the outputs.
        dim: width of the embedding and of the recurrent output (dim/2 per direction).
        recurrent: recurrent layers in order; empty for none.
        attention: soft attention with residual after each recurrent layer, one shared scorer.
        conv_blocks: residual blocks of two convolutions after the first convolution; 0 leaves out the convolutions altogether.
        conv_dim: channels of the convolutions.
        kernel_size: slots that a convolution sees: 3, or 1 for a purely local model.
        fuse_states: L-G-DCNN-v1: the head reads maxpool(A1 + A2 + z), pooled over three neighbouring features.
        elements: element table.
        fraction_bins: resolution of the fraction codes: 2000 in the fusion models, 5000 in the single ones.
        legacy_padding: no masks before the head, as published; for parity only.
        ties: order of elements of equal amount, see `CompositionFeaturizer`; the network reads them in order, so that ``"as_written"``, as
            published, may give ClNa another number than NaCl.
        uncertainty: a second output column, the log-scale that the loss ``laplace`` learns.
        name: name of the model.

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

    outputs = GatedMeanHead(targets, uncertainty, name="head", dtype=weights_dtype())(features, real)
    outputs = {target: keras.layers.Activation("linear", name=target, dtype=weights_dtype())(outputs[target]) for target in targets}
    return keras.Model({"species": species, "fractions": fractions}, outputs, name=name)


@keras.saving.register_keras_serializable("tfmat")
class ElementMask(keras.layers.Layer):
    """1 where a slot holds an element, 0 for padding: int (B, E) -> float (B, E)."""

    def call(self, species: Any) -> Any:
        return ops.cast(species > 0, self.compute_dtype)

    def compute_output_shape(self, species_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return species_shape


def sine_table(bins: int, width: int) -> np.ndarray:
    """``sin(r / 50**(2 j / width))`` for r = 0..bins-1 and j = 0..width-1, float64 (bins, width). All columns are sines."""
    return np.sin(np.arange(bins)[:, None] / 50.0 ** (2.0 * np.arange(width)[None, :] / width))


@keras.saving.register_keras_serializable("tfmat")
class FractionEncoding(keras.layers.Layer):
    """Sine codes of the atomic fraction f on a linear and on a logarithmic scale, side by side.

    Linear x = f, logarithmic x = min(1, 0.0025 log2(f)^2); the row round(clamp(x, 1/R, 1) R) - 1 of a fixed table of R rows (ties
    round to even) is scaled by ``2**((1 - p)**2)`` with a trainable scalar p for each of the two, initially 1.

    Args:
        dim: width D of the result, even: D/2 columns for each scale.
        bins: R, the resolution.

    Call arguments:
        fractions: (B, E); 0 = padding.

    Returns:
        (B, E, D).
    """

    def __init__(self, dim: int, bins: int = 2000, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        if dim % 2 or bins < 2:
            raise ValueError(f"`dim` must be even and `bins` at least 2. Received: dim={dim}, bins={bins}")
        self.dim, self.bins = dim, bins

    def build(self, fractions_shape: tuple[int | None, ...]) -> None:
        self.linear_exponent = self.add_weight(name="linear_exponent", shape=(), initializer="ones")
        self.log_exponent = self.add_weight(name="log_exponent", shape=(), initializer="ones")

    def rows(self, fractions: Any) -> tuple[Any, Any]:
        """Row of the table for each fraction on the linear and on the logarithmic scale, int32 (B, E)."""
        positive = fractions > 0
        log2 = ops.log(ops.where(positive, fractions, 1.0)) / math.log(2.0)
        logarithmic = ops.where(positive, ops.minimum(1.0, 0.0025 * ops.square(log2)), 1.0)
        return self._row(fractions), self._row(logarithmic)

    def _row(self, x: Any) -> Any:
        return ops.cast(ops.round(ops.clip(x, 1.0 / self.bins, 1.0) * self.bins), "int32") - 1

    def call(self, fractions: Any) -> Any:
        table = ops.convert_to_tensor(sine_table(self.bins, self.dim // 2), self.compute_dtype)
        codes = [
            ops.take(table, row, axis=0) * ops.power(2.0, ops.square(1.0 - exponent))
            for row, exponent in zip(self.rows(fractions), (self.linear_exponent, self.log_exponent), strict=True)
        ]
        return ops.concatenate(codes, axis=-1)

    def compute_output_shape(self, fractions_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*fractions_shape, self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim, "bins": self.bins}


@keras.saving.register_keras_serializable("tfmat")
class SoftAttentionResidual(keras.layers.Layer):
    """``x (1 + softmax(score(x)))``: one weight per slot; nothing is summed over the slots.

    The scorer is Dense - ReLU - Dense(1). One layer may be called several times, which shares the scorer.

    Call arguments:
        features: (B, L, D).
        real: (B, L), padded slots get no attention; None attends to them.

    Returns:
        (B, L, D).
    """

    def build(self, features_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        dim = int(features_shape[-1] or 0)
        self.hidden_kernel = self.add_weight(name="hidden_kernel", shape=(dim, dim), initializer=torch_uniform(dim))
        self.hidden_bias = self.add_weight(name="hidden_bias", shape=(dim,), initializer=torch_uniform(dim))
        self.score_kernel = self.add_weight(name="score_kernel", shape=(dim, 1), initializer=torch_uniform(dim))
        self.score_bias = self.add_weight(name="score_bias", shape=(1,), initializer=torch_uniform(dim))

    def weights_of(self, features: Any, real: Any = None) -> Any:
        """Attention weights (B, L, 1), which sum to 1 over the real slots."""
        hidden_kernel, hidden_bias, score_kernel, score_bias = (
            ops.cast(weight, self.compute_dtype) for weight in (self.hidden_kernel, self.hidden_bias, self.score_kernel, self.score_bias)
        )
        scores = product(ops.relu(product(features, hidden_kernel, hidden_bias)), score_kernel, score_bias)
        if real is not None:
            scores = ops.where(ops.cast(real, "bool")[:, :, None], scores, -1e9)
        powers = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
        return powers / ops.sum(powers, axis=1, keepdims=True)

    def call(self, features: Any, real: Any = None) -> Any:
        return features * (1.0 + self.weights_of(features, real))

    def compute_output_shape(self, features_shape: tuple[int | None, ...], real_shape: Any = None) -> tuple[int | None, ...]:
        return features_shape


@keras.saving.register_keras_serializable("tfmat")
class NeighbourMaxPooling(keras.layers.Layer):
    """Maximum over each feature and its two neighbours on the **feature** axis, as in L-G-DCNN-v1: (B, L, D) -> (B, L, D)."""

    def call(self, features: Any) -> Any:
        before = ops.concatenate([features[..., :1], features[..., :-1]], axis=-1)
        after = ops.concatenate([features[..., 1:], features[..., -1:]], axis=-1)
        return ops.maximum(features, ops.maximum(before, after))

    def compute_output_shape(self, features_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return features_shape


@keras.saving.register_keras_serializable("tfmat")
class GatedMeanHead(keras.layers.Layer):
    """Value, log-scale and gate of every slot, averaged over the real elements; the gate is applied after the mean.

    For each target a Dense layer gives (v, s, g) per slot; their plain (not fraction-weighted) means give the value
    ``v sigmoid(g)`` and the log-scale ``s`` of a Laplace distribution.

    Args:
        targets: names of the targets.
        uncertainty: whether there is a log-scale; without it a slot gives (v, g).

    Call arguments:
        features: (B, E, D).
        real: (B, E), 1 for a real element.

    Returns:
        dict: target -> (B, 2), value and log-scale, or (B, 1), in scaled units. A row without elements gives zeros.
    """

    def __init__(self, targets: Sequence[str], uncertainty: bool = True, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.targets, self.uncertainty = tuple(targets), uncertainty
        self.per_target = 3 if uncertainty else 2  # the gate is the last one

    def build(self, features_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        dim, width = int(features_shape[-1] or 0), self.per_target * len(self.targets)
        self.kernel = self.add_weight(name="kernel", shape=(dim, width), initializer=torch_uniform(dim))
        self.bias = self.add_weight(name="bias", shape=(width,), initializer=torch_uniform(dim))

    def contributions(self, features: Any) -> Any:
        """Compute what every slot gives before the mean, target by target: (B, E, T times 3 or 2)."""
        return ops.matmul(features, self.kernel) + self.bias

    def shares(self, features: Any, real: Any) -> dict[str, Any]:
        """Target -> (B, E): what each slot adds to the value, ``v sigmoid(g) / n`` with the mean gate g of the n elements."""
        real, each = ops.cast(real, self.compute_dtype)[:, :, None], self.per_target
        slots = self.contributions(features) * real / ops.maximum(ops.sum(real, axis=1, keepdims=True), 1.0)
        gates = ops.sigmoid(ops.sum(slots, axis=1))
        return {name: slots[:, :, each * i] * gates[:, each * (i + 1) - 1, None] for i, name in enumerate(self.targets)}

    def call(self, features: Any, real: Any) -> dict[str, Any]:
        real, each = ops.cast(real, self.compute_dtype)[:, :, None], self.per_target
        mean = ops.sum(self.contributions(features) * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1.0)
        outputs = {}
        for index, name in enumerate(self.targets):
            value, *log_scale, gate = (mean[:, each * index + k : each * index + k + 1] for k in range(each))
            value = value * ops.sigmoid(gate)
            outputs[name] = ops.concatenate([value, *log_scale], axis=-1) if log_scale else value
        return outputs

    def compute_output_shape(self, features_shape: tuple[int | None, ...], real_shape: Any = None) -> dict[str, tuple[int | None, ...]]:
        return {name: (features_shape[0], self.per_target - 1) for name in self.targets}

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"targets": list(self.targets), "uncertainty": self.uncertainty}


def reference(keywords: Mapping[str, Any]) -> Reference | None:
    """``"local"`` without recurrent layers and with convolutions of single elements (variant dcnn_k1): an element does not see the others.

    ``"global"`` with an LSTM alone (variant lstm).
    """
    if not keywords["recurrent"] and keywords["kernel_size"] == 1:
        return "local"
    alone = tuple(keywords["recurrent"]) == ("lstm",) and not keywords["attention"] and not keywords["conv_blocks"]
    return "global" if alone else None


SINGLE = {"attention": False, "fraction_bins": 5000}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {"dim": 256, "conv_dim": 256, "ties": "atomic_number"},
    "lstm": {"recurrent": ("lstm",), "conv_blocks": 0, **SINGLE},
    "gru": {"recurrent": ("gru",), "conv_blocks": 0, **SINGLE},
    "dcnn": {"recurrent": (), **SINGLE},
    "dcnn_k1": {"recurrent": (), "conv_dim": 256, "kernel_size": 1, **SINGLE},
    "ldcnn": {"recurrent": ("lstm",), "attention": False},
    "gdcnn": {"recurrent": ("gru",), "attention": False},
    "lgdcnn": {},
    "lgdcnn_v1": {"fuse_states": True},
}
"""Builder keywords: ``base`` is ``lgdcnn`` at half its width, a quarter of the weights, with no greater error (``benchmarks/README.md``),
where elements of equal amount are in an order of their own;
the others are the published models (``gru`` and ``gdcnn`` follow the paper's description; no code of them was published)."""

RECIPES = {
    "default": Recipe(learning_rate=1e-3, weight_decay=0.01, clip_norm=1.0, ema=0.995, epochs=40, fraction_jitter=0.02),
    "paper": Recipe(
        optimizer="lookahead_lamb", learning_rate=6e-3, schedule="triangular", swa_epochs=20, batch_shift=4, batch_range=(128, 4096),
        epochs=300, fraction_jitter=0.02,
    ),
}  # fmt: skip
"""``paper`` is the published stack; ``default`` reaches a lower error in fewer epochs (see ``benchmarks/README.md``)."""

ARCHITECTURE = register(
    Architecture(
        name="lgdcnn",
        title="L-G-DCNN: BiLSTM, BiGRU and deep convolutions over the elements of a formula",
        citation="H. Du et al., J. Chem. Theory Comput. 2024, 20, 6756, doi 10.1021/acs.jctc.4c00187",
        material="composition",
        builder=LGDCNN,
        featurizer=CompositionFeaturizer,
        recipes=RECIPES,
        variants=VARIANTS,
        default="base",
        small={"dim": 16, "conv_dim": 16},
        reference=reference,
    )
)
