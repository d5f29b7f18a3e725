"""A user's file or folder as a dataset: rejections, splits that can be repeated, and a fit."""

import json

import numpy as np
import pytest
from structure_cases import cif, record

from tfmat.data import RecordCache, SplitSpec, read_user_data, write_rejections, write_split_file
from tfmat.datasets import open_data
from tfmat.errors import InputError


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def formulas(tmp_path, extra=()):
    rows = [f"r{i},Fe{i}O,{i}" for i in range(1, 41)]
    return write(tmp_path / "data.csv", "\n".join(["id,formula,y", *rows, *extra]) + "\n")


def test_bad_rows_of_formulas_are_rejected(tmp_path):
    path = formulas(tmp_path, ["a,Xx2,1", "b,NaCl,high", "c,NaCl", "r1,NaCl,5", "d,,1", "e,Li1.5H2O,1", "f,NaCl,"])
    dataset = open_data(path, split="formula")
    assert [(rejection.row, rejection.id) for rejection in sorted(dataset.rejections, key=lambda rejection: rejection.row)] == [
        (42, "a"), (43, "b"), (44, "c"), (45, "r1"), (46, "d"), (47, "e"),
    ]  # fmt: skip
    assert sum(len(table) for table in dataset.splits.values()) == 41
    assert dataset.read == 47
    assert dataset.summary.startswith("6 of 47 rejected; the first is ")
    reasons = {rejection.id: rejection.reason for rejection in dataset.rejections}
    assert "unknown element 'Xx'" in reasons["a"] and "column 'y' holds 'high'" in reasons["b"]
    assert reasons["c"].startswith("2 cells under 3 columns") and "stands already in row 2" in reasons["r1"]
    assert reasons["d"].startswith("the formula is empty") and "hydrate" in reasons["e"]
    content = write_rejections(tmp_path / "rejected.csv", dataset.rejections).read_text().splitlines()
    assert content[0] == "file,row,id,reason" and len(content) == 7
    for split in ("random", "formula"):
        with pytest.raises(InputError, match=r"data\.csv, row 44: 2 cells under 3 columns"):
            open_data(path, split=split, strict=True)
    good = open_data(formulas(tmp_path))
    assert good.rejections == () and good.summary == "" and good.read == 40


def test_bad_lines_of_json_formulas(tmp_path):
    lines = [json.dumps({"formula": f"Fe{i}O", "y": i}) for i in range(1, 20)]
    dataset = open_data(write(tmp_path / "data.jsonl", "\r\n".join([*lines, "{", "[]", '{"formula": "Xx", "y": 1}', '{"y": 2}'])))
    assert [rejection.row for rejection in dataset.rejections] == [20, 21, 22, 23]
    assert dataset.read == 23


def test_what_is_no_row_stays_fatal(tmp_path):
    for content, message in (
        ("formula\nNaCl\n", "no column of numbers"),
        ("y\n1\n", "no column 'formula'"),
        ("formula,y\nXx,1\nYy,2\n", "none of 2 rows can be used; the first because: formula 'Xx' holds the unknown element"),
        ("formula,y\nXx,1\n", "row 2: formula 'Xx' holds the unknown element"),
        ('formula,y\n"NaCl,1\n', "is not valid CSV"),
        ("formula,y\nNaCl,1\n".encode("utf-16"), "is not text in UTF-8 (it looks like UTF-16)"),
        ("formula,y\nNaCl,1,2\n", "no row has 2 cells"),
    ):
        with pytest.raises(InputError) as error:
            open_data(write(tmp_path / "bad.csv", content))
        assert message in str(error.value) and str(tmp_path / "bad.csv") in str(error.value)


def test_a_split_can_be_repeated(tmp_path):
    path = formulas(tmp_path)
    for spec in ("random", "formula", "chemical-system", SplitSpec("formula", folds=4, fold=2, seed=5)):
        if spec == "chemical-system":
            with pytest.raises(InputError, match=r"data\.csv: too few groups to split: the rows hold 1 different ones"):
                open_data(path, split=spec)
            continue
        first = open_data(path, split=spec, seed=3)
        assert first.split.seed == (3 if isinstance(spec, str) else 5)
        again = open_data(path, split=SplitSpec.from_config(json.loads(json.dumps(first.split.to_config()))))
        saved = write_split_file(tmp_path / "split.csv", first.ids())
        by_file = open_data(path, split=f"file:{saved}")
        for name, table in first.splits.items():
            assert table.ids == again.splits[name].ids
            assert sorted(table.ids) == sorted(by_file.splits[name].ids)


def test_columns_of_splits(tmp_path):
    rows = [f"Fe{i}O,{i},{('train', 'VAL', 'test')[i % 3]},{('test', 'train', 'validation')[i % 3]}" for i in range(1, 10)]
    path = write(tmp_path / "data.csv", "\n".join(["formula,y,split,other", *rows, "Xx,1,train,train"]))
    assert open_data(path).splits["test"].targets["y"].tolist() == [2, 5, 8]
    assert open_data(path, split="column:other").splits["test"].targets["y"].tolist() == [3, 6, 9]
    with pytest.raises(InputError, match="row 1: no column 'none'"):
        open_data(path, split="column:none")
    write(path, "\n".join(["formula,y,split", "Xx,1,train", "NaCl,1,train", "NaCl,1,dev"]))
    with pytest.raises(InputError, match="row 4: column 'split' holds 'dev'"):
        open_data(path)


