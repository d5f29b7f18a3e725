"""Train on your own table with Keras callbacks, and predict: everything from `import tfmat`."""

import keras

import tfmat

data = tfmat.load_data("exp_formation_enthalpy")  # or a CSV file, or a folder: load_data("my_cifs/", targets={"band_gap": "eV"})
predictor = tfmat.Predictor.create("lgdcnn", data.targets, keywords={"dim": 64, "conv_dim": 64})
predictor.fit(data, epochs=5, callbacks=[keras.callbacks.CSVLogger("epochs.csv")], verbose=2)
print(predictor.score(data.test))
print(predictor.predict("CO2"))
