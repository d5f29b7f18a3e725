"""What a search minimises, and which of its trials is the best."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("keras_tuner")

from tuning_cases import tables

from tfmat.errors import InputError
from tfmat.target import Target
from tfmat.tuning.objective import Objective
from tfmat.tuning.results import TrialResult, best_of


def test_objectives():
    training, _ = tables()
    values = training.targets["gap"]
    both = dataclasses.replace(training, targets={"gap": values, "metal": (values > 1.6).astype(float)})
    gap, metal = Target("gap", "eV"), Target("metal", task="binary")
    scores = {"gap": {"MAE": 0.3, "n": 26.0}, "metal": {"log_loss": 0.2, "accuracy": 0.9}}
    one = Objective.of([gap], both)
    assert (one.name, one.unit, one.value(scores)) == ("validation MAE of gap", "eV", 0.3)
    classes = Objective.of([metal], both)
    assert (classes.name, classes.unit, classes.value(scores)) == ("validation log loss of metal", "", 0.2)
    share = both.targets["metal"].mean()
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    several = Objective.of([gap, metal], both)
    assert several.value(scores) == pytest.approx((0.3 / np.abs(values - values.mean()).mean() + 0.2 / entropy) / 2)
    assert several.unit == "" and several.errors(scores) == {"gap": 0.3, "metal": 0.2}
    assert Objective.of([gap], dataclasses.replace(training, targets={"gap": np.full(70, 2.0)})).references == {"gap": 1.0}
    for bad in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="the validation error of 'gap' is"):
            one.value({"gap": {"MAE": bad}})


def test_the_best_of_equal_trials_is_the_longest():
    results = [TrialResult(str(i), "completed", {}, value, epochs) for i, (value, epochs) in enumerate([(0.5, 2), (0.4, 2), (0.4, 6)])]
    assert best_of([*results, TrialResult("3", "failed", {})]).name == "2" and best_of([]) is None
