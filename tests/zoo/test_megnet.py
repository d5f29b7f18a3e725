"""MEGNet as a whole against NumPy: both flavors, states, heads; its size; and what its builder refuses."""

import itertools
import json

import keras
import megnet_reference as reference
import numpy as np
import pytest
from megnet_cases import CRYSTALS, ISOLATED, SALT, SALTS, SMALL, TRICLINIC, batch_of, changed, crystal, randomise, table, values

from tfmat.featurizers.bonds import BondFeaturizer
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.recipe import Recipe
from tfmat.zoo.megnet import MEGNet

FLAVORS = ["megnet", "matgl"]
FORMS = list(itertools.product(FLAVORS, [False, True]))


def dense(*widths):
    """Parameters of dense layers in a row."""
    return sum((rows + 1) * columns for rows, columns in itertools.pairwise(widths))


def parameters(*, matgl=False, blocks=3, state=2, fidelities=0, n3=16, n1=64, n2=32, gaussians=100, columns=1):
    """From the published equations: the parameters of a model with one target."""
    count = 95 * n3 + fidelities * n3
    count += dense(n3, n1, n2) + dense(gaussians, n1, n2) + dense(n3 if fidelities else state, n1, n2)
    count += blocks * (dense(4 * n2, n1, n1, n2) + 2 * dense(3 * n2, n1, n1, n2)) + (blocks - 1) * 3 * dense(n2, n1, n2)
    n = n2 if matgl else n2 // 2
    count += 2 * ((0 if matgl else dense(n2, n)) + dense(2 * n, 4 * n))
    return count + dense(4 * n + n2, 32, 16, columns)


def expected(weights, one, cutoff=4.0, **options):
    return reference.megnet(weights, one.species, *reference.bonds(one.lattice, one.frac_coords, cutoff), cutoff=cutoff, **options)


def outputs(model, crystals, featurizer=None, same=1e-4):
    output = model(batch_of(crystals, featurizer, same))["target"]
    return keras.ops.convert_to_numpy(output)[: len(crystals)]


def test_number_of_parameters():
    assert MEGNet().count_params() == parameters() == 167_761
    assert MEGNet(flavor="matgl").count_params() == parameters(matgl=True) == 181_169
    small = {"n1": 8, "n2": 8, "gaussians": 16}
    for flavor in FLAVORS:
        matgl = flavor == "matgl"
        assert MEGNet(flavor=flavor, **SMALL, blocks=1).count_params() == parameters(matgl=matgl, blocks=1, **small)
        assert MEGNet(flavor=flavor, **SMALL, state_dim=5).count_params() == parameters(matgl=matgl, state=5, **small)
        assert MEGNet(flavor=flavor, **SMALL, fidelities=4).count_params() == parameters(matgl=matgl, fidelities=4, **small)
    assert MEGNet(**SMALL, uncertainty=True).count_params() == parameters(columns=2, **small)


@pytest.mark.parametrize(("flavor", "legacy"), FORMS)
@pytest.mark.parametrize(("blocks", "steps", "cutoff", "width"), [(3, 3, 4.0, None), (1, 1, 5.0, 0.8)])
def test_the_reference_numbers(flavor, legacy, blocks, steps, cutoff, width):
    options = {"flavor": flavor, "blocks": blocks, "set2set_steps": steps, "cutoff": cutoff, "gaussian_width": width}
    model = MEGNet(**options, **SMALL, embedding_dim=5, readout_dims=(7, 3), legacy_set2set=legacy)
    weights = randomise(model, seed=blocks)
    wanted = [expected(weights, one, legacy=legacy, **options) for one in CRYSTALS]
    for same in (0.0, 1e-4):
        output = outputs(model, CRYSTALS, BondFeaturizer(cutoff), same)
        np.testing.assert_allclose(output[:, 0], wanted, rtol=0, atol=2e-5)
    assert len(set(np.round(wanted, 4))) == 5, "only the supercell predicts what another one does"


