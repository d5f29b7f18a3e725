"""The atom-list LSTM against its equations in NumPy, its published size, and what is particular to it."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.atom_list_reference import atom_list_lstm
from tfmat.architecture import architectures
from tfmat.batching.arrays import batch_arrays
from tfmat.crystal import Crystal
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.featurizers import AtomListFeaturizer
from tfmat.layers.outputs import fit_outputs
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.recipe import Recipe
from tfmat.zoo.atom_list_lstm import NOWHERE, AtomListLSTM

ROCK_SALT = Crystal(np.array([11, 17], np.int32), 2.82 * (np.ones((3, 3)) - np.eye(3)), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))
SMALL = {"embedding_dim": 8, "site_units": 8, "crystal_units": 64, "layers": 2}  # a narrower head is easily dead


def random_crystal(seed, sites=4):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3)[rng.permutation(8)[:sites]]
    return Crystal(rng.integers(1, 86, sites).astype(np.int32), np.diag(rng.uniform(3.5, 4.5, 3)), grid + rng.normal(0, 0.03, grid.shape))


def cell_of(copies):
    """Rock salt, so many primitive cells along one axis."""
    shifts = np.arange(copies)[:, None, None] * np.array([1, 0, 0])
    coords = ((ROCK_SALT.frac_coords + shifts).reshape(-1, 3)) / [copies, 1, 1]
    return Crystal(np.tile(ROCK_SALT.species, copies), ROCK_SALT.lattice * [[copies], [1], [1]], coords)


def randomised(model, seed=0, scale=0.3):
    """Weights without the zeros and ones of a fresh model, which would hide errors."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(weight + rng.normal(0, scale / np.sqrt(max(weight.shape[0], 4)), weight.shape))
    return model


def outputs(model, crystals, featurizer=None, filled=False):
    records = (featurizer or AtomListFeaturizer()).featurize(crystals).select(list(model.input.keys() - {"batch_sites"}))
    return np.asarray(model(batch_arrays(records, np.arange(len(crystals)), len(crystals), filled))["target"])[:, 0]


def alone(model, arrays):
    """The output for one crystal."""
    batch = {key: np.append(value, np.zeros_like(value[:1]), axis=0) for key, value in arrays.items() if key != "lists"}
    batch |= {"lists": arrays["lists"][None], "batch_sites": np.array([len(arrays["species"])], np.int32)}
    return np.asarray(model(batch)["target"])


def trained_size(**keywords):
    return sum(int(np.prod(weight.shape)) for weight in AtomListLSTM(**keywords).trainable_weights)


def test_published_sizes():
    assert trained_size(heaviest=85, output="relu") == 653_296
    assert trained_size(heaviest=85, output="relu", normalisation=False) == 652_784
    assert trained_size() == 653_296 + 10 * 32
    assert AtomListLSTM(heaviest=85).count_params() == 653_296


CASES = [
    {},
    {"pooling": "mean"},
    {"normalisation": False, "layers": 1},
    {"cutoff": 3.0, "order": "published"},
    {"n_list": 6, "centre_weight": 0.3, "heaviest": 85, "output": "relu"},
]
OF_FEATURIZER = ("n_list", "cutoff", "order", "heaviest")
OF_REFERENCE = ("layers", "centre_weight", "normalisation", "pooling")


def in_numpy(model, crystal, keywords, **change):
    arrays = AtomListFeaturizer(**{key: value for key, value in keywords.items() if key in OF_FEATURIZER})(crystal)
    options = {key: value for key, value in (SMALL | keywords).items() if key in OF_REFERENCE}
    return atom_list_lstm(model, arrays, **options | change)


@pytest.mark.parametrize("keywords", CASES, ids=lambda k: "-".join(f"{a}={b}" for a, b in k.items()) or "default")
def test_equals_the_equations(keywords):
    model = randomised(AtomListLSTM(**(SMALL | keywords)))
    crystals = [ROCK_SALT, random_crystal(1, 8), random_crystal(2, 1), cell_of(14)]
    found = outputs(model, crystals, architectures()["atom_list_lstm"].default_featurizer(keywords))
    expected = [in_numpy(model, crystal, keywords) for crystal in crystals]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert np.ptp(expected) > 1e-3


def test_the_reference_would_show_the_published_mistakes():
    """The index of the element in place of 1 / r; and initial states of zero."""
    model = randomised(AtomListLSTM(**SMALL))
    crystal = random_crystal(3)
    found = outputs(model, [crystal])[0]
    assert abs(found - in_numpy(model, crystal, {})) < 2e-5
    assert abs(found - in_numpy(model, crystal, {}, as_run=True)) > 1e-3
    assert abs(found - in_numpy(model, crystal, {}, start=0.0)) > 1e-3


def test_distances_matter():
    """As run, the published model knew them only through the order of the entries."""
    model = randomised(AtomListLSTM(**SMALL))
    one, wider = outputs(model, [ROCK_SALT, dataclasses.replace(ROCK_SALT, lattice=1.05 * ROCK_SALT.lattice)])
    assert abs(one - wider) > 1e-4


@pytest.mark.parametrize("pooling", ["lstm", "mean"])
def test_supercells(pooling):
    """The registry says which variants count the sites."""
    keywords = architectures()["atom_list_lstm"].variants[pooling]
    model = randomised(AtomListLSTM(**SMALL, **keywords))
    one, two, three = outputs(model, [cell_of(1), cell_of(2), cell_of(3)])
    counts = architectures()["atom_list_lstm"].depends_on_cell(keywords) is not None
    assert (abs(one - two) > 1e-4 and abs(two - three) > 1e-4) == counts
    assert counts or np.ptp([one, two, three]) < 1e-5


