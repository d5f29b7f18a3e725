"""Readable files, and every way in which a file can be bad."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from tfmat.data import Limits, read_user_data
from tfmat.data.read.cells import locate, read_table
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer


def write(tmp_path, content, name="data.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_plain_file(tmp_path):
    table = read_table(write(tmp_path, "formula,band_gap\nNaCl,5.0\nNaN,\nFe2O3,2e0\n"))
    assert table.materials == ["NaCl", "NaN", "Fe2O3"]
    np.testing.assert_array_equal(table.targets["band_gap"], [5.0, np.nan, 2.0])
    assert table.rows.tolist() == [2, 3, 4]
    assert table.ids == ["2", "3", "4"]
    assert table.source == str(tmp_path / "data.csv")
    assert len(table) == 3


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz", "DATA.CSV", "data.jsonl", "data.jsonl.gz"])
def test_all_kinds_of_file(tmp_path, name):
    rows = [
        {"id": "a", "formula": "NaN", "target": 1.5},
        {"id": "b", "formula": "Nd", "target": None},
        {"id": "c", "formula": "In", "target": -2},
    ]
    if "json" in name:
        content = "\n".join(json.dumps(row) for row in rows).encode()
    else:
        content = "\n".join(["id,formula,target"] + [",".join("" if x is None else str(x) for x in row.values()) for row in rows]).encode()
    table = read_table(write(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name))
    assert table.materials == ["NaN", "Nd", "In"]
    assert table.ids == ["a", "b", "c"]
    np.testing.assert_array_equal(table.targets["target"], [1.5, np.nan, -2.0])
    assert table.rows.tolist() == ([1, 2, 3] if "json" in name else [2, 3, 4])


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffformula,target\r\nNaCl,1\r\n",
        " formula , target \n NaCl , 1 \n",
        '"formula","target"\n"NaCl","1"\n',
        "\n\nformula,target\nNaCl,1\n\n",
        "composition,target\nNaCl,1\n",
        "formula,note,y,split\nNaCl,good,1,train\n",
        "id,formula,y\n7,NaCl,1\n",
    ],
)
def test_common_variations(tmp_path, content):
    table = read_table(write(tmp_path, content))
    assert table.materials == ["NaCl"]
    assert [values.tolist() for values in table.targets.values()] == [[1.0]]


SHAPES = {
    "empty columns": "formula,gap,,\nNaCl,5.5,,\nFe2O3,2,,\n",
    "commas at the end": "formula,gap\nNaCl,5.5,\nFe2O3,2,,\n",
    "semicolons": "formula;gap\nNaCl;5.5\nFe2O3;2\n",
    "decimal commas": "formula;gap\nNaCl;5,5\nFe2O3;2\n",
    "tabs": "formula\tgap\nNaCl\t5.5\nFe2O3\t2\n",
    "bars": "formula|gap\nNaCl|5.5\nFe2O3|2\n",
    "the separator told": "sep=;\nformula;gap\nNaCl;5.5\nFe2O3;2\n",
    "comments": "# from paper X\n#\nformula,gap\nNaCl,5.5\n# more\nFe2O3,2\n",
    "quoted": '"formula";"gap"\n"NaCl";"5,5"\n"Fe2O3";"2"\n',
    "byte order mark": "\ufeffformula,gap\r\nNaCl,5.5\r\nFe2O3,2\r\n",
    "missing": "formula,gap\nNaCl,5.5\nFe2O3,2\nMgO,NaN\nCaO,NA\nBaO,n/a\nSrO,null\n",
    "lines of old Macs": "formula,gap\rNaCl,5.5\rFe2O3,2\r",
    "an index": ",formula,gap\n0,NaCl,5.5\n1,Fe2O3,2\n",
    "other names": "material_id,pretty_formula,gap\nmp-1,NaCl,5.5\nmp-2,Fe2O3,2\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_csv_as_people_write_it(tmp_path, shape):
    table = read_table(write(tmp_path, SHAPES[shape]))
    assert table.materials[:2] == ["NaCl", "Fe2O3"] and list(table.targets) == ["gap"]
    np.testing.assert_array_equal(table.targets["gap"][:2], [5.5, 2.0])
    assert np.isnan(table.targets["gap"][2:]).all()
    ids = {"an index": ["0", "1"], "other names": ["mp-1", "mp-2"], "comments": ["4", "6"], "the separator told": ["3", "4"]}
    assert table.ids[:2] == ids.get(shape, ["2", "3"])


def test_what_is_no_decimal_comma(tmp_path):
    with pytest.raises(InputError, match="row 2: column 'gap' holds '1,5'"):
        read_table(write(tmp_path, "formula\tgap\nNaCl\t1,5\n"), targets=["gap"])
    with pytest.raises(InputError, match=r"row 2: column 'gap' holds '1,234\.5'"):
        read_table(write(tmp_path, "formula;gap\nNaCl;1,234.5\n"), targets=["gap"])


def test_true_and_false(tmp_path):
    table = read_table(write(tmp_path, "formula,is_metal\nNaCl,False\nFe,True\nCu,true\nSi,\n"))
    np.testing.assert_array_equal(table.targets["is_metal"], [0, 1, 1, np.nan])


IDS = {
    "shared": ([{"material_id": "a"}, {"material_id": "a"}], ["1", "2"]),
    "not everywhere": ([{"jid": "a", "material_id": ""}, {"material_id": "b"}, {"material_id": None}], ["a", "b", "3"]),
    "id first": ([{"material_id": "a", "id": "x"}, {"material_id": "b", "id": ""}], ["x", "b"]),
    "none": ([{}, {}], ["1", "2"]),
}


def test_ids_that_several_rows_share_are_no_ids(tmp_path):
    assert read_table(write(tmp_path, "material_id,formula,gap\na,NaCl,1\na,Fe,2\n")).ids == ["2", "3"]


@pytest.mark.parametrize("case", IDS)
@pytest.mark.parametrize("material", ["composition", "crystal"])
def test_formulas_and_crystals_have_the_same_ids(tmp_path, case, material):
    rows, ids = IDS[case]
    what = {"formula": "NaCl"} if material == "composition" else {"cell": [5, 5, 5, 90, 90, 90], "species": ["Na"], "frac": [[0, 0, 0]]}
    path = write(tmp_path, "\n".join(json.dumps(what | {"gap": 1} | row) for row in rows), "data.jsonl")
    data = read_user_data(path)
    assert data.material == material and data.table.ids == ids and not data.rejections


ROWS = [{"id": "a", "formula": "NaCl", "gap": 5.5}, {"id": "b", "formula": "Fe2O3", "gap": None}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
JSON = {
    "records": ROWS,
    "an answer": {"data": ROWS, "meta": {"page": 1}},
    "split": {"index": ["a", "b"], "columns": ["formula", "gap"], "data": [["NaCl", 5.5], ["Fe2O3", None]]},
    "columns": {name: {str(i): cell for i, cell in enumerate(column)} for name, column in COLUMNS.items()},
    "lists": COLUMNS,
    "index": {row["id"]: {"formula": row["formula"], "gap": row["gap"]} for row in ROWS},
}


@pytest.mark.parametrize("form", JSON)
@pytest.mark.parametrize("packed", [False, True])
def test_json_in_all_orientations(tmp_path, form, packed):
    content = json.dumps(JSON[form]).encode()
    table = read_table(write(tmp_path, gzip.compress(content) if packed else content, f"data.json{'.gz' * packed}"))
    assert table.materials == ["NaCl", "Fe2O3"] and table.ids == ["a", "b"] and table.rows.tolist() == [1, 2]
    np.testing.assert_array_equal(table.targets["gap"], [5.5, np.nan])


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    pd.DataFrame(COLUMNS).to_parquet(tmp_path / "data.parquet")
    table = read_table(tmp_path / "data.parquet")
    assert table.materials == ["NaCl", "Fe2O3"] and table.ids == ["a", "b"]
    np.testing.assert_array_equal(table.targets["gap"], [5.5, np.nan])


def test_a_parquet_that_unpacks_to_much_is_refused(tmp_path):
    """One value of 1 MB repeated is a kilobyte or two on disk."""
    pytest.importorskip("pyarrow")
    path = tmp_path / "data.parquet"
    pd.DataFrame({"formula": ["NaCl"] * 600, "gap": 1.0, "note": "x" * 10**6}).to_parquet(path)
    assert path.stat().st_size < 200_000
    with pytest.raises(InputError, match=r"data\.parquet: is larger than 300 MiB"):
        read_user_data(path, limits=Limits(total_bytes=300 * 2**20))


def test_rows_count_quoted_line_breaks_once_and_blank_lines_too(tmp_path):
    path = write(tmp_path, 'formula,note,y\nNaCl,"two\nlines",1\n\nXx,,2\nFe2O3,,bad\n')
    with pytest.raises(InputError, match="row 5: column 'y' holds 'bad'"):
        read_table(path, targets=["y"])
    table = read_table(path, require_targets=False)
    assert table.rows.tolist() == [2, 4, 5]
    with pytest.raises(InputError) as error:
        CompositionFeaturizer().featurize(table.materials)
    assert str(locate(error.value, table)).startswith(f"{path}, row 4: formula 'Xx' holds the unknown element")


def test_columns_can_be_named(tmp_path):
    path = write(tmp_path, "name,stuff,e,k\nx1,NaCl,1,10\nx2,Fe,2,\n")
    table = read_table(path, targets=["k", "e"], formula_column="stuff", id_column="name")
    assert list(table.targets) == ["k", "e"]
    assert table.ids == ["x1", "x2"]
    assert read_table(path, targets="e", formula_column="stuff").targets["e"].tolist() == [1, 2]


def test_prediction_needs_no_target(tmp_path):
    path = write(tmp_path, "formula,a,b\nNaCl,1,2\n")
    assert read_table(path, require_targets=False).targets == {}
    assert list(read_table(path, targets=["b"], require_targets=False).targets) == ["b"]


def test_json_booleans_are_classes(tmp_path):
    path = write(tmp_path, '{"formula": "Fe", "is_metal": true}\n\n{"formula": "NaCl", "is_metal": false, "cell": [1, 2]}\n', "data.jsonl")
    assert read_table(path, targets=["is_metal"]).targets["is_metal"].tolist() == [1.0, 0.0]


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01"
BAD = [
    ("data.csv", b"", "the file is empty"),
    ("data.csv", b" \n\n ", "the file is empty"),
    ("data.csv", PNG, "row 1: is not text in UTF-8"),
    ("data.csv", "formula,target\nNaCl,1\n".encode("utf-16"), "is not text in UTF-8"),
    ("data.csv", "formula,näme\n".encode("latin-1"), "row 1: is not text in UTF-8"),
    ("data.csv", b"formula,target\nNaCl,\x001\n", "row 2: holds a NUL character"),
    ("data.csv", b"formula,target\n", "row 1: no row below the header ('formula', 'target')"),
    ("data.csv", b"formula,target\nNaCl,1\nFe\n", "row 3: 1 cell under 2 columns"),
    ("data.csv", b"formula,target\nNaCl,1,2\n", "row 2: 3 cells under 2 columns"),
    ("data.csv", b'formula,target\nNaCl,1\n"Fe,2\n', "row 3: is not valid CSV"),
    ("data.csv", b"formula,target,target\nNaCl,1,2\n", "row 1: column 'target' stands twice"),
    ("data.csv", b"Formula,target\nNaCl,1\n", "row 1: no column 'formula' (did you mean 'Formula'?); the columns are 'Formula', 'target'"),
    ("data.csv", b"structure,target\nNaCl,1\n", "row 1: no column 'formula'; the columns are 'structure', 'target'"),
    ("data.csv", b"formula\nNaCl\n", "row 1: no column of numbers"),
    ("data.csv", b"formula,target\nNaCl,1\nFe,high\n", "row 3: column 'target' holds 'high'"),
    ("data.csv", b"formula,gap\nNaCl,wide\n", "row 2: column 'gap' holds 'wide'"),
    ("data.csv", b"formula,target\nNaCl,nan\n", "target column 'target' has no value"),
    ("data.csv", b"formula,target\nNaCl,-inf\n", "row 2: column 'target' holds '-inf'"),
    ("data.csv", b"formula,target\nNaCl,1e999\n", "row 2: column 'target' holds '1e999'"),
    ("data.csv", b"formula,target\nNaCl,1_0\n", "row 2: column 'target' holds '1_0'"),
    ("data.csv", b"formula,target\nNaCl,\nFe,\n", "target column 'target' has no value"),
    ("data.csv", b"formula,a,b\nNaCl,1,2\n", "row 1: several columns may be the target: 'a', 'b'"),
    ("data.csv", b"formula,a,b\nNaCl,x,y\n", "row 1: no column of numbers"),
    ("data.csv.gz", b"formula,target\nNaCl,1\n", "is not a gzip file"),
    ("data.csv.gz", gzip.compress(b"formula,target\nNaCl,1\n" * 50)[:-12], "is not a gzip file, or is damaged"),
    ("data.xlsx", b"PK", "unknown kind of file"),
    ("data.jsonl", b'{"formula": "NaCl", "target": 1}\n{"formula": ', "row 2: is not valid JSON"),
    (
        "data.jsonl",
        b'[{"formula": "NaCl", "target": 1}]',
        "row 1: holds [{'formula': 'NaCl', 'target': 1}]. Expected one JSON object per line",
    ),
    ("data.jsonl", b'{"formula": "NaCl", "target": NaN}', "target column 'target' has no value"),
    ("data.jsonl", b'{"formula": "NaCl", "target": Infinity}', "row 1: column 'target' holds inf"),
    ("data.json", b'{"a":1}', "no column 'formula'; the columns are 'a'"),
    ("data.json", b"[1]", "holds no list of JSON objects"),
    ("data.json", b'[{"a":1}', "is not valid JSON"),
    ("data.parquet", b"PAR1 is not enough", "cannot be read as Parquet"),
    ("data.jsonl", b'{"formula": "NaCl", "target": [1]}', "row 1: column 'target' holds [1]"),
    ("data.jsonl", b'{"formula": "NaCl", "target": 1' + b"0" * 400 + b"}", "row 1: column 'target' holds 1000"),
    ("data.jsonl", b'{"cell": [1], "target": 1}', "no column 'formula'; the columns are 'cell', 'target'"),
    ("data.jsonl", b"[" * 100_000, "row 1: is not valid JSON"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[message[:40] for _, _, message in BAD])
def test_a_bad_file_is_told_in_one_line(tmp_path, name, content, message):
    path = write(tmp_path, content, name)
    with pytest.raises(InputError) as error:
        read_table(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 250


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)


def test_a_misspelt_target_is_told(tmp_path):
    with pytest.raises(InputError, match=r"row 1: no column 'bandgap' \(did you mean 'band_gap'\?\)"):
        read_table(write(tmp_path, "formula,band_gap\nNaCl,1\n"), targets=["bandgap"])


def test_an_error_without_position_keeps_its_file():
    table = Table(["Fe"], {}, ["a"], np.asarray([2]), "x.csv")
    assert str(locate(InputError("bad"), table)) == "x.csv: bad"