@pytest.fixture
def double():
    """Models compute in float64."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(("flavor", "legacy"), FORMS)
def test_the_reference_numbers_in_double_precision(double, flavor, legacy):
    """At full size, so that what float32 could hide does not fit in."""
    model = MEGNet(flavor=flavor, legacy_set2set=legacy)
    weights = randomise(model)
    every, classes = (batch_of(CRYSTALS, same=same) for same in (0.0, 1e-4))
    for batch in (every, classes):
        batch["distances"] = np.round(batch["distances"], 4)
    owners = np.searchsorted(np.cumsum(every["batch_sites"]), np.arange(len(every["species"])), side="right")
    first, wanted = np.cumsum(every["batch_sites"]) - every["batch_sites"], []
    for row in range(len(CRYSTALS)):
        bonds = owners[every["bond_receivers"]] == row
        ends = (every[key][bonds] - first[row] for key in ("bond_receivers", "bond_senders"))
        lengths = every["distances"][bonds].astype(float)
        wanted.append(reference.megnet(weights, every["species"][owners == row], *ends, lengths, cutoff=4.0, flavor=flavor, legacy=legacy))
    assert 3 * len(classes["distances"]) < 2 * len(every["distances"])
    for batch in (every, classes):
        output = keras.ops.convert_to_numpy(model(batch)["target"])
        assert output.dtype == np.float64
        np.testing.assert_allclose(output[: len(wanted), 0], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_an_isolated_atom_gets_no_message_and_counts_as_an_atom(flavor):
    featurizer = BondFeaturizer()
    assert 0 not in featurizer(ISOLATED)["bond_receivers"]
    model = MEGNet(flavor=flavor, **SMALL)
    weights = randomise(model)
    pair = crystal(ISOLATED.species[1:], ISOLATED.lattice, ISOLATED.frac_coords[1:])
    other = crystal([54, 29, 29], ISOLATED.lattice, ISOLATED.frac_coords)
    output = outputs(model, [ISOLATED, pair, other], featurizer)[:, 0]
    wanted = [expected(weights, one, flavor=flavor, legacy=False) for one in (ISOLATED, pair, other)]
    np.testing.assert_allclose(output, wanted, rtol=0, atol=2e-5)
    assert min(abs(wanted[0] - wanted[1]), abs(wanted[0] - wanted[2])) > 1e-3


STATES = [
    ({"state_dim": 3}, [[0.5, -1.0, 2.0], [0.0, 1.0, 0.0], [0.5, -1.0, 2.1]]),
    ({"state_dim": 1}, [[300.0 / 1000], [0.6], [0.9]]),
    ({"fidelities": 4}, [3, 0, 2]),
]


@pytest.mark.parametrize(("options", "states"), STATES, ids=str)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_states(flavor, options, states):
    keywords = {"flavor": flavor, **SMALL, **options}
    predictor = Predictor.create("megnet", [Target("target")], keywords=keywords)
    weights = randomise(predictor.model)
    crystals = [crystal(TRICLINIC.species, TRICLINIC.lattice, TRICLINIC.frac_coords, state) for state in states]
    wanted = [expected(weights, one, flavor=flavor, legacy=False, state=state) for one, state in zip(crystals, states, strict=True)]
    np.testing.assert_allclose(predictor.predict(crystals)["target"], wanted, rtol=0, atol=2e-5)
    assert min(np.abs(np.diff(wanted))) > 1e-4
    error = predictor.predict([TRICLINIC])["error"][0]
    assert "has no state" in error


def test_without_state_a_crystals_state_is_ignored():
    model = MEGNet(**SMALL)
    randomise(model)
    with_state = crystal(SALT.species, SALT.lattice, SALT.frac_coords, [3.0])
    first, second = outputs(model, [SALT])[0], outputs(model, [with_state])[0]
    np.testing.assert_array_equal(first, second)


def test_a_classifier_and_two_targets():
    targets = [Target("metal", task="binary"), Target("gap", "eV", mean=1.5, std=2.0)]
    predictor = Predictor.create("megnet", targets, keywords=SMALL)
    weights = randomise(predictor.model)
    frame = predictor.predict(CRYSTALS)
    logits, gaps = ([expected(weights, one, target=name, legacy=False) for one in CRYSTALS] for name in ("metal", "gap"))
    np.testing.assert_allclose(frame["metal"], reference.sigmoid(np.array(logits)), rtol=0, atol=1e-5)
    np.testing.assert_allclose(frame["gap"], 1.5 + 2.0 * np.array(gaps), rtol=0, atol=4e-5)
    assert "gap_uncertainty" not in frame


def test_uncertainty():
    predictor = Predictor.create("megnet", [Target("gap", "eV", std=2.0)], keywords=SMALL | {"uncertainty": True})
    weights = randomise(predictor.model)
    assert predictor.model.output["gap"].shape == (None, 2)
    frame = predictor.predict(CRYSTALS)
    first, second = ({"gap/kernel": weights["gap/kernel"][:, [k]], "gap/bias": weights["gap/bias"][[k]]} for k in (0, 1))
    value, log_scale = ([expected(weights | part, one, target="gap", legacy=False) for one in CRYSTALS] for part in (first, second))
    np.testing.assert_allclose(frame["gap"], 2.0 * np.array(value), rtol=0, atol=4e-5)
    np.testing.assert_allclose(frame["gap_uncertainty"], 2.0 * np.exp(log_scale), rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"flavor": "keras"}, "`flavor` must be 'megnet' or 'matgl'. Received: flavor='keras'"),
        ({"blocks": 0}, "`blocks` must be at least 1"),
        ({"state_dim": 2, "fidelities": 3}, "`state_dim` and `fidelities` exclude each other"),
        ({"set2set_steps": 0}, "`steps` must be at least 1"),
        ({"gaussians": 1}, "`number` at least 2"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_what_the_builder_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        MEGNet(**wrong)


@pytest.mark.parametrize("name", ["megnet", "paraisite"])
def test_the_cutoff_is_that_of_model_and_featurizer(name):
    predictor = Predictor.create(name, [Target("y")], keywords=SMALL | {"cutoff": 5.0, "fidelities": 2})
    assert (predictor.featurizer.cutoff, predictor.featurizer.fidelities) == (5.0, 2)
    assert predictor.model.get_layer("bond_expansion").highest == 6.0


@pytest.mark.parametrize("flavor", FLAVORS)
def test_dropout_and_l2_act_in_training_alone(flavor):
    model = MEGNet(flavor=flavor, **SMALL, dropout=0.3, l2=0.01)
    weights = randomise(model)
    plain = MEGNet(flavor=flavor, **SMALL)
    plain.set_weights(model.get_weights())
    batch = batch_of(CRYSTALS)
    still, dropped, before = model(batch)["target"], model(batch, training=True)["target"], plain(batch)["target"]
    np.testing.assert_array_equal(np.asarray(still), np.asarray(before))
    assert np.abs(np.asarray(dropped) - np.asarray(still))[: len(CRYSTALS)].max() > 1e-3
    np.testing.assert_array_equal(np.asarray(plain(batch, training=True)["target"]), np.asarray(before))
    kernels = [value for path, value in weights.items() if path.endswith(("/kernel", "projection_kernel"))]
    spared = sum((weights[path] ** 2).sum() for path in ("target/kernel", "atom_set2set/kernel", "bond_set2set/kernel"))
    assert float(sum(model.losses)) == pytest.approx(0.01 * (sum((kernel**2).sum() for kernel in kernels) - spared), rel=1e-5)
    assert not plain.losses


def test_l2_shrinks_the_weights():
    """Where the target is fitted already, the penalty is all that a step sees."""
    predictor = Predictor.create("megnet", [Target("y")], keywords=SMALL | {"l2": 1.0, "blocks": 1})
    for weight in predictor.model.get_layer("y").weights:
        weight.assign(np.zeros(weight.shape))
    before = values(predictor.model)
    recipe = Recipe(loss="mse", schedule="constant", optimizer="adam", batch_size=8)
    history = predictor.fit(table("y", np.zeros(len(SALTS))), recipe=recipe, epochs=1)
    after = values(predictor.model)
    assert history[0]["loss"] > 1.0
    shrunk = {path for path in before if "kernel" in path and (after[path] ** 2).sum() < (before[path] ** 2).sum()}
    kept = {"y/kernel", "atom_set2set/kernel", "bond_set2set/kernel"}
    assert shrunk == {path for path in before if "kernel" in path} - kept and not changed(before, after) & kept


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_model_comes_back_from_its_configuration(flavor):
    model = MEGNet(("a", "b"), flavor=flavor, **SMALL, blocks=2, dropout=0.1, l2=0.1, fidelities=2, uncertainty=True)
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))
    assert values(copy).keys() == values(model).keys()
    copy.set_weights(model.get_weights())
    crystals = [crystal(one.species, one.lattice, one.frac_coords, 1) for one in CRYSTALS]
    batch = batch_of(crystals, BondFeaturizer(fidelities=2))
    for name, output in model(batch).items():
        np.testing.assert_array_equal(np.asarray(copy(batch)[name]), np.asarray(output))
