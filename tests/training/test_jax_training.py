"""Training under Keras' JAX backend: resumption, averages, the number of programs, mixed precision."""

import pytest
from jax_cases import needs_jax, run_on_jax

RUNS = """
import dataclasses, json, logging, os, pathlib, signal, sys
import jax, numpy as np, pytest, tiny
tiny.register(pytest.MonkeyPatch())
from test_training import table, weights
from tfmat.batching.pipeline import Batches
from tfmat.predictor import Predictor
from tfmat.training.recipe import Recipe
from tfmat.target import Target
from tfmat.training.loop import Interrupted, Schedule, train

def fitted(recipe, **options):
    predictor = Predictor.create("tiny", [Target("y")], seed=1)
    predictor.fit(table(), table(), recipe=recipe, **options)
    return predictor

def stop(epoch, epochs, step, steps, figures):
    if (epoch, step) == (2, 2):
        os.kill(os.getpid(), signal.SIGTERM)

base = Recipe(loss="mae", learning_rate=3e-3, batch_size=16, epochs=4)
recipes = {
    "ema": dataclasses.replace(base, ema=0.9, fraction_jitter=0.02, clip_norm=1.0),
    "swa": dataclasses.replace(base, optimizer="lookahead_lamb", schedule="triangular", swa_epochs=2),
    "accumulation": dataclasses.replace(base, accumulation=4, clip_norm_each=0.1, rates=(("hidden_1", 0.1),), keep="best"),
}
found = {}
for name, recipe in recipes.items():
    checkpoint, epochs = pathlib.Path(sys.argv[1], name), 0
    try:
        fitted(recipe, checkpoint=checkpoint, report=stop)
    except Interrupted as error:
        epochs = error.epoch
    resumed, whole = fitted(recipe, checkpoint=checkpoint, resume=True), fitted(recipe)
    found[name] = {
        "epochs": epochs,
        "same": all(np.array_equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True)),
        "losses": [row["loss"] for row in whole.history],
        "validation": [whole.info["validation"]["y"]["MAE"], whole.history[-1]["val_y_mae"]],
    }

lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("jax").addHandler(Keep())
jax.config.update("jax_log_compiles", True)
data = dataclasses.replace(table(75), materials=["Na" if i % 2 else "LiNaKOSFeCl" for i in range(75)])
predictor = Predictor.create("tiny", [Target("y")])
records = predictor.featurizer.featurize(data.materials)
batches = Batches.of(records, {"y": (data.targets["y"] / 10).astype("float32")}, 16, seed=0)
train(predictor.model, predictor.targets, base, batches, batches, Schedule(3))
jax.config.update("jax_log_compiles", False)
finished = [line for line in lines if "Finished XLA compilation" in line]
compiled = {step: sum(f"jit({step})" in line for line in finished) for step in ("train_step", "test_step")}
shapes = {tuple(array.shape for array in inputs.values()) for epoch in range(3) for inputs, *_ in batches.epoch(epoch)}
found["compiled"] = {"xla": compiled, "shapes": len(shapes), "steps": batches.plan.steps}

mixed = fitted(dataclasses.replace(base, epochs=8), precision="mixed_bfloat16")
exact = fitted(dataclasses.replace(base, epochs=8))
found["precision"] = {
    "losses": [[row["loss"] for row in predictor.history] for predictor in (exact, mixed)],
    "policy": [str(layer.dtype_policy.name) for layer in mixed.model.layers if layer.weights],
    "info": mixed.info["precision"],
    "validation": [mixed.info["validation"]["y"]["MAE"], mixed.history[-1]["val_y_mae"]],
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return run_on_jax(RUNS, tmp_path_factory.mktemp("checkpoints"))


@needs_jax
@pytest.mark.parametrize("name", ["ema", "swa", "accumulation"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(found, name):
    run = found[name]
    assert run["epochs"] == 1
    assert run["same"]
    assert run["losses"][-1] < run["losses"][0]
    if name != "swa":  # there the weights are replaced by their average in the end
        assert run["validation"][0] == pytest.approx(run["validation"][1], rel=1e-4)


@needs_jax
def test_one_program_per_shape_and_no_more(found):
    counted = found["compiled"]
    assert counted["shapes"] > 1
    assert counted["steps"] > counted["shapes"]
    assert counted["xla"] == {"train_step": counted["shapes"], "test_step": counted["shapes"]}, "as JAX itself logs"


@needs_jax
def test_mixed_precision_learns_what_float32_does(found):
    exact, mixed = found["precision"]["losses"]
    assert mixed[-1] < 0.9 * mixed[0]
    assert mixed == pytest.approx(exact, rel=0.05)
    assert mixed != exact
    assert set(found["precision"]["policy"]) == {"float32"}, "the model that is kept computes in float32"
    assert found["precision"]["info"] == "mixed_bfloat16"
    validation, last = found["precision"]["validation"]
    assert validation == pytest.approx(last, rel=0.02)
