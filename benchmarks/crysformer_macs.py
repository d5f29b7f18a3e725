"""How many multiply-adds Crysformer and ALIGNN need, by formula; both agree with a count over their graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def crysformer_macs(size: Mapping[str, int], dim: int, blocks: int, heads: int, ff_ratio: int) -> int:
    """Multiply-adds of a forward pass's matrix products, as tfmat computes them; `size`: numbers of ``atoms``, ``edges`` and ``angles``.

    A layer on a graph has 8 + 2 ff_ratio products of D x D a node (query, key, value and output of the cross-attention, as many of the
    conditional attention, feed-forward) and 2 + 2 ff_ratio an edge, where keys and values of the cross-attention cost 2 heads D instead of
    the 2 D x D of its equations. The last block leaves out the 1 + 2 ff_ratio that renew edges and angles.
    """

    def layer(nodes: int, edges: int, last: bool) -> int:
        squares = nodes * (8 + 2 * ff_ratio) + edges * (1 if last else 2 + 2 * ff_ratio)
        return dim**2 * squares + 2 * heads * dim * edges

    total = dim * (80 * size["edges"] + 40 * size["angles"])  # Gaussians
    for block in range(1, blocks + 1):
        total += layer(size["edges"], size["angles"], block == blocks) + layer(size["atoms"], size["edges"], block == blocks)
    return total


def alignn_macs(size: Mapping[str, int], dim: int) -> int:
    """The same of ALIGNN: 4 layers on both graphs and 4 on the atoms' alone, each 4 products of D x D a node and one an edge."""
    atoms, edges, angles = size["atoms"], size["edges"], size["angles"]
    total = 92 * dim * atoms + (80 * 64 + 64 * dim) * edges + (40 * 64 + 64 * dim) * angles
    return total + dim**2 * (4 * (4 * edges + angles) + 8 * (4 * atoms + edges))


def macs(about: Mapping[str, Any], prefix: str = "") -> int:
    """Multiply-adds of one pass over all crystals; `prefix` ``padded_``: with padding."""
    size = {name: about[prefix + name] for name in ("atoms", "edges", "angles")}
    if "blocks" not in about:
        return alignn_macs(size, about["dim"])
    return crysformer_macs(size, *(about[name] for name in ("dim", "blocks", "heads", "ff_ratio")))
