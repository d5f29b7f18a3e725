"""Files of crystals that are refused or stopped as a whole: pickles, bombs, pipes, and what takes too long."""

import gzip
import json
import time

import pytest
from structure_cases import cif, folder, jsonl, random_sites, reasons, record

from tfmat.data import Limits, read_user_data
from tfmat.errors import InputError


def test_pickles_are_refused_by_name_and_by_content(tmp_path):
    for name in ("data.pkl", "data.pickle", "data.pkl.gz", "data.csv", "data.jsonl", "data.joblib"):
        path = tmp_path / name
        path.write_bytes(b"\x80\x05\x95\x00")
        with pytest.raises(InputError, match="is a pickle, and reading a pickle runs whatever code it holds, so tfmat never does"):
            read_user_data(path)


def test_utf16_and_windows_lines(tmp_path):
    path = tmp_path / "data.csv"
    text = "structure,y\r\nx.cif,1\r\n"
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match=r"is not text in UTF-8 \(it looks like UTF-16\)"):
        read_user_data(path)
    (tmp_path / "x.cif").write_text(cif().replace("\n", "\r\n"), newline="")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_user_data(path).table.materials[0].formula == "Na4Cl4"
    lines = jsonl(tmp_path, "\ufeff" + json.dumps(record(y=1)) + "\r", json.dumps(record(y=2)) + "\r")
    assert len(read_user_data(lines).table) == 2


def test_long_lines_are_rejected_and_bombs_refused(tmp_path):
    limits = Limits(line_bytes=4096)
    path = jsonl(tmp_path, record(y=1), json.dumps(record(y=2, note="x" * 20_000)), record(y=3), name="data.jsonl.gz")
    data = read_user_data(path, limits=limits)
    assert data.table.rows.tolist() == [1, 3]
    assert data.rejections[0].row == 2 and "is longer than 0.00390625 MiB" in data.rejections[0].reason
    for name, line in (("bomb.jsonl.gz", json.dumps(record(y=1))), ("bomb.csv.gz", "formula,y"), ("bomb.cif.gz", "data_x")):
        bomb = tmp_path / name
        with gzip.open(bomb, "wb", compresslevel=1) as stream:
            stream.write(line.encode() + b"\n")
            for _ in range(300):
                stream.write(b" " * 2**20)
                stream.write(b"\n" if "csv" in name else b"")
        began = time.perf_counter()
        if "cif" in name:
            with pytest.raises(InputError, match="is larger than 10 MiB"):
                read_user_data(folder(tmp_path, {name: bomb.read_bytes()}, "bomb,1\n"))
        else:
            with pytest.raises(InputError, match="unpacks to more than 200 times its size: it looks like a gzip bomb"):
                read_user_data(bomb)
        assert time.perf_counter() - began < 20


def test_a_total_limit(tmp_path):
    path = jsonl(tmp_path, *[record(y=i) for i in range(5000)])
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        read_user_data(path, limits=Limits(total_bytes=2**20))


def test_a_pipe_is_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "data.csv")
    with pytest.raises(InputError, match="is a device or a pipe"):
        read_user_data(tmp_path / "data.csv")
    path = folder(tmp_path, {"a.cif": cif()}, "a,1\nb,2\n")
    os.mkfifo(path / "b.cif")
    assert "is a device or a pipe" in reasons(read_user_data(path))["b"]


def test_a_parser_that_hangs_is_stopped(tmp_path):
    """The distances of a million atoms, from 5,000 general positions under 192 symmetry operations, take minutes."""
    slow = cif(sites=random_sites(5000), a=60, symmetry="", group="Fm-3m")
    path = folder(tmp_path, {"slow.cif": slow, "a.cif": cif(), "b.cif": cif()}, "a,1\nslow,2\nb,3\n")
    began = time.perf_counter()
    data = read_user_data(path, limits=Limits(seconds=2, sites=10**7), processes=1)
    assert time.perf_counter() - began < 20
    assert data.table.ids == ["a", "b"]
    assert reasons(data) == {"slow": "takes longer than 2 s. Expected a file that can be parsed"}
