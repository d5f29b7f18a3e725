"""tfmat: Keras models that predict properties of materials.

A formula or a crystal goes in, a number with its unit comes out:

    import tfmat

    predictor = tfmat.Predictor.load("runs/megnet")
    predictor.predict("NaCl.cif")
    predictor.predict(["NaCl.cif", "my_cifs/", structure])

`tfmat.zoo` holds the architectures, `tfmat.tuning` the hyper-parameter search, `tfmat.export` the exporters for serving.
Names are imported on first use: `import tfmat` alone imports neither NumPy nor TensorFlow. After it, ``keras.saving.load_model`` knows the
layers of the zoo.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tfmat.on_import import after_import, register_saved_objects

if TYPE_CHECKING:
    from tfmat import cecv as cecv
    from tfmat import datasets as datasets
    from tfmat import explain as explain
    from tfmat import zoo as zoo
    from tfmat.errors import InputError as InputError
    from tfmat.memory import keep_memory as keep_memory
    from tfmat.predictor import Predictor as Predictor
    from tfmat.target import Target as Target

__version__ = "0.1.0"

_MODULES = ("cecv", "datasets", "explain", "zoo")
_ATTRIBUTES = {"InputError": "tfmat.errors", "Predictor": "tfmat.predictor", "Target": "tfmat.target", "keep_memory": "tfmat.memory"}

__all__ = ["InputError", "Predictor", "Target", "__version__", "cecv", "datasets", "explain", "keep_memory", "zoo"]


after_import("keras", register_saved_objects)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tfmat.{name}")
    if name in _ATTRIBUTES:
        value = globals()[name] = getattr(importlib.import_module(_ATTRIBUTES[name]), name)
        return value
    raise AttributeError(f"module 'tfmat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
