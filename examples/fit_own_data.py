"""Train on your own crystals, predict and export. my_cifs/ holds structure files and id_prop.csv with the columns id and band_gap."""

import keras

import tfmat

data = tfmat.load_data("my_cifs/", targets={"band_gap": "eV"}, split="formula", seed=0)  # or a CSV file, or a dataset's name
p = tfmat.Predictor.create("megnet", data.targets)
p.fit(data, epochs=100, callbacks=[keras.callbacks.TensorBoard("tb")], verbose=1)
print(p.evaluate(data).scores)
print(p.predict("my_cifs/"))
p.save("runs/gap")
p.export("gap.savedmodel")
