"""tfmat: Keras models that predict properties of materials.

A formula or a crystal goes in, a number with its unit comes out:

    import tfmat

    predictor = tfmat.Predictor.from_preset("mp-2018.6.1/formation_energy")  # one of tfmat.list_presets()
    predictor.predict("NaCl.cif")
    predictor.predict(["NaCl.cif", "my_cifs/", structure])

A model of your own, from a folder of CIF files with ``id_prop.csv``, a CSV file or a dataset by name:

    data = tfmat.load_data("my_cifs/", targets={"band_gap": "eV"}, split="formula", seed=0)
    predictor = tfmat.Predictor.create("megnet", data.targets)  # one of tfmat.list_models()
    predictor.fit(data, epochs=100, callbacks=[keras.callbacks.TensorBoard("tb")], verbose=1)
    predictor.evaluate(data).scores
    predictor.save("runs/gap")
    predictor.export("gap.savedmodel")

The same with plain Keras:

    model = tfmat.zoo.MEGNet(("band_gap",), cutoff=5.0)
    model.compile("adam", loss="mae")
    model.fit(data.to_tf("train", model, seed=0), validation_data=data.to_tf("validation", model), epochs=100)
    model.save("m.keras")  # keras.saving.load_model opens it
    predictor = tfmat.Predictor.from_model(model, data)  # predicts in units, and is saved and exported as above

A hyper-parameter search, and the predictor with the best ones:

    best = tfmat.tuning.search("megnet", data.targets, data.train, data.validation, "runs/tune", trials=20)
    predictor = best.train(data)

`tfmat.zoo` holds the architectures, `tfmat.tuning` the hyper-parameter search, `tfmat.export` the exporters for serving.
Names are imported on first use: `import tfmat` alone imports neither NumPy nor TensorFlow. After it, ``keras.saving.load_model`` knows the
layers of the zoo.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tfmat.on_import import after_import, register_saved_objects

if TYPE_CHECKING:
    from tfmat import datasets as datasets
    from tfmat import export as export
    from tfmat import tuning as tuning
    from tfmat import zoo as zoo
    from tfmat.analysis import cecv as cecv
    from tfmat.analysis import explain as explain
    from tfmat.architecture import list_models as list_models
    from tfmat.datasets import load_data as load_data
    from tfmat.errors import InputError as InputError
    from tfmat.memory import keep_memory as keep_memory
    from tfmat.predictor import Predictor as Predictor
    from tfmat.target import Target as Target
    from tfmat.zoo.presets import list_presets as list_presets

__version__ = "0.1.0"

_MODULES = {
    "cecv": "tfmat.analysis.cecv",
    "datasets": "tfmat.datasets",
    "explain": "tfmat.analysis.explain",
    "export": "tfmat.export",
    "tuning": "tfmat.tuning",
    "zoo": "tfmat.zoo",
}
_ATTRIBUTES = {
    "InputError": "tfmat.errors",
    "Predictor": "tfmat.predictor",
    "Target": "tfmat.target",
    "keep_memory": "tfmat.memory",
    "list_models": "tfmat.architecture",
    "list_presets": "tfmat.zoo.presets",
    "load_data": "tfmat.datasets",
}

__all__ = [
    "InputError",
    "Predictor",
    "Target",
    "__version__",
    "cecv",
    "datasets",
    "explain",
    "export",
    "keep_memory",
    "list_models",
    "list_presets",
    "load_data",
    "tuning",
    "zoo",
]


after_import("keras", register_saved_objects)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _ATTRIBUTES:
        value = globals()[name] = getattr(importlib.import_module(_ATTRIBUTES[name]), name)
        return value
    raise AttributeError(f"module 'tfmat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
