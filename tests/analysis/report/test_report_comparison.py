"""Several runs on the same rows: which rows are the same, and how sure a difference is."""

import dataclasses

import numpy as np
import pytest
from report_cases import GAP, METAL, MODULUS, frame, made_run

from tfmat.analysis.report import compare
from tfmat.analysis.report.comparison import bootstrap_means
from tfmat.errors import InputError


def pair(first, second, targets=(GAP,)):
    return compare([made_run("a", targets, first), made_run("b", targets, second)])


def test_rows_are_matched_by_id_whatever_their_order():
    first, second = frame(seed=0), frame(seed=1).sample(frac=1, random_state=0).iloc[:50]
    (paired,) = pair(first, second)
    assert paired.available == [60, 50] and paired.differing == 0 and paired.by.startswith("id")
    assert paired.results[0].ids == paired.results[1].ids and len(paired.results[0]) == 50
    np.testing.assert_allclose(paired.results[0].true, paired.results[1].true)
    expected = (second["gap"] - second["gap_true"]).abs().mean() - (first["gap"] - first["gap_true"]).abs()[second.index].mean()
    assert paired.difference(1)[0] == pytest.approx(expected)


def test_composition_may_be_written_in_another_way():
    second = frame(seed=1)
    second["material"] = second["material"].replace({"Fe2O3": "O6Fe4", "NaCl": "Na4Cl4", "LiFePO4": "Li1 Fe1 (PO4)"})
    (paired,) = pair(frame(), second)
    assert len(paired.results[0]) == 60 and paired.by.startswith("id")


def test_rows_are_matched_by_content_where_ids_differ():
    second = frame(seed=1)
    second["id"] = [f"other-{i}" for i in range(60)]
    (paired,) = pair(frame(), second.iloc[10:])
    assert len(paired.results[0]) == 50 and paired.by.startswith("composition")


def test_ambiguous_content_is_not_matched():
    first, second = frame(rows=24), frame(rows=24, seed=1)
    second["id"] = [f"other-{i}" for i in range(24)]
    for predictions in (first, second):
        predictions.loc[12, "gap_true"] = predictions.loc[0, "gap_true"]  # the same formula as row 0
    (paired,) = pair(first, second)
    assert len(paired.results[0]) == 22 and not {"m0", "m12"} & set(paired.results[0].ids)


def test_rows_with_another_value_are_left_out_and_counted():
    second = frame(seed=1)
    second.loc[:4, "gap_true"] += 0.5
    (paired,) = pair(frame(), second)
    assert len(paired.results[0]) == 55 and paired.differing == 5


def test_values_with_seven_digits_are_the_same():
    second = frame(seed=1)
    second["gap_true"] = [float(f"{value:.7g}") for value in second["gap_true"]]
    assert len(pair(frame(), second)[0].results[0]) == 60


def other_unit(run):
    result = dataclasses.replace(run.results[0], target=dataclasses.replace(GAP, unit="meV"))
    return dataclasses.replace(run, results=[result])


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (made_run("b", (MODULUS,)), r"no common target \(a: gap; b: modulus\)"),
        (other_unit(made_run("b")), "gap is in eV in a and in meV in b. Expected runs with the same units"),
        (made_run("b", predictions=frame().assign(id="x", material="CuS")), r"no common rows \(rows: a 60, b 60\)"),
        (made_run("b", predictions=frame().assign(gap_true=9.0)), "60 rows with the same id and composition have another true value"),
        (made_run("b", predictions=frame().iloc[:1]), "have 1 common row "),
    ],
    ids=["target", "unit", "rows", "values", "one row"],
)
def test_what_cannot_be_compared_is_one_line(second, said):
    with pytest.raises(InputError, match=said) as caught:
        compare([made_run("a"), second])
    assert "\n" not in str(caught.value)


def test_only_common_targets_are_compared():
    runs = [made_run("a", (GAP, MODULUS)), made_run("b", (METAL, MODULUS))]
    runs[1] = dataclasses.replace(runs[1], results=[runs[1].results[0], runs[0].results[1]])
    assert [paired.results[0].target.name for paired in compare(runs)] == ["modulus"]


def test_bootstrap_is_paired_and_seeded():
    rng = np.random.default_rng(0)
    common, extra = rng.exponential(5.0, 400), rng.normal(0.1, 0.5, 400)
    errors = np.stack([common, common + extra])
    means = bootstrap_means(errors)
    np.testing.assert_array_equal(means, bootstrap_means(errors))
    assert not np.array_equal(means, bootstrap_means(errors, seed=1))
    differences = means[:, 1] - means[:, 0]
    assert differences.std() == pytest.approx(extra.std() / 20, rel=0.05)  # not that of independent runs, ten times as wide
    assert means[:, 0].std() == pytest.approx(common.std() / 20, rel=0.05)


def test_many_rows_are_drawn_in_parts():
    errors = np.random.default_rng(0).exponential(size=(2, 300_000))
    means = bootstrap_means(errors, resamples=20)
    assert means.shape == (20, 2) and np.isfinite(means).all()
    assert len(np.unique(means[:, 0])) == 20


def test_interval_holds_the_true_difference_and_tells_which_is_better():
    better = frame(rows=400, noise=0.2, seed=1)
    (paired,) = pair(frame(rows=400, noise=0.6), better)
    mean, low, high = paired.difference(1)
    assert low < mean < high < 0
    smaller, larger = paired.better(1)
    assert smaller > 0.6 and smaller + larger == pytest.approx(1)
    same, same_low, same_high = pair(better, better)[0].difference(1)
    assert same == same_low == same_high == 0


def test_classes():
    (paired,) = pair(frame((METAL,)), frame((METAL,), seed=1, noise=3.0), (METAL,))
    assert set(paired.scores(0)) >= {"accuracy", "ROC-AUC", "log_loss"}
    assert paired.mean_error(0)[0] == pytest.approx(100 * (1 - paired.scores(0)["accuracy"]))
    assert paired.difference(1)[1] > 0
