"""Several datasets and files as one: rows keep their source, ids stay apart, and what does not fit together is refused."""

import pathlib

import numpy as np
import pytest

from tfmat import load_data
from tfmat.crystal import Crystal
from tfmat.data.table import Table
from tfmat.datasets import open_data, read_files
from tfmat.datasets.dataset import Dataset
from tfmat.datasets.files import MergedDataset, merge
from tfmat.errors import InputError

METALS, ANIONS = ("Li", "Na", "K", "Rb", "Cs"), ("F", "Cl", "Br", "I")


def write(path: pathlib.Path, count: int = 20, header: str = "id,formula,gap", extra: str = "") -> str:
    """Salts with the ids 0, 1, 2, ...; ten of them stand in every file."""
    path.parent.mkdir(exist_ok=True)
    salts = [f"{a}{b}" for a in METALS for b in ANIONS][:count]
    path.write_text("\n".join([header, *(f"{i},{salt},{0.1 * i}{extra}" for i, salt in enumerate(salts))]) + "\n")
    return str(path)


def named(name: str, unit: str = "eV", task: str = "regression", materials: list | None = None) -> Dataset:
    """A dataset with a split of its own."""
    materials = materials or ["MgO", "CaO", "SrO"]
    tables = [Table([m], {"gap": np.array([1.0])}, [f"{i}"], np.array([2]), name) for i, m in enumerate(materials)]
    kind = "crystal" if isinstance(materials[0], Crystal) else "composition"
    splits = dict(zip(("train", "validation", "test"), tables, strict=True))
    return Dataset(name, "1", name, {"gap": unit}, {"gap": task}, kind, splits, True, citation=f"{name} et al.", licence="CC0")


def test_rows_are_tagged_and_ids_stay_apart(tmp_path: pathlib.Path) -> None:
    first, second = write(tmp_path / "a.csv"), write(tmp_path / "b.csv", 10)
    data = open_data([first, second])
    assert isinstance(data, MergedDataset) and data.sources == (first, second) and data.name == f"{first} + {second}"
    rows = Table.join(list(data.splits.values()))
    assert len(rows) == 30 == len(set(rows.ids)) and rows.origins is not None
    assert {origin: rows.origins.count(origin) for origin in data.sources} == {first: 20, second: 10}
    for identifier, origin, material, value in zip(rows.ids, rows.origins, rows.materials, rows.targets["gap"], strict=True):
        number = int(identifier.rpartition(":")[2])
        assert identifier == (f"{'a' if origin == first else 'b'}.csv:{number}" if number < 10 else f"{number}")
        assert value == pytest.approx(0.1 * number) and material == f"{METALS[number // 4]}{ANIONS[number % 4]}"
    assert data.provenance()["sources"] == [first, second]
    assert rows.place(3)["file"] == rows.origins[3]
    again = open_data([first, second])
    assert again.version == data.version and load_data([first, second]).version == data.version
    assert open_data([second, first]).version != data.version


def test_files_are_split_together(tmp_path: pathlib.Path) -> None:
    """The same formula in two files is on one side."""
    data = open_data([write(tmp_path / "a.csv"), write(tmp_path / "b.csv", 15)], split="formula")
    sides = [set(table.materials) for table in data.splits.values()]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert sum(map(len, data.splits.values())) == 35


def test_files_of_the_same_name_are_told_apart(tmp_path: pathlib.Path) -> None:
    paths = [write(tmp_path / folder / "d.csv", 5) for folder in ("x", "y")]
    assert read_files(paths).table.ids[:2] + read_files(paths).table.ids[5:7] == ["x/d.csv:0", "x/d.csv:1", "y/d.csv:0", "y/d.csv:1"]


def test_datasets_keep_their_splits(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.csv")
    data = merge({"oxides": named("oxides"), path: read_files([path])}, stated=True)
    assert data.units == {"gap": "eV"} and data.citation == "oxides et al." and not data.official_split
    for split, material in (("train", "MgO"), ("validation", "CaO"), ("test", "SrO")):
        table = data.splits[split]
        assert table.materials[0] == material and table.origins[0] == "oxides" and set(table.origins[1:]) == {path}
    both = merge({"x": named("x"), "y": named("y")})
    assert both.split is None and both.official_split and both.train.ids == ["x:0", "y:0"]


def test_crystals_among_formulas() -> None:
    cell = Crystal(np.array([11, 17], np.int32), np.eye(3) * 4.0, np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))
    parts = {"formulas": named("formulas"), "crystals": named("crystals", materials=[cell] * 3)}
    with pytest.raises(InputError, match="crystals holds crystals and formulas formulas"):
        merge(parts)
    merged = merge(parts, material="composition")
    assert merged.train.materials == ["MgO", "Na1Cl1"] and merged.material == "composition"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "meV"}, r"the targets differ: x has gap \[eV\] and y has gap \[meV\]"),
        ({"task": "binary"}, r"the targets differ: x has gap \[eV\] and y has gap \[eV\] \(binary\)"),
    ],
)
def test_units_and_tasks_must_be_the_same(change: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        merge({"x": named("x"), "y": named("y", **change)})


def test_what_does_not_fit_is_one_line(tmp_path: pathlib.Path) -> None:
    first = write(tmp_path / "a.csv")
    other = write(tmp_path / "b.csv", header="id,formula,energy")
    halved = write(tmp_path / "c.csv", header="id,formula,gap,split", extra=",train")
    with pytest.raises(
        InputError, match=r"the targets differ: .*a.csv has gap and .*b.csv has energy. Expected the same in all, chosen by --target"
    ):
        open_data([first, other])
    with pytest.raises(InputError, match=r"'.*a.csv' is given twice"):
        open_data([first, first])
    with pytest.raises(InputError, match=r"c.csv has a column 'split' and .*a.csv has none"):
        open_data([halved, first])
    with pytest.raises(InputError, match=r"x has gap \[eV\], .*a.csv does not tell its own units. Expected --unit eV, if"):
        merge({"x": named("x"), first: read_files([first])})
    with pytest.raises(InputError, match="has a split of its own"):
        open_data(["exp_formation_enthalpy", first], targets=["formation_enthalpy_per_atom"], split="hash")
