"""Acts as soon as a heavy package is imported, so that tfmat itself need not import it.

Keras: the zoo's layers, losses and optimizers become known to ``keras.saving.load_model`` after `import tfmat` alone. They are imported
when a saved model first names one.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_REGISTERED = re.compile(r'^@keras\.saving\.register_keras_serializable\("tfmat"\)\n(?:@.*\n)*(?:class|def) (\w+)', re.MULTILINE)


@functools.cache
def saved_objects() -> dict[str, str]:
    """Name of each class and function that a saved model may name -> its module: what tfmat's own files register with Keras.

    They are found in the text of the files, which are not imported for it.
    """
    root = Path(__file__).parent
    files = [path for folder in ("layers", "training", "zoo") for path in sorted((root / folder).glob("*.py"))]
    return {name: f"tfmat.{path.parent.name}.{path.stem}" for path in files for name in _REGISTERED.findall(path.read_text("utf-8"))}


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
    for name, module in saved_objects().items():
        known.setdefault(f"tfmat>{name}", _Later(module, name))


class _Later:
    """Stands for a class or function of a module until it is used; importing the module puts the real one in its place."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _found(self) -> Any:
        for module in sorted({*saved_objects().values()}):
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
        """The spec that the other finders give, whose loader acts once it has run the package."""
        if fullname != self.name or self.asking:
            return None
        self.asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self.asking = False
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            execute = loader.exec_module

            def execute_and_act(module: ModuleType) -> None:
                del loader.exec_module  # the method of its class again
                sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
                execute(module)
                self.action()

            loader.exec_module = execute_and_act
        return spec