def crystal_folder(tmp_path):
    path = tmp_path / "crystals"
    path.mkdir()
    rows = ["id,gap,energy,split"]
    for i in range(12):
        pair = (("Na", "Cl"), ("K", "Cl"), ("Na", "F"), ("K", "F"))[i % 4]
        write(path / f"c{i}.cif", cif(a=5 + i / 10).replace("Na", pair[0]).replace("Cl", pair[1]))
        rows.append(f"c{i},{i / 2},{'' if i % 3 else -i},{('train', 'train', 'val', 'test')[i % 4]}")
    write(path / "id_prop.csv", "\n".join([*rows, "lost,1,2,train"]))
    return path


def test_a_folder_as_a_dataset(tmp_path):
    dataset = open_data(crystal_folder(tmp_path), targets=["gap", "energy"])
    assert dataset.material == "crystal" and dataset.units == {"gap": "", "energy": ""}
    assert dataset.split.method == "column"
    assert {name: len(table) for name, table in dataset.splits.items()} == {"train": 6, "validation": 3, "test": 3}
    assert np.isnan(dataset.splits["train"].targets["energy"]).sum() == 4
    assert dataset.title == f"12 crystals of {tmp_path / 'crystals'}"
    assert [rejection.id for rejection in dataset.rejections] == ["lost"]
    systems = open_data(tmp_path / "crystals", split="chemical_system", seed=1).splits
    assert all(len({tuple(sorted(set(c.species.tolist()))) for c in table.materials}) >= 1 for table in systems.values())
    assert list(dataset.select(["gap"]).splits["test"].targets) == ["gap"]
    assert dataset.select(["gap"]).rejections == dataset.rejections
    assert dataset.version == open_data(tmp_path / "crystals").version


@pytest.mark.slow
def test_a_fit_on_a_folder_of_cifs(tmp_path):
    pytest.importorskip("keras")
    from tfmat.predictor import Predictor
    from tfmat.target import Target

    dataset = open_data(crystal_folder(tmp_path), targets=["gap"])
    cache = RecordCache(tmp_path / "cache")
    predictor = Predictor.create("lgdcnn", [Target("gap", "eV")], keywords={"dim": 16, "conv_dim": 16})
    predictor.fit(dataset.splits["train"], dataset.splits["validation"], epochs=1, cache=cache)
    assert len(cache.entries()) == 2
    evaluation = predictor.evaluate(dataset.splits["test"])
    assert np.isfinite(evaluation.scores["gap"]["MAE"])
    again = predictor.evaluate(read_user_data(tmp_path / "crystals", targets=["gap"]).table)
    assert again.scores["gap"]["MAE"] >= 0


def test_many_json_crystals_stay_out_of_memory(tmp_path, monkeypatch):
    from tfmat.data import cache as cache_module

    lines = [json.dumps(record(id=f"m{i}", y=i)) for i in range(3000)]
    path = write(tmp_path / "data.jsonl", "\n".join(lines))
    expected = read_user_data(path).table
    monkeypatch.setattr(cache_module.Spool.__init__, "__defaults__", (1000,))
    monkeypatch.setattr("tfmat.data.cache.CHECKED_BYTES", 1000)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spooled = read_user_data(path).table
    assert isinstance(spooled.materials.records.values["frac_coords"].base, np.memmap)
    assert spooled.content_hash() == expected.content_hash()
    del expected
    assert [child.name for child in tmp_path.iterdir()] == ["data.jsonl"]


def test_files_with_the_same_content_are_parsed_once(tmp_path, monkeypatch):
    from tfmat.data.read import parse

    monkeypatch.setattr(parse, "WORTH", 2)
    path, cache = crystal_folder(tmp_path), RecordCache(tmp_path / "cache")
    first = read_user_data(path, cache=cache)
    assert [entry.featurizer for entry in cache.entries()] == ["parsed crystals"]
    asked = []
    original = parse.request
    monkeypatch.setattr("tfmat.data.workers.Workers.submit", lambda self, request: asked.append(request) or 1 / 0)
    again = read_user_data(path, cache=cache)
    assert asked == [] and original is parse.request
    assert again.table.content_hash() == first.table.content_hash()
    assert [str(rejection) for rejection in again.rejections] == [str(rejection) for rejection in first.rejections]
    with pytest.raises(ZeroDivisionError):
        read_user_data(path)
    write(path / "c3.cif", cif(a=9))
    with pytest.raises(ZeroDivisionError):
        read_user_data(path, cache=cache)
    monkeypatch.undo()
    changed = read_user_data(path, cache=cache)
    assert changed.table.materials[3].lattice[2, 2] == 9
    assert changed.table.materials[4].formula == first.table.materials[4].formula
