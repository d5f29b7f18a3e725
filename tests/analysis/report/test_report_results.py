"""What a report counts: rows, errors, elements, sizes."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from report_cases import GAP, METAL, frame, made_run

from tfmat.analysis.report import Result
from tfmat.analysis.report.crystal_text import crystal_text
from tfmat.analysis.report.figures import calibration, size_groups
from tfmat.analysis.report.images import cumulative
from tfmat.analysis.report.periodic_table import place
from tfmat.errors import InputError
from tfmat.training.scores import worst_rows


def made(materials, true, predicted, **columns):
    data = {"id": [f"m{i}" for i in range(len(true))], "material": materials, "gap_true": true, "gap": predicted}
    return Result.of(GAP, pd.DataFrame(data | columns))


def test_rows_without_value_or_prediction_are_left_out():
    result = made(["NaCl", "KCl", "MgO", "CaO"], [1.0, np.nan, 3.0, 4.0], [1.5, 2.0, np.nan, np.inf])
    assert (result.ids, result.materials, result.unpredicted) == (["m0"], ["NaCl"], 2)
    np.testing.assert_allclose(result.errors, [0.5])


def test_errors_by_element():
    result = made(["NaCl", "Na2O", "Fe2O3", "DCl"], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 4.0, 8.0])
    assert result.by_element() == {1: (1, 8.0), 8: (2, 3.0), 11: (2, 1.5), 17: (2, 4.5), 26: (1, 4.0)}


def test_wrong_classes_are_counted_in_percent():
    result = Result.of(
        METAL, pd.DataFrame({"id": list("abcd"), "material": ["Al"] * 4, "metal_true": [0, 0, 1, 1], "metal": [0.1, 0.6, 0.6, 0.2]})
    )
    np.testing.assert_allclose(result.errors, [0, 100, 0, 100])
    assert (result.error_name, result.error_unit) == ("share of wrong classes", "%")


def test_size_is_sites_of_crystals_and_else_elements():
    counted, sizes = made(["NaCl", "Fe2O3", "LiFePO4"], [1.0, 2, 3], [1.0, 2, 3]).sizes()
    assert counted == "elements in the formula" and sizes.tolist() == [2, 2, 4]
    counted, sizes = made(["Na4Cl4", "Al2"], [1.0, 2], [1.0, 2], sites=pd.array([8, 2], dtype="Int64")).sizes()
    assert counted == "sites in the cell" and sizes.tolist() == [8, 2]


@pytest.mark.parametrize(
    "sizes", [[3, 3, 3], [1, 2, 9, 9], list(range(1, 200)), [1] * 500 + list(range(2, 40)), [2, 4, 6, 8, 10, 12, 14, 16, 400]]
)
def test_size_groups_hold_every_row_once(sizes):
    sizes = np.array(sizes)
    groups = size_groups(sizes)
    assert 1 <= len(groups) <= 8
    counts = [int(((sizes >= low) & (sizes <= high)).sum()) for low, high in groups]
    assert sum(counts) == len(sizes) and min(counts) > 0
    assert all(high < low for (_, high), (low, _) in itertools.pairwise(groups))


def test_places_on_the_periodic_table():
    expected = {
        1: (1, 1),
        2: (1, 18),
        4: (2, 2),
        5: (2, 13),
        26: (4, 8),
        56: (6, 2),
        57: (9, 3),
        71: (9, 17),
        72: (6, 4),
        92: (10, 6),
        118: (7, 18),
    }
    assert {number: place(number) for number in expected} == expected
    assert len({place(number) for number in range(1, 119)}) == 118


def test_worst_rows():
    values, predictions = np.array([0.0, 1, 2, np.nan, 4]), np.array([0.5, -2, 2, 1, np.nan])
    assert worst_rows(values, predictions).tolist() == [1, 0, 2]
    assert worst_rows(values, predictions, most=1).tolist() == [1]


@pytest.mark.parametrize("rows", [1, 3, 500, 20_000])
def test_cumulative_is_short_and_ends_at_the_largest_error(rows):
    errors = np.random.default_rng(0).exponential(size=rows)
    x, share = cumulative(errors)
    assert len(x) <= 501 and x[-1] == errors.max() and share[-1] == 100
    assert share[np.searchsorted(x, np.median(errors), side="right") - 1] == pytest.approx(50, abs=0.5 if rows > 100 else 17) or rows == 1


def test_crystal_text():
    cell = [[4.0, 0, 0], [-2.0, 2 * 3**0.5, 0], [0, 0, 6.0]]
    text = crystal_text({"cell": cell, "species": ["Zn", "O"] * 40, "frac": [[0, 0, 0.25]] * 80})
    assert text.splitlines()[:3] == [
        "a = 4.0000 Å  b = 4.0000 Å  c = 6.0000 Å",
        "α = 90.00°  β = 90.00°  γ = 120.00°",
        "Zn   0.0000   0.0000   0.2500",
    ]
    assert text.endswith("and 20 more sites") and len(text.splitlines()) == 63


@pytest.mark.parametrize(("rows", "said"), [(0, "no rows with a value"), (1, "1 row with a value")])
def test_a_report_needs_two_rows(rows, said):
    made_run(rows=2).check("p.csv")
    with pytest.raises(InputError, match=rf"p.csv: {said} and a finite prediction. Expected at least two rows"):
        made_run(rows=rows).check("p.csv")


def test_predictions_that_are_not_finite_are_told():
    predictions = frame()
    predictions["gap"] = np.nan
    with pytest.raises(InputError, match=r"no rows with a value and a finite prediction \(60 predictions are not finite\)"):
        made_run(predictions=predictions).check("p.csv")


def test_calibration_of_errors_that_are_as_predicted():
    """Laplace errors with the predicted standard deviation: 75.7 % lie within it."""
    coverage, spread = calibration(made_run(rows=20_000).results[0])
    share = float(re.search(r"standard deviation: ([\d.]+)%", coverage.alternative).group(1))
    assert share == pytest.approx(75.7, abs=1.0)
    lowest, highest = (float(text) for text in re.findall(r"([\d.]+) (?:where|eV)", spread.alternative.replace("where it is highest ", "")))
    assert (lowest, highest) == pytest.approx((0.3 * 0.55, 0.3 * 1.45), rel=0.1)
