"""Acts as soon as a heavy package is imported, so that tfmat itself need not import it.

Keras: the zoo's layers, losses and optimizers become known to ``keras.saving.load_model`` after `import tfmat` alone. They are imported
when a saved model first names one.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

SAVED_OBJECTS = {
    "tfmat.layers.activations": ("softplus2",),
    "tfmat.layers.atom_list": ("ListEmbedding", "ListGraph"),
    "tfmat.layers.attention": ("CrysformerLayer", "EdgeEmbedding"),
    "tfmat.layers.bonds": ("BondGraph", "GaussianExpansion", "MEGNetBlock"),
    "tfmat.layers.composition": ("ElementEmbedding", "FractionEncoding", "GatedMeanHead"),
    "tfmat.layers.constants": ("ConstantState",),
    "tfmat.layers.neighbors": ("CrystalGraph", "MeanOverSites"),
    "tfmat.layers.normalization": ("LayerNorm", "SitesNorm"),
    "tfmat.layers.recurrent": ("BidirectionalRNN",),
    "tfmat.layers.sequence": ("MaskedConv1D", "NeighbourMaxPooling", "SoftAttentionResidual"),
    "tfmat.layers.set2set": ("Set2Set",),
    "tfmat.layers.stacked_lstm": ("StackedLSTM",),
    "tfmat.layers.summed_dense": ("SummedDense",),
    "tfmat.training.losses": ("BinaryCrossentropyWithLogits", "PhysicalMAPE", "PhysicalMSE", "RobustL1", "ScaledMAE", "ScaledMSE"),
    "tfmat.training.optimizers": ("Adam", "AdamW", "LookaheadLamb", "TriangularCycle"),
    "tfmat.zoo.lgdcnn": ("ElementMask",),
    "tfmat.zoo.model": ("ZooModel",),
}
"""Module -> names of the classes and functions in it that a saved model may name."""


def after_import(name: str, action: Callable[[], object]) -> None:
    """Call `action` once the package `name` is imported: now if it has been, else right after its import."""
    if sys.modules.get(name) is not None:  # None forbids the import
        action()
    elif not any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name, action))


def register_saved_objects() -> None:
    """Make what a saved model may name known to Keras, without importing it yet."""
    import keras

    known = keras.saving.get_custom_objects()
    for module, names in SAVED_OBJECTS.items():
        for name in names:
            known.setdefault(f"tfmat>{name}", _Later(module, name))


class _Later:
    """Stands for a class or function of a module until it is used; importing the module puts the real one in its place."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _found(self) -> Any:
        for module in SAVED_OBJECTS:
            importlib.import_module(module)
        return getattr(importlib.import_module(self._module), self._name)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute != "__name__":
            raise AttributeError(attribute)
        return getattr(self._found(), attribute)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._found()(*arguments, **keywords)


class _Finder(MetaPathFinder):
    """Sees the import of the package `name`."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.name, self.action, self.asking = name, action, False

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that acts afterwards."""
        if fullname != self.name or self.asking:
            return None
        self.asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self.asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(Loader):
    """Loads as the loader it replaces, which it puts back."""

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self.loader, self.finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader it replaces."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import the package, then act."""
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self.finder]
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.finder.action()
