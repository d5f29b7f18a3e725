"""Symbols against pymatgen; element tables against their CSV files."""

import csv

import numpy as np
import pytest

from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS, TABLES, element_table, missing_elements
from tfmat.errors import InputError


def test_symbols_are_pymatgens():
    from pymatgen.core import Element

    assert len(SYMBOLS) == 119
    assert [Element.from_Z(z).symbol for z in range(1, 119)] == list(SYMBOLS[1:])
    assert all(Element(symbol).Z == z for symbol, z in ATOMIC_NUMBERS.items())


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_a_row_for_every_element_and_zero_padding(name):
    table = element_table(name)
    assert table.shape[0] == 119
    assert table.dtype == np.float32
    assert np.isfinite(table).all()
    assert not table[0].any()
    missing = [ATOMIC_NUMBERS[symbol] for symbol in missing_elements(name)]
    assert np.flatnonzero(~table[1:].any(axis=1)).tolist() == [z - 1 for z in missing]


def test_standardised_tables_have_unit_columns():
    table = element_table("magpie")[1:98]
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(table.std(axis=0), 1, atol=1e-5)
    assert missing_elements("magpie")[0] == "Cf"


def test_a_caller_cannot_change_the_table():
    element_table("onehot")[:] = 7
    np.testing.assert_array_equal(element_table("onehot")[1:], np.eye(118))


@pytest.mark.parametrize("name", ["mat2vec", "onehot", "magpie", "matscholar"])
def test_tables_equal_the_published_files(name, mirror):
    with (mirror / "element_embeddings" / f"{name}.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    z = [ATOMIC_NUMBERS[row[0]] for row in rows]
    raw = np.asarray([row[1:] for row in rows], dtype=float)
    if name == "magpie":
        raw = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    np.testing.assert_allclose(element_table(name)[z], raw, atol=1e-6)


def test_a_file_is_returned_as_it_stands(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("element,a,b\nO,2,1000\nNull,9,9\nH,1,-1\n")
    table = element_table(str(path))
    np.testing.assert_array_equal(table[[0, 1, 8]], [[0, 0], [1, -1], [2, 1000]])
    assert len(missing_elements(str(path))) == 116


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("element,a\nXx,1\n", "row 2: unknown element 'Xx'"),
        ("element,a\nH,one\n", "row 2: 'one' is not a finite number"),
        ("element,a\nH,\n", "no value for H"),
        ("element,a\nH,1,2\n", "row 2: 3 cells under 2 columns"),
        ("element,a\nH,1\nH,2\n", "row 3: element H stands twice"),
        ("element\nH\n", "holds no element features"),
        ("", "holds no element features"),
    ],
)
def test_a_bad_file_is_told(tmp_path, content, message):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        element_table(str(path))
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_unknown_names(tmp_path, monkeypatch):
    monkeypatch.setenv("TFMAT_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"unknown element table 'mat2vek'.*did you mean 'mat2vec'"):
        element_table("mat2vek")
    with pytest.raises(InputError, match="cannot be read"):
        element_table(str(tmp_path / "none.csv"))
