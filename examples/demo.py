"""From measured enthalpies to a served number, in about three minutes on two cores: train, compare, export, serve.

Every step is a command that you can type yourself; this script runs them one after the other and compares with two baselines.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tfmat import datasets
from tfmat.analysis.baselines import mean_predictor, random_forest
from tfmat.training.scores import regression_scores

MODEL, SERVING = Path("runs/demo"), Path("serving/demo")
FORMULAS = ["Fe2O3", "NaCl", "TiO2"]

# What a client runs: TensorFlow alone, no tfmat, no Keras, no pymatgen.
CLIENT = """
import json, sys
import tensorflow as tf
config = json.load(open(sys.argv[1] + "/assets.extra/tfmat.json"))
answer = tf.saved_model.load(sys.argv[1]).signatures["from_formula"](tf.constant(sys.argv[2:]))
assert "tfmat" not in sys.modules
for target in config["targets"]:
    values, spreads = answer[target["name"]].numpy()[:, 0], answer[target["name"] + "_uncertainty"].numpy()[:, 0]
    for formula, value, spread in zip(sys.argv[2:], values, spreads):
        print(f"  {formula:8} {target['name']} = {value:.3f} +- {spread:.3f} {target['unit']}")
"""


def run(*command: str) -> None:
    print(f"\n$ tfmat {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", "tfmat", *command], check=True)


def main() -> None:
    began = time.monotonic()
    for old in (SERVING / "savedmodel", SERVING / "model.tflite", SERVING / "model.tflite.json"):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    run("train", "lgdcnn", "--out", str(MODEL), "--overwrite")
    run("evaluate", str(MODEL), "--split", "test")

    data = datasets.load(datasets.DEFAULT)
    (target, unit), training, test = next(iter(data.units.items())), data.splits["train"], data.splits["test"]
    stored = json.loads(next(MODEL.glob("evaluations/*test/scores.json")).read_text())
    errors = {
        "mean of the training values": regression_scores(test.targets[target], mean_predictor(training, test, target))["MAE"],
        "random forest, Magpie features": regression_scores(test.targets[target], random_forest(training, test, target))["MAE"],
        "L-G-DCNN (tfmat)": stored["scores"][target]["MAE"],
    }
    print(f"\n{data.title}\n{len(training):,} training rows; error on the {len(test)} test rows, the same for all three:")
    for name, error in errors.items():
        print(f"  {name:32} MAE {error:.3f} {unit}")

    run("export", str(MODEL), "--format", "savedmodel", "--out", str(SERVING / "savedmodel"))
    run("export", str(MODEL), "--format", "litert", "--out", str(SERVING / "model.tflite"))
    print("\nThe SavedModel in a fresh process that imports only TensorFlow:", flush=True)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(
        [sys.executable, "-c", CLIENT, str(SERVING / "savedmodel"), *FORMULAS], check=True, env=environment, stderr=subprocess.DEVNULL
    )
    print(f"\nDone in {time.monotonic() - began:.0f} s. The card and the plots are in {MODEL}/, the exports in {SERVING}/.")


if __name__ == "__main__":
    main()
