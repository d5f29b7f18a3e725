"""The PyPI package matgl (PyTorch Geometric) as a competitor; the environment names its weights in MATGL_WEIGHTS."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import lightning
import matgl
import numpy as np
import serve
import torch
from matgl.ext.pymatgen import Structure2Graph
from matgl.graph.data import MGLDataset, collate_fn_graph
from matgl.models import MEGNet
from matgl.utils.training import ModelLightningModule
from torch.utils.data import DataLoader

MEAN, STD = -1.65459073, 1.07266128
"""Of the targets [eV/atom] that MEGNet-MP-2018.6.1-Eform was trained on."""


class EpochTimes(lightning.Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def load(path: str) -> MEGNet:
    """The published weights in the network of this version.

    The package once took messages at a bond's destination and now takes them at its source. Bonds come in both directions, so exchanging
    the two atoms in the first bond layer gives the network that the weights were trained in.
    """
    weights = {name.removeprefix("model."): values for name, values in torch.load(path, weights_only=True).items()}
    for name in [f"blocks.{block}.conv.edge_func.layers.0.weight" for block in range(3)]:
        first, second, rest = weights[name].split([32, 32, 64], dim=1)
        weights[name] = torch.cat([second, first, rest], dim=1)
    model = MEGNet()
    model.load_state_dict(weights)
    return model.eval()


class Matgl:
    def __init__(self, structures: list[Any], threads: int) -> None:
        torch.set_num_threads(threads)
        lightning.seed_everything(0)
        self.structures = structures
        weights = os.environ.get("MATGL_WEIGHTS", "")
        self.pretrained = load(weights) if os.path.exists(weights) else None
        self.trained = MEGNet()
        self.converter = Structure2Graph(self.trained.element_types, cutoff=4.0)
        parameters = sum(p.numel() for p in self.trained.parameters() if p.requires_grad)
        self.about = f"matgl {matgl.__version__}, PyTorch {torch.__version__}, {parameters:,} parameters"

    def graphs(self) -> list[tuple[Any, ...]]:
        return [self.converter.get_graph(structure) for structure in self.structures]

    def predict(self, batch_size: int) -> np.ndarray:
        module = ModelLightningModule(self.pretrained or self.trained.eval())
        examples = [(graph, lattice, torch.tensor(state), {"y": 0.0}) for graph, lattice, state in self.graphs()]
        results = []
        with torch.no_grad():
            for first in range(0, len(examples), batch_size):
                graph, lattices, states, _ = collate_fn_graph(examples[first : first + batch_size])
                results.append(module(graph, lat=lattices, state_attr=states))
        return torch.cat(results).numpy() * STD + MEAN

    def predictions(self, weights: str) -> list[float] | None:
        return self.predict(128).tolist() if weights == "matgl" and self.pretrained else None

    def train(self, targets: list[float], batch_size: int, epochs: int) -> list[float]:
        times = EpochTimes()
        with tempfile.TemporaryDirectory() as folder:
            data = MGLDataset(structures=self.structures, converter=self.converter, labels={"y": targets}, root=folder, save_cache=False)
            loader = DataLoader(data, batch_size=batch_size, shuffle=True, collate_fn=collate_fn_graph)
            module = ModelLightningModule(self.trained.train(), data_mean=float(np.mean(targets)), data_std=float(np.std(targets)))
            quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
            lightning.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=[times], **quiet).fit(module, loader)
        return times.seconds


if __name__ == "__main__":
    serve.main(Matgl)
