"""Layers over crystals as lists of sites and bonds: the graph, its features, and MEGNet's update of atoms, bonds and state."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import keras
from keras import ops

from tfmat.layers.activations import softplus2
from tfmat.layers.lists import Edges, at_receivers, at_senders, sum_of
from tfmat.layers.neighbors import CrystalGraph
from tfmat.layers.precision import exact


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
class GaussianExpansion(keras.layers.Layer):
    """Numbers such as distances on a grid of Gaussians: ``exp(-(d - c_k)**2 / width**2)``, K centres c_k from `lowest` to `highest`.

    Args:
        highest: last centre, in the unit of the numbers.
        number: K.
        width: in that unit too.
        lowest: first centre.

    Call arguments:
        distances: (..., E).

    Returns:
        (..., E, K).
    """

    def __init__(self, highest: float, number: int = 100, width: float = 0.5, lowest: float = 0.0, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        if number < 2 or not highest > lowest or not width > 0:
            problem = "`highest` must be above `lowest`, `width` positive, `number` at least 2"
            raise ValueError(f"{problem}. Received: {highest}, {lowest}, {width}, {number}")
        self.highest, self.number, self.width, self.lowest = highest, number, width, lowest

    def call(self, distances: Any) -> Any:
        centers = ops.linspace(self.lowest, self.highest, self.number, dtype=self.compute_dtype)
        scaled = (ops.expand_dims(distances, -1) - centers) / self.width
        return ops.exp(-scaled * scaled)

    def compute_output_shape(self, distances_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*distances_shape, self.number)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"highest": self.highest, "number": self.number, "width": self.width, "lowest": self.lowest}


class JointDense(keras.layers.Layer):
    """The affine map of a concatenation ``[x_1; x_2; ...]``, one part at a time.

    So each part is mapped where it lives, atoms before they are gathered to bonds and the state before it is repeated, and the
    concatenation never exists.

    Args:
        dim: width of the result.
        regularizer: of the kernel.

    Call arguments:
        inputs: x_1, x_2, ..., each (..., D_i); in the rows of ``kernel`` they follow each other.

    Returns:
        (..., dim).
    """

    def __init__(self, dim: int, regularizer: Any = None, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.dim, self.regularizer = dim, regularizer

    def build(self, *shapes: tuple[int | None, ...]) -> None:
        ends = [0]
        for shape in shapes:
            ends.append(ends[-1] + int(shape[-1] or 0))
        self.bounds = tuple(itertools.pairwise(ends))
        self.kernel = self.add_weight(
            name="kernel", shape=(ends[-1], self.dim), initializer=keras.initializers.GlorotUniform(), regularizer=self.regularizer
        )
        self.bias = self.add_weight(name="bias", shape=(self.dim,), initializer="zeros")
        self.built = True

    @property
    def shift(self) -> Any:
        """The bias (dim,) in the layer's computing precision."""
        return ops.cast(self.bias, self.compute_dtype)

    def part(self, inputs: Any, index: int) -> Any:
        """(..., D_index) -> (..., dim): the contribution of one part, without the bias."""
        first, last = self.bounds[index]
        return ops.matmul(inputs, ops.cast(self.kernel, self.compute_dtype)[first:last])

    def call(self, *inputs: Any) -> Any:
        return sum((self.part(value, index) for index, value in enumerate(inputs)), self.shift)


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
        feed_forward: with the two dense layers before the update.
        activate_last: also activate the last layer of each phi (matgl's variant).
        receive: the end of a bond where it arrives: ``"centers"``, or ``"neighbors"`` as in matgl. Bonds go both ways, so this only says
            which rows of the kernel of phi_e belong to which end.
        dropout: rate of the dropout of v', e' and u'.
        l2: weight of the L2 penalty of all kernels.

    Call arguments:
        atoms: (S, D).
        bonds: (E, D).
        state: (B, D).
        graph: from `BondGraph`.

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
        self.options: dict[str, Any] = {
            "dim": dim,
            "hidden_dim": hidden_dim,
            "feed_forward": feed_forward,
            "activate_last": activate_last,
            "receive": receive,
            "dropout": dropout,
            "l2": l2,
        }

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
