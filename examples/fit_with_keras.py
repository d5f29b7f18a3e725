"""Fit a model of the zoo with plain Keras, and predict in units. my_cifs/ holds structure files and id_prop.csv."""

import keras

import tfmat

data = tfmat.load_data("my_cifs/", targets={"band_gap": "eV"}, split="formula", seed=0)
model = tfmat.zoo.MEGNet(("band_gap",), cutoff=5.0)
train = data.to_tf("train", model, batch_size=32, seed=0)  # tf.data under TensorFlow; zoo.LGDCNN, Crysformer, ... alike
model.compile("adam", loss="mae", weighted_metrics=["mse"])
stop = keras.callbacks.EarlyStopping(patience=20, restore_best_weights=True)
model.fit(train, validation_data=data.to_tf("validation", model), epochs=100, callbacks=[stop], verbose=2)
model.save("m.keras")

model = keras.saving.load_model("m.keras")  # also in a new process, after `import tfmat` alone
p = tfmat.Predictor.from_model(model, data)
print(p.evaluate(data).scores)
print(p.predict("my_cifs/"))
p.save("gap.keras")  # one file for tfmat.Predictor.load, `tfmat predict` and Keras
