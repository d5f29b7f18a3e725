"""The PyPI package alignn (its pure PyTorch path, no DGL) as a competitor of the Crysformer benchmark.

The environment names the width in ALIGNN_HIDDEN (its default of the paper: 256, 4.03 million parameters; 196 gives 2.38 million), and in
ALIGNN_CUTOFFS the radii [Å] of bonds and of the bonds that form angles (``8 8``: 12 neighbours and all their angles, as in the paper;
the package's present defaults are ``5 3.5``). Graphs and batches are prepared in advance; what is timed is the network: forward, or
forward, backward and AdamW's step.
"""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from typing import Any

import serve
import torch
from alignn.models.alignn_atomwise_pure import ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig
from alignn.torch_graph_builder import batch_torch_graph_pairs, build_pure_torch_graph
from alignn.utils import group_decay
from jarvis.core.atoms import pmg_to_atoms

NEIGHBORS, LAYERS, ATOM_FEATURES = 12, 4, 92


def network(hidden: int) -> ALIGNNAtomWisePure:
    """ALIGNN as in its paper, but for the width: 4 + 4 layers, energies alone (no forces, no penalty for short bonds)."""
    torch.manual_seed(0)
    config = ALIGNNAtomWisePureConfig(
        name="alignn_atomwise_pure",
        alignn_layers=LAYERS,
        gcn_layers=LAYERS,
        atom_input_features=ATOM_FEATURES,
        hidden_features=hidden,
        calculate_gradient=False,
        gradwise_weight=0.0,
        energy_mult_natoms=False,
        use_penalty=False,
        lg_on_fly=False,  # the cosines of the graph builder are used
    )
    return ALIGNNAtomWisePure(config)


class Alignn:
    def __init__(self, structures: list[Any], threads: int) -> None:
        torch.set_num_threads(threads)
        self.bonds, self.angles = (float(radius) for radius in os.environ.get("ALIGNN_CUTOFFS", "8 8").split())
        self.atoms = [pmg_to_atoms(structure) for structure in structures]
        self.model = network(int(os.environ.get("ALIGNN_HIDDEN", "256")))
        self.optimizer = torch.optim.AdamW(group_decay(self.model), lr=4e-4, weight_decay=1e-4)
        self.graphs()
        self.batches: dict[int, list[tuple[Any, Any, None]]] = {}
        parameters = sum(p.numel() for p in self.model.parameters())
        self.about = {
            "text": f"alignn {version('alignn')}, PyTorch {torch.__version__}, {parameters:,} parameters",
            "parameters": parameters,
            "dim": self.model.config.hidden_features,
            "atoms": sum(g.num_nodes for g, _ in self.pairs),
            "edges": sum(g.num_edges for g, _ in self.pairs),
            "angles": sum(lg.num_edges for _, lg in self.pairs),
        }

    def graphs(self) -> None:
        self.pairs = [build_pure_torch_graph(atoms, self.bonds, self.angles, NEIGHBORS) for atoms in self.atoms]

    def collated(self, batch_size: int) -> list[tuple[Any, Any, None]]:
        """Batches of both graphs, and the lattice, which energies do not need."""
        if batch_size not in self.batches:
            starts = range(0, len(self.pairs), batch_size)
            self.batches[batch_size] = [(*batch_torch_graph_pairs(self.pairs[first : first + batch_size]), None) for first in starts]
        return self.batches[batch_size]

    def predict(self, batch_size: int) -> torch.Tensor:
        self.model.eval()
        with torch.no_grad():
            return torch.cat([self.model(batch)["out"] for batch in self.collated(batch_size)])

    def train(self, targets: list[float], batch_size: int, epochs: int) -> list[float]:
        batches, values = self.collated(batch_size), torch.tensor(targets).split(batch_size)
        self.model.train()
        seconds = []
        for _ in range(epochs):
            start = time.perf_counter()
            for batch, wanted in zip(batches, values, strict=True):
                self.optimizer.zero_grad()
                torch.nn.functional.mse_loss(self.model(batch)["out"], wanted).backward()
                self.optimizer.step()
            seconds.append(time.perf_counter() - start)
        return seconds


if __name__ == "__main__":
    serve.main(Alignn)
