"""Registers the TFDS builders as soon as `tensorflow_datasets` is imported, so that `import tfmat.datasets` need not import it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_TFDS = "tensorflow_datasets"
_BUILDERS = "tfmat.datasets.builders"


def register() -> None:
    """Register the builders, now if TFDS has been imported, else right after its import."""
    if _TFDS in sys.modules:
        importlib.import_module(_BUILDERS)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Sees the import of TFDS."""

    asking = False

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that registers the builders afterwards."""
        if fullname != _TFDS or self.asking:
            return None
        self.asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self.asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads as the loader it replaces, which it puts back."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader it replaces."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import TFDS, then the builders."""
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        importlib.import_module(_BUILDERS)
