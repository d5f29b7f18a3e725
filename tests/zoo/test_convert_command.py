"""``tfmat convert``: what it writes and says, and one line for each defect."""

import json

import numpy as np
import pytest
from conversion_cases import matgl_description, random_weights, side_car, write_megnet

from tfmat.cli import run
from tfmat.predictor import Predictor


@pytest.fixture
def tfmat(capfd, tmp_path, monkeypatch):
    """The command line in an empty folder: exit code, stdout, lines of stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err.splitlines()

    return call


@pytest.fixture
def file(tmp_path):
    return write_megnet(tmp_path / "m.hdf5", random_weights(np.random.default_rng(0)), sidecar=side_car())


def test_megnet(tfmat, file, tmp_path):
    code, out, err = tfmat("convert", "megnet", file, "--out", "runs/gap", "--target", "band_gap")
    assert (code, err) == (0, [])
    assert "runs/gap" in out and "band_gap" in out
    predictor = Predictor.load(tmp_path / "runs" / "gap")
    assert [(t.name, t.unit, t.transform) for t in predictor.targets] == [("band_gap", "", "none")]
    code, out, _ = tfmat("convert", "megnet", file, "--out", "runs/gap", "--unit", "GPa", "--transform", "log10", "--overwrite")
    assert code == 0 and "y [GPa], as its log10" in out
    predictor = Predictor.load(tmp_path / "runs" / "gap")
    assert [(t.name, t.unit, t.transform) for t in predictor.targets] == [("y", "GPa", "log10")]


def test_what_is_assumed_is_told(tfmat, tmp_path):
    weights = random_weights(np.random.default_rng(0))
    weights["bond_encoder_1/kernel"] = np.zeros((100, 6), np.float32)
    write_megnet(tmp_path / "m.hdf5", weights)
    code, _, err = tfmat("convert", "megnet", "m.hdf5", "--target", "y", "--out", "out")
    assert code == 0 and len(err) == 1
    assert err[0].startswith("tfmat: m.hdf5: no m.hdf5.json beside it: a cut-off of 4 Å")


def test_a_fidelity_for_crystals_that_carry_none(tfmat, tmp_path):
    write_megnet(tmp_path / "m.hdf5", random_weights(np.random.default_rng(0), fidelities=3), fidelities=3, sidecar=side_car())
    assert tfmat("convert", "megnet", "m.hdf5", "--state", "2", "--out", "out")[0] == 0
    assert Predictor.load(tmp_path / "out").featurizer.state == (2.0,)
    code, _, err = tfmat("convert", "megnet", "m.hdf5", "--state", "3", "--out", "more")
    assert code == 2 and len(err) == 1 and "a fidelity from 0 to 2" in err[0] and not (tmp_path / "more").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("megnet", "none.hdf5", "--out", "out"), ["none.hdf5: no such file"]),
        (("megnet", "cut.hdf5", "--out", "out", "--target", "y"), ["cut.hdf5: not an HDF5 file, or damaged"]),
        (("megnet", "m.hdf5", "--out", "m.hdf5"), ["m.hdf5: it exists already"]),
        (("megnet", "m.hdf5", "--out", "folder", "--overwrite"), ["folder: it is no model"]),
        (("megnet", "m.hdf5", "--out", "out", "--target", "band gap"), ["'band gap' is no name"]),
        (("megnet", "m.hdf5", "--out", "out", "--transform", "ln"), ["unknown transform 'ln'", "log10"]),
        (("megnet", "m.hdf5"), ["Missing option '--out'"]),
        (("megnet", "yes.hdf5", "--out", "out", "--unit", "eV"), ["yes.hdf5: it is a classifier"]),
        (("matgl", "none.pt", "--out", "out"), ["none.pt: no such file"]),
        (("matgl", "folder/state.pt", "--out", "out"), ["folder/state.pt: "]),
        (("keras", "m.hdf5"), ["No such command 'keras'"]),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, tuple) else "",
)
def test_defects(tfmat, file, tmp_path, arguments, parts):
    (tmp_path / "cut.hdf5").write_bytes(file.read_bytes()[:2000])
    write_megnet(tmp_path / "yes.hdf5", random_weights(np.random.default_rng(0)), activation="sigmoid", sidecar=side_car())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "state.pt").write_bytes(b"no tensors")
    (tmp_path / "folder" / "model.json").write_text(json.dumps(matgl_description()))
    before = {str(path) for path in tmp_path.rglob("*")}
    code, out, err = tfmat("convert", *arguments)
    assert (code, out, len(err)) == (2, "", 1), err
    assert err[0].startswith("tfmat: ") and all(part in err[0] for part in parts)
    assert {str(path) for path in tmp_path.rglob("*")} == before


def test_help(tfmat):
    for command in ((), ("megnet",), ("matgl",)):
        code, out, _ = tfmat("convert", *command, "--help")
        assert code == 0 and "Examples:" in out
    assert "megnet" in tfmat("convert")[1]
