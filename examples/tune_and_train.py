"""Search hyper-parameters, and train a predictor with the best ones. Needs `pip install '.[tuning]'`."""

import tfmat

data = tfmat.load_data("exp_formation_enthalpy")
best = tfmat.tuning.search("lgdcnn", data.targets, data.train, data.validation, "runs/tune", tuner="random", trials=20, epochs=40)
p = best.train(data, verbose=2)
print(best.best.values, p.evaluate(data).scores)
p.save("runs/best")
