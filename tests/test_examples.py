"""Every example runs as it is written, only shorter, where its files are."""

import pathlib
import runpy

import pytest
from pymatgen.core import Lattice, Structure

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
TESTED = {"demo.py", "predict_with_a_preset.py", "fit_own_data.py", "fit_with_keras.py", "tune_and_train.py"}
"""Of which `make demo` runs the first."""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs an example among crystals with some words changed; gives what it prints."""
    monkeypatch.chdir(tmp_path)
    folder, rows = tmp_path / "my_cifs", ["id,band_gap"]
    folder.mkdir()
    for index, kinds in enumerate((metal, anion) for metal in ("Li", "Na", "K", "Rb", "Cs") for anion in ("F", "Cl")):
        structure = Structure(Lattice.cubic(3.3 + 0.05 * index), kinds, [[0, 0, 0], [0.5, 0.5, 0.5]])
        structure.to(filename=str(folder / f"m{index}.cif"), fmt="cif")
        rows.append(f"m{index},{1 + 0.2 * index}")
    (folder / "id_prop.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "NaCl.cif").write_text((folder / "m3.cif").read_text())

    def call(name, **changes):
        text = (EXAMPLES / name).read_text()
        for old, new in {"epochs=100": "epochs=2", **changes}.items():
            assert old in text or old == "epochs=100"
            text = text.replace(old, new)
        (tmp_path / "example.py").write_text(text)
        runpy.run_path(str(tmp_path / "example.py"))
        return capsys.readouterr().out

    return call


def test_all_are_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED


@pytest.mark.mirror
def test_predict_with_a_preset(run):
    told = run("predict_with_a_preset.py")
    assert "mp-2018.6.1/formation_energy: formation_energy_per_atom [eV/atom], MAE 0.028 eV/atom" in told and "Cs1 Cl1" in told


def test_fit_own_data(run, tmp_path):
    small = "keywords={'blocks': 1, 'set2set_steps': 1, 'dim': 8, 'hidden_dim': 8, 'gaussians': 16}"
    assert "'MAE'" in run("fit_own_data.py", **{'"megnet", data.targets': f'"megnet", data.targets, {small}'})
    assert (tmp_path / "gap.savedmodel" / "saved_model.pb").is_file() and (tmp_path / "runs" / "gap" / "config.json").is_file()
    assert list((tmp_path / "tb").rglob("events.out.tfevents*"))


@pytest.mark.usefixtures("eagerly")
def test_fit_with_keras(run, tmp_path):
    assert "'MAE'" in run("fit_with_keras.py", **{"cutoff=5.0": "cutoff=5.0, blocks=1, set2set_steps=1, dim=8, hidden_dim=8"})
    assert (tmp_path / "m.keras").is_file() and (tmp_path / "gap.keras").is_file()


@pytest.mark.usefixtures("eagerly")
def test_tune_and_train(run, tmp_path):
    pytest.importorskip("keras_tuner")
    (tmp_path / "few.csv").write_text("".join(["formula,gap\n", *(f"Na{1 + i}Cl{1 + i // 3},{i % 7}\n" for i in range(60))]))
    small = "keywords={'dim': 8, 'conv_dim': 8, 'conv_blocks': 1, 'kernel_size': 1, 'recurrent': (), 'attention': False}"
    shorter = {"trials=20": f"trials=1, vary=['learning_rate'], {small}", "epochs=40": "epochs=1"}
    few = {'"exp_formation_enthalpy"': '"few.csv", targets={"gap": "eV"}, split="formula"'}
    assert "'MAE'" in run("tune_and_train.py", **shorter, **few)
    assert (tmp_path / "runs" / "best" / "config.json").is_file()
