"""How many multiply-adds Crysformer and ALIGNN need, by formula; both agree with a count over their graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def crysformer_macs(size: Mapping[str, int], dim: int, blocks: int, ff_ratio: int) -> int:
    """Multiply-adds of a forward pass's matrix products, as tfmat computes them; `size`: numbers of ``atoms``, ``edges`` and ``angles``.

    A layer on a graph has 6 + 2 ff_ratio products of D x D per node (query and output of the cross-attention; query, key, value and output
    of the conditional attention; feed-forward) and 4 + 2 ff_ratio per edge (key and value of the cross-attention, condition, renewed edge,
    feed-forward). The last block leaves out the 1 + 2 ff_ratio that renew edges and angles.
    """

    def layer(nodes: int, edges: int, last: bool) -> int:
        return dim**2 * (nodes * (6 + 2 * ff_ratio) + edges * (3 if last else 4 + 2 * ff_ratio))

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
    """Multiply-adds of one pass over all crystals, every copy of a site, bond or angle included; `prefix` ``computed_``: each once."""
    size = {name: about[prefix + name] for name in ("atoms", "edges", "angles")}
    if "blocks" not in about:
        return alignn_macs(size, about["dim"])
    return crysformer_macs(size, *(about[name] for name in ("dim", "blocks", "ff_ratio")))
