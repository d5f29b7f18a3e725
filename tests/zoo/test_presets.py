"""Published weights by name: the numbers of the packages that they were made with, and the cache."""

import functools
import json
import shutil

import numpy as np
import pytest

from tfmat.errors import InputError
from tfmat.featurizers.bonds import BondFeaturizer
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.zoo import presets
from tfmat.zoo.conversion import foreign, published
from tfmat.zoo.conversion.published import CONVERTER, MATGL_EFORM, MEGNET
from tfmat.zoo.presets import PRESETS

CRYSTALS, EDGE_CASES = 2e-5, 2e-4
MIRRORED = [model.preset for model in MEGNET if model.preset.startswith("mp-2018")]
NOT_MIRRORED = [model.preset for model in MEGNET if model.preset.startswith("mp-2019")]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """One cache for the tests that download."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def oracle(megnet_oracle):
    """Predictions of the original packages."""
    return megnet_oracle


@functools.cache
def structure(text):
    from pymatgen.core import Structure

    return Structure.from_dict(json.loads(text))


def check(oracle, predictor, expected, state=None):
    """`expected`: crystal -> number, or a dictionary where the package refused it."""
    materials = oracle["crystals"] | oracle["edge_cases"]
    names = [name for name in expected if name in materials]
    assert set(oracle["crystals"]) <= set(names)
    crystals = [structure(json.dumps(materials[name])) for name in names]
    if state is not None:
        crystals = [crystal.copy() for crystal in crystals]
        for crystal in crystals:
            crystal.state = [state]
    frame = predictor.predict(crystals)
    target = predictor.targets[0]
    values = frame[target.name].to_numpy()
    values = np.log10(values) if target.transform == "log10" else values
    for name, value, error in zip(names, values, frame["error"], strict=True):
        if isinstance(expected[name], dict):
            assert "no bonds" in error
        else:
            assert abs(value - expected[name]) <= (CRYSTALS if name in oracle["crystals"] else EDGE_CASES), name


def of_megnet(oracle, preset):
    predictions = oracle["keras_megnet"]
    return predictions["predictions"][preset] | predictions["edge_predictions"][preset]


def test_names_and_hashes():
    assert len(MEGNET) == 15 and len({model.sha256 for model in (*MEGNET, MATGL_EFORM)}) == 16
    assert list(PRESETS) == [*(model.preset for model in MEGNET), MATGL_EFORM.preset]
    archive = presets.sdist()
    assert archive.keep("mvl_models/mp-2019.4.1/efermi.hdf5") == "mp-2019.4.1/efermi.hdf5"
    assert archive.keep("mvl_models/qm9-2018.6.1/U0.hdf5") == archive.keep("setup.py") == ""
    assert "mf_2020/pbe_gllb_hse_exp/5/best_model.hdf5.json" in archive.members and len(archive.members) == 30


@pytest.mark.mirror
@pytest.mark.parametrize("preset", MIRRORED)
def test_numbers_of_megnet(oracle, preset):
    predictor = Predictor.load(PRESETS[preset]())
    assert predictor.model.count_params() == 167_761
    check(oracle, predictor, of_megnet(oracle, preset))
    assert {84, 85, 86, 87, 88}.isdisjoint(predictor.info["elements"]) and len(predictor.info["elements"]) >= 88
    card = predictor.card
    for part in ("BSD-3-Clause", "10.1021/acs.chemmater.9b01294", "Reported error", "Materials Project of 1 June 2018"):
        assert part in card


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.parametrize("preset", NOT_MIRRORED)
def test_numbers_of_megnet_from_pypi(oracle, monkeypatch, downloads, preset):
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(downloads))
    check(oracle, Predictor.load(PRESETS[preset]()), of_megnet(oracle, preset))


@pytest.mark.slow
@pytest.mark.mirror
def test_numbers_of_the_multi_fidelity_models(oracle, monkeypatch, downloads):
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(downloads))
    predictors = [Predictor.load(PRESETS[f"mf_2020/pbe_gllb_hse_exp/{number}"]()) for number in range(6)]
    expected = oracle["keras_megnet"]["mf_2020_pbe_gllb_hse_exp_0"]["predictions"]
    for state in range(4):
        check(oracle, predictors[0], {name: values[state] for name, values in expected.items()}, state)
    check(oracle, predictors[0], {name: values[3] for name, values in expected.items()})
    assert "3 measured; without one a crystal is taken as 3" in predictors[0].card
    salt = [structure(json.dumps(oracle["crystals"]["NaCl_rocksalt_prim"]))]
    values = [predictor.predict(salt)["band_gap"][0] for predictor in predictors]
    assert len(set(values)) == 6 and 5 < np.mean(values) < 10


@pytest.mark.mirror
def test_numbers_of_matgl(oracle):
    pytest.importorskip("torch")
    predictor = Predictor.load(PRESETS[MATGL_EFORM.preset]())
    values = {name: value["eV_per_atom"] for name, value in oracle["matgl"]["MEGNet-MP-2018.6.1-Eform"].items() if "eV_per_atom" in value}
    check(oracle, predictor, {name: value for name, value in values.items() if np.isfinite(value)})
    polonium = structure(json.dumps(oracle["edge_cases"]["boundary_a4_simple_cubic_Po"]))
    assert not predictor.predict([polonium])["in_domain"][0]  # which matgl does not know


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A published model of random weights, in a mirror of its own."""
    from conversion_cases import random_weights, side_car, write_megnet

    from tfmat.atomic import sha256_of

    folder = tmp_path / "data" / "weights"
    folder.mkdir(parents=True)
    file = write_megnet(folder / "megnet_mp-0_y.hdf5", random_weights(np.random.default_rng(0)), sidecar=side_car())
    model = published.Published("mp-0/y", sha256_of(file), Target("y", "eV"), "none", "none")
    monkeypatch.setattr(presets, "MEGNET", (model,))
    monkeypatch.setenv("TFMAT_DATA_DIR", str(tmp_path / "data"))
    return model


