"""An architecture is one file, one import of it and one search space: tfmat does all it does for a toy, without another change."""

import importlib
import inspect
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import test_contracts as contracts

from tfmat import architecture as registry
from tfmat.analysis.explain import explain
from tfmat.architecture import get
from tfmat.data.table import Table
from tfmat.predictor import Predictor
from tfmat.target import Target

FILE = '''
"""Toy: for each site the embedding of its element and how close its bonds are, through a dense layer, and their mean."""

from collections.abc import Sequence

import keras
from keras import ops

from tfmat.architecture import Architecture, register
from tfmat.featurizers.bonds import HEAVIEST, BondFeaturizer
from tfmat.layers.lists import Edges, list_inputs, sum_of
from tfmat.layers.neighbors import CrystalGraph, MeanOverSites
from tfmat.training.recipe import Recipe
from tfmat.zoo.model import zoo_model


@keras.saving.register_keras_serializable("toys")
class Closeness(keras.layers.Layer):
    """Sum of exp(-distance) over the bonds of each site: (S, 1)."""

    def call(self, distances, bonds, sites):
        edges = Edges(**bonds)
        return sum_of(ops.exp(-distances)[:, None] * edges.multiplicity, edges.receivers, sites)

    def compute_output_spec(self, distances, bonds, sites):
        return keras.KerasTensor(sites.shape, self.compute_dtype)


@zoo_model("toy")
def Toy(
    targets: Sequence[str] = ("target",), *, cutoff: float = 4.0, dim: int = 8, uncertainty: bool = False, name: str = "toy"
) -> keras.Model:
    """Toy.

    Differences from the paper: there is no paper.

    Args:
        targets: names of the outputs.
        cutoff: bond radius [Å].
        dim: width.
        uncertainty: a second output column, the log-scale.
        name: of the model.
    """
    inputs = list_inputs(BondFeaturizer(cutoff).spec)
    graph = CrystalGraph(name="graph")(inputs)
    elements = keras.layers.Embedding(HEAVIEST + 1, dim, name="embedding")(inputs["species"])
    closeness = Closeness(name="closeness")(inputs["distances"], graph["bonds"], graph["sites"])
    sites = keras.layers.Dense(dim, "tanh", name="hidden")(ops.concatenate([elements, closeness], axis=-1))
    crystal = MeanOverSites(name="crystal")(sites, graph["sites"], graph["crystals"], inputs["batch_sites"])
    outputs = {target: keras.layers.Dense(2 if uncertainty else 1, name=target)(crystal) for target in targets}
    return keras.Model(inputs, outputs, name=name)


ARCHITECTURE = register(
    Architecture(
        name="toy",
        title="a mean over the sites",
        citation="nowhere",
        material="crystal",
        builder=Toy,
        featurizer=BondFeaturizer,
        recipes={"default": Recipe(loss="mae", learning_rate=1e-2, batch_size=4, epochs=40)},
        small={"dim": 4},
    )
)
'''
CONTRACTS = [found for name, found in vars(contracts).items() if name.startswith("test_")]
OF_CASE = [found for found in CONTRACTS if set(inspect.signature(found).parameters) == {"case"}]
CRYSTALS = [contracts.make_crystal([11 + 8 * (seed % 2), 17 + 18 * (seed // 2 % 2)], seed) for seed in range(12)]
GAPS = np.array([seed % 2 + 0.5 * (seed // 2 % 2) for seed in range(12)])
TABLE = Table(CRYSTALS, {"gap": GAPS}, [f"c{seed}" for seed in range(12)], np.arange(12), "made up")


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory):
    """The file, imported, and its search space; both are forgotten in the end."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "toy_of_a_test.py").write_text(FILE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry.architectures()
        patch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
        importlib.import_module("toy_of_a_test")
        yield
    del sys.modules["toy_of_a_test"]


@pytest.fixture(scope="module")
def case(toy):
    keras.utils.set_random_seed(0)
    return get("toy"), get("toy").builder(("a", "b")), get("toy").featurizer()


@pytest.fixture(scope="module")
def trained(toy):
    predictor = Predictor.create("toy", [Target("gap", "eV")], seed=1)
    history = predictor.fit(TABLE, TABLE)
    assert history[-1]["gap_mae"] < 0.5 * history[0]["gap_mae"]
    return predictor


@pytest.mark.parametrize("contract", OF_CASE, ids=lambda found: found.__name__)
def test_a_contract(contract, case):
    contract(case=case)


@pytest.mark.parametrize("kind", ["site order", "rotation", "translation", "choice of cell", "supercell"])
def test_the_contract_of_descriptions(kind, case):
    contracts.test_the_description_of_a_crystal_does_not_matter(case=case, kind=kind)


def test_the_contracts_of_a_name(tmp_path):
    contracts.test_save_and_load("toy", "default", tmp_path)
    contracts.test_unknown_keyword("toy")
    contracts.test_one_program_for_all_sizes("toy")


def test_no_contract_is_left_out():
    by_name = {contracts.test_save_and_load, contracts.test_unknown_keyword, contracts.test_one_program_for_all_sizes}
    rest = {*CONTRACTS} - {*OF_CASE} - by_name
    assert rest == {contracts.test_the_description_of_a_crystal_does_not_matter}


def test_it_is_trained_saved_and_asked(trained, tmp_path):
    frame = trained.predict(CRYSTALS[:4])
    assert np.abs(frame["gap"] - GAPS[:4]).max() < 0.4 and frame["in_domain"].all()
    assert Predictor.load(trained.save(tmp_path / "m")).predict(CRYSTALS[:4]).equals(frame)
    model = get("toy").builder(("gap",))
    model.set_weights(trained.model.get_weights())
    model.save(tmp_path / "m.keras")
    records = trained.featurizer.featurize(CRYSTALS[:4])
    again = Predictor(get("toy"), {}, trained.featurizer, trained.targets, keras.saving.load_model(tmp_path / "m.keras"))
    np.testing.assert_array_equal(again.outputs(records)["gap"], trained.outputs(records)["gap"])


def test_it_is_explained(trained):
    found = explain(trained, CRYSTALS[0]).targets["gap"]
    assert found.base + found.sites.sum() + found.rest == pytest.approx(found.prediction, abs=1e-5)
    assert found.method == "exact" and len(found.sites) == 2


@pytest.mark.usefixtures("eagerly")
def test_it_is_searched(tmp_path):
    pytest.importorskip("keras_tuner")
    from tfmat.tuning import SPACES, search
    from tfmat.tuning.spaces import search_space

    @search_space
    def toy(hp):
        return {"keywords": {"dim": hp.Choice("dim", [4, 8], default=8)}, "recipe": {}}

    try:
        found = search("toy", [Target("gap", "eV")], TABLE, TABLE, tmp_path / "s", tuner="grid", epochs=1)
    finally:
        del SPACES["toy"]
    assert found is not None and sorted(trial.values["dim"] for trial in found.trials) == [4, 8]


def test_it_is_exported(trained, tmp_path):
    from tfmat.export import export_model

    export_model(trained, tmp_path / "1")
    answer = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    crystal = CRYSTALS[0]
    inputs = {"lattice": crystal.lattice, "frac_coords": crystal.frac_coords, "species": crystal.species}
    types = {"species": tf.int32}
    given = {key: tf.constant(value[None], types.get(key, tf.float32)) for key, value in inputs.items()}
    assert float(answer(**given)["gap"][0, 0]) == pytest.approx(trained.predict([crystal])["gap"][0], abs=1e-4)
