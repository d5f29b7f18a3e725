"""The sites of all crystals of a batch in one row, without padding; and back."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.neighbors import flat_senders
from tfmat.layers.tracing import sizes_may_depend_on_values


@keras.saving.register_keras_serializable("tfmat")
class FlatSites(keras.layers.Layer):
    """A padded batch of crystals as one large crystal of its S real sites, where sizes may depend on values; elsewhere as it is.

    For layers that keep sites apart but for the neighbours they name, and so never see where one crystal ends. A batch without any site
    gives one that is padding, so that there is one.

    Call arguments:
        species: int (B, A), 0 = padding, which may be anywhere.
        neighbors: int (B, A, K), site of each neighbour within its crystal, a real one; any one in an empty slot.
        vectors: float (B, A, K, 3) [Å]; zero = empty slot.

    Returns:
        dict of
        ``species`` (1, S), ``neighbors`` (1, S, K) within that row and ``vectors`` (1, S, K, 3), or the three arguments;
        ``rows`` int (B, A), which of the S is each site, any one in padding;
        ``real_sites`` float32 (B, A, 1), 1 or 0.
    """

    drops_padding = True
    """See `tfmat.data.static_shapes.drops_padding`."""

    def __init__(self, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))

    @property
    def supports_jit(self) -> bool:
        """For `keras.Model.compile`: XLA compiles what does not depend on values."""
        return not sizes_may_depend_on_values()

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        """Keras sets what it takes to be so."""

    def call(self, species: Any, neighbors: Any, vectors: Any) -> dict[str, Any]:
        crystals, width, slots = ops.shape(neighbors)
        real = {"real_sites": ops.expand_dims(ops.cast(species > 0, "float32"), -1)}
        if not sizes_may_depend_on_values():
            rows = ops.reshape(ops.arange(crystals * width, dtype="int32"), (crystals, width))
            return real | {"species": species, "neighbors": neighbors, "vectors": vectors, "rows": rows}
        kept, nothing = ops.reshape(species > 0, (-1,)), ops.logical_not(ops.any(species > 0))
        kept = ops.logical_or(kept, ops.logical_and(nothing, ops.arange(crystals * width, dtype="int32") == 0))
        rows = ops.maximum(ops.cumsum(ops.cast(kept, "int32")) - 1, 0)
        places = ops.nonzero(kept)[0]
        senders = ops.take(rows, flat_senders(neighbors), axis=0)
        flat = {
            "species": ops.take(ops.reshape(species, (-1,)), places, axis=0),
            "neighbors": ops.take(ops.reshape(senders, (-1, slots)), places, axis=0),
            "vectors": ops.take(ops.reshape(vectors, (-1, slots, 3)), places, axis=0),
        }
        flat = {key: ops.expand_dims(value, 0) for key, value in flat.items()}
        return real | flat | {"rows": ops.reshape(rows, (crystals, width))}

    def compute_output_spec(self, species: Any, neighbors: Any, vectors: Any) -> dict[str, Any]:
        slots = neighbors.shape[-1]
        return {
            "species": keras.KerasTensor((None, None), "int32"),
            "neighbors": keras.KerasTensor((None, None, slots), "int32"),
            "vectors": keras.KerasTensor((None, None, slots, 3), "float32"),
            "rows": keras.KerasTensor(species.shape, "int32"),
            "real_sites": keras.KerasTensor((*species.shape, 1), "float32"),
        }


@keras.saving.register_keras_serializable("tfmat")
class PaddedSites(keras.layers.Layer):
    """Undoes `FlatSites` for what has been computed of each site.

    Call arguments:
        atoms: (1, S, D), or (B, A, D) where sizes may not depend on values.
        rows: int (B, A), from `FlatSites`.
        real_sites: (B, A, 1), likewise.

    Returns:
        (B, A, D), zero in padding if the sites were flat.
    """

    def call(self, atoms: Any, rows: Any, real_sites: Any) -> Any:
        if not sizes_may_depend_on_values():
            return atoms
        return ops.where(real_sites > 0, ops.take(atoms[0], rows, axis=0), 0.0)

    def compute_output_spec(self, atoms: Any, rows: Any, real_sites: Any) -> Any:
        return keras.KerasTensor((*rows.shape, atoms.shape[-1]), self.compute_dtype)