def test_converted_once_into_the_cache(small, cache, monkeypatch):
    directory = presets.megnet_preset(small)
    assert directory == cache / "models" / f"{CONVERTER}.{BondFeaturizer.version}" / "mp-0/y"
    monkeypatch.setattr(presets, "_megnet_weights", lambda model: pytest.fail("it is in the cache"))
    assert presets.megnet_preset(small) == directory
    assert sorted(path.name for path in directory.parent.iterdir()) == ["y"]


def test_a_damaged_model_in_the_cache_is_converted_again(small, caplog):
    directory = presets.megnet_preset(small)
    (directory / "model.weights.h5").write_bytes(b"")
    assert presets.megnet_preset(small) == directory
    assert "converted again" in caplog.text
    Predictor.load(directory)


def test_another_process_may_be_quicker(small, monkeypatch):
    write = foreign.write

    def slow(model, directory, *, overwrite):
        write(model, directory)  # meanwhile another process has finished
        return write(model, directory, overwrite=overwrite)

    monkeypatch.setattr(foreign, "write", slow)
    Predictor.load(presets.megnet_preset(small))


def test_a_wrong_file_of_the_mirror_is_not_used(small, tmp_path, monkeypatch, caplog):
    file = tmp_path / "data" / "weights" / "megnet_mp-0_y.hdf5"
    file.write_bytes(file.read_bytes()[:-1])
    fetched = tmp_path / "fetched"
    monkeypatch.setattr("tfmat.datasets.fetch.fetch", lambda archive: fetched)
    (fetched / "mp-0").mkdir(parents=True)
    shutil.copy(file, fetched / "mp-0" / "y.hdf5")
    with pytest.raises(InputError, match="removed or changed"):
        presets.megnet_preset(small)
    assert "not the published file" in caplog.text


def test_weights_of_matgl_are_not_fetched(monkeypatch):
    monkeypatch.delenv("TFMAT_DATA_DIR", raising=False)
    with pytest.raises(InputError, match="not on this machine") as error:
        PRESETS[MATGL_EFORM.preset]()
    assert "matgl_MEGNet-MP-2018.6.1-Eform_state.pt" in str(error.value) and "tfmat convert matgl" in str(error.value)
