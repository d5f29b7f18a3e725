"""Fit the zoo's model with plain Keras: your own arrays, loss, optimizer and callbacks."""

import keras
import numpy as np

from tfmat import datasets, zoo
from tfmat.batching.arrays import batch_arrays
from tfmat.featurizers import CompositionFeaturizer
from tfmat.training.losses import RobustL1

data = datasets.load("exp_formation_enthalpy")
featurizer = CompositionFeaturizer()


def arrays(split):
    table = data.splits[split]
    records = featurizer.featurize(table.materials)
    inputs = batch_arrays(records, np.arange(len(records)), len(records))
    return inputs, {"enthalpy": table.targets["formation_enthalpy_per_atom"][:, None].astype("float32")}


model = zoo.LGDCNN(("enthalpy",), dim=128, conv_dim=128)
model.compile(optimizer=keras.optimizers.AdamW(1e-3), loss={"enthalpy": RobustL1()})
model.fit(*arrays("train"), validation_data=arrays("validation"), batch_size=128, epochs=5, verbose=2)

inputs, values = arrays("test")
error = np.abs(model.predict(inputs, verbose=0)["enthalpy"][:, :1] - values["enthalpy"]).mean()
print(f"test MAE after 5 epochs: {error:.3f} eV/atom")
