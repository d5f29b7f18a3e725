"""Training under `tf.distribute.MirroredStrategy` is training on one device; see `distribution_cases` for what is trained.

Everything runs in processes of its own: logical CPUs must be set before TensorFlow starts, and a process takes one strategy.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tfmat.batching.arrays import target_arrays

CASES = pathlib.Path(__file__).with_name("distribution_cases.py")


def found(devices, *names):
    """What the cases found in a process of its own."""
    paths = os.pathsep.join(filter(None, [*map(str, CASES.parents[:3]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, str(CASES), str(devices), *names]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1]) | {"stderr": result.stderr}


def assert_as_on_one_device(case, devices=2):
    """Losses, metrics and weights after three epochs, and the replicas' copies of the weights."""
    assert case["weights apart"] < 1e-4 < 5e-4 < case["trained by"]
    assert case["figures apart"] < 1e-4 and case["figures"] >= 3 * 3
    assert case["copies apart"] == 0
    assert case["said"] == f"mirrored on {devices} devices"


@pytest.fixture(scope="module")
def two():
    return found(2, "composition", "crystal", "one-sided", "refused")


@pytest.fixture(scope="module")
def longer():
    return found(2, "accumulated", "resumed", "command")


@pytest.mark.parametrize("case", ["composition", "crystal"])
def test_two_devices_train_as_one(two, case):
    """Uneven last batches, missing targets, several lengths; clipping, moving average, decay, rates by layer and jitter. Crystals, whose
    lists of sites and bonds differ in length from replica to replica.
    """
    assert_as_on_one_device(two[case])


@pytest.mark.slow
def test_two_devices_train_as_one_in_other_ways(longer):
    """Accumulation and the best epoch."""
    assert_as_on_one_device(longer["accumulated"])


def test_the_mean_is_over_the_batch_and_not_over_the_replicas(two):
    """One batch has real rows in the first replica only: the mean of the replicas' means is far off."""
    case = two["one-sided"]
    assert case["loss"] == pytest.approx(case["mean"], rel=1e-5)
    assert abs(case["loss"] - case["mean of means"]) > 0.1


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_uninterrupted_one(longer):
    case = longer["resumed"]
    assert case["epoch"] == 2 and case["apart"] == 0
    assert case["losses"][0] == case["losses"][1]


@pytest.mark.slow
def test_dropout_differs_from_replica_to_replica(longer):
    first, second = longer["resumed"]["seeds"]
    assert first[0] != second[0] and first[1] == second[1]


@pytest.mark.slow
def test_command_line(longer):
    case = longer["command"]
    assert case["codes"] == [130, 2, 0, 0, 2]
    assert "--strategy cannot be changed: --resume continues a run with its own settings" in longer["stderr"]
    assert "unknown strategy 'all'. Expected one of none, mirrored" in longer["stderr"]
    assert longer["stderr"].count("mirrored on 2 devices") == 1
    assert case["apart"] < 1e-4
    assert case["said"] == ["mirrored on 2 devices", None]
    assert ", seed 0, mirrored on 2 devices, " in case["card"]


def test_what_cannot_be_trained_is_said_in_a_line(two):
    assert two["refused"] == [
        "tiny computes in float16, which is not trained under a strategy. Expected bfloat16 or float32",
        "unknown strategy 'mirror'. Expected one of none, mirrored",
    ]


@pytest.mark.slow
def test_rows_that_the_replicas_do_not_divide():
    """Batches of 16 rows on three devices get two empty rows."""
    assert_as_on_one_device(found(3, "odd")["odd"], devices=3)


def test_weights_make_the_mean_of_the_present_targets_for_any_number_of_rows():
    column = {"y": np.array([1.0, np.nan, 3.0], np.float32)}
    for rows in (3, 4, 9):
        _, weights = target_arrays(column, np.arange(3), rows)
        np.testing.assert_allclose(np.mean(weights["y"] * np.array([1.0, 0, 3] + [0] * (rows - 3))), 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lgdcnn", "paper", "lists", "neighbors"])
def test_two_devices_train_as_one_with_other_models(case):
    """Compositions; published averaging; atom lists, where one replica has none; neighbours."""
    assert_as_on_one_device(found(2, case)[case])


@pytest.mark.slow
def test_trials_of_a_search_train_as_on_one_device():
    """Several trials in a process, under its one strategy."""
    one, two = found(2, "tuned")["tuned"]["trials"]
    assert [trial[:2] for trial in two] == [["0", "completed"], ["1", "completed"]]
    np.testing.assert_allclose([float(trial[2]) for trial in one], [float(trial[2]) for trial in two], rtol=1e-4)
    assert one[0][2] != one[1][2]


@pytest.mark.slow
def test_multi_worker_still_fails_as_documented():
    """When this fails, Keras has been repaired: docs/multi_worker.md is out of date."""
    script = CASES.parents[2] / "docs" / "multi_worker.py"
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=600)
    assert result.returncode != 0 and "2 replicas" in result.stdout
    assert "_maybe_symbolic_build" in result.stdout and "with an unsupported type" in result.stdout