@pytest.mark.parametrize("pooling", ["lstm", "mean"])
def test_padding_and_empty_lists_change_nothing(pooling):
    model = randomised(AtomListLSTM(**SMALL, pooling=pooling))
    assert ("lists" in model.input) == (pooling == "lstm")
    crystals = [ROCK_SALT, random_crystal(1, 7), random_crystal(2, 1), cell_of(2)]
    expected = [outputs(model, [crystal])[0] for crystal in crystals]
    for filled in (False, True):
        np.testing.assert_allclose(outputs(model, crystals, filled=filled), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pooling", ["lstm", "mean"])
def test_equal_lists_are_read_once(pooling):
    model = randomised(AtomListLSTM(**SMALL, pooling=pooling))
    every, once = (AtomListFeaturizer(same=same) for same in (0.0, 1e-4))
    assert (len(every(cell_of(2))["species"]), len(once(cell_of(2))["species"])) == (4, 2)
    one, other = (outputs(model, [cell_of(2), random_crystal(1), cell_of(5)], featurizer) for featurizer in (every, once))
    np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


def test_short_lists_end_where_the_cutoff_is():
    """A slot behind the end changes nothing."""
    model = randomised(AtomListLSTM(**SMALL, cutoff=3.0))
    shorter = randomised(AtomListLSTM(**SMALL, cutoff=3.0, n_list=10))
    arrays = AtomListFeaturizer(cutoff=3.0)(ROCK_SALT)
    assert (arrays["elements"] > 0).sum(1).tolist() == [6, 6]
    for one, other in zip(model.weights, shorter.weights, strict=True):
        other.assign(one)
    cut = {key: value[:, :9] if value.ndim == 2 else value for key, value in arrays.items()}
    np.testing.assert_allclose(alone(model, arrays), alone(shorter, cut), rtol=0, atol=1e-6)


def table_of(crystals, **targets):
    return Table(crystals, targets, [str(i) for i in range(len(crystals))], np.arange(len(crystals)), "test")


def gaps(number=24):
    values = np.linspace(0.0, 4.0, number)
    return table_of([random_crystal(seed, 2) for seed in range(number)], gap=values, level=values - 1.0)


def test_the_floor_is_the_physical_zero():
    predictor = Predictor.create("atom_list_lstm", [Target("gap", "eV")], keywords=SMALL | {"output": "relu"})
    floor = predictor.model.get_layer("gap").floor
    assert float(floor) == NOWHERE
    table = gaps()
    predictor.fit(table, recipe=Recipe(loss="mse", learning_rate=1e-2, batch_size=8), epochs=1)
    target = predictor.targets[0]
    assert float(floor) == pytest.approx(-target.mean / target.std, abs=1e-6)
    predictor.model.get_layer("gap").bias.assign(-10.0 * np.ones(16))
    assert predictor.predict(table.materials[:3])["gap"].to_numpy() == pytest.approx(0.0, abs=1e-6)


def test_no_floor_where_nothing_can_be_negative():
    """A probability, and what stands behind a logarithm."""
    targets = [Target("gap", "eV", transform="log10"), Target("level", task="binary")]
    predictor = Predictor.create("atom_list_lstm", targets, keywords=SMALL | {"output": "relu"})
    values = {"gap": np.array([0.5, 2.0]), "level": np.array([0.0, 1.0])}
    fit_outputs(predictor.model, targets, values)
    assert [float(predictor.model.get_layer(target.name).floor) for target in targets] == [NOWHERE] * 2
    shifted = dataclasses.replace(targets[0], transform="log10_1p", mean=0.3, std=0.2)
    fit_outputs(predictor.model, [shifted], values)
    assert float(predictor.model.get_layer("gap").floor) == pytest.approx(-1.5)


def test_a_floor_needs_values_above_it():
    keywords = SMALL | {"output": "relu"}
    predictor = Predictor.create("atom_list_lstm", [Target("gap", "eV"), Target("level", "eV")], keywords=keywords)
    with pytest.raises(InputError, match=r"6 of the training values of 'level' are negative\. Expected output='linear'"):
        predictor.fit(gaps(), recipe=Recipe(loss="mse"), epochs=1)


@pytest.mark.parametrize("pooling", ["lstm", "mean"])
def test_it_learns(pooling):
    """A few crystals by heart, from below the floor, where a plain ReLU would never learn."""
    keywords = SMALL | {"output": "relu", "pooling": pooling, "normalisation": False}
    predictor = Predictor.create("atom_list_lstm", [Target("gap", "eV")], keywords=keywords)
    predictor.model.get_layer("gap").bias.assign(-0.3 * np.ones(16))
    recipe = Recipe(loss="mse", optimizer="adam", learning_rate=5e-3, batch_size=12, schedule="step", step_epochs=80, step_factor=0.3)
    history = predictor.fit(gaps(12), recipe=recipe, epochs=120)
    assert history[0]["gap_mae"] == pytest.approx(2.0, abs=0.01) and history[-1]["gap_mae"] < 0.3


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"pooling": "max"}, "pooling='max'"),
        ({"output": "gelu"}, "output='gelu'"),
        ({"crystal_units": 30}, "crystal_units=30"),
        ({"n_list": 1}, "n_list=1"),
    ],
)
def test_bad_keywords(keywords, message):
    with pytest.raises(ValueError, match=message):
        AtomListLSTM(**keywords)


def test_saved_with_keras(tmp_path):
    model = randomised(AtomListLSTM(**SMALL, output="relu"))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(model, [ROCK_SALT]), outputs(loaded, [ROCK_SALT]))
