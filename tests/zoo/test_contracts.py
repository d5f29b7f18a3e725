"""What every architecture of the zoo, in every variant, must keep to. New architectures are picked up from the registry."""

import inspect

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfmat.architecture import architectures
from tfmat.batch import pad
from tfmat.elements import SYMBOLS
from tfmat.predictor import Predictor
from tfmat.target import Target

CASES = [(name, variant) for name, a in architectures().items() for variant in (a.variants or {"default": {}})]
SMALL = {"lgdcnn": {"dim": 16, "conv_dim": 16}}
MATERIALS = {"composition": ["Fe2O3", "NaCl", "Si", "SrTiO3", "Li0.5CoO2", "Ca3Al2Si3O12", "KAl3Si3O12H2"]}


def formulas():
    pair = st.tuples(st.sampled_from(SYMBOLS[1:95]), st.integers(1, 30))
    composition = st.lists(pair, min_size=1, max_size=8, unique_by=lambda p: p[0])
    return st.lists(composition.map(lambda parts: "".join(f"{s}{n}" for s, n in parts)), min_size=1, max_size=6)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request):
    """Architecture, model at its full size, featurizer."""
    name, variant = request.param
    architecture = architectures()[name]
    keras.utils.set_random_seed(0)
    model = architecture.builder(("a", "b"), **architecture.variants.get(variant, {}))
    return architecture, model, architecture.featurizer()


def outputs(model, records, indices, width):
    batch = pad(records, np.asarray(indices), dict.fromkeys(records.values, width), len(indices))
    return np.concatenate([np.asarray(model(batch)[name]) for name in ("a", "b")], axis=1)


def test_inputs_and_outputs_are_named(case):
    _, model, featurizer = case
    assert set(model.input) == set(featurizer.spec)
    assert list(model.output) == ["a", "b"]
    assert all(output.shape[0] is None and output.shape[1] in (1, 2) for output in model.output.values())


def test_builder_is_documented_and_typed(case):
    builder = case[0].builder
    parameters = inspect.signature(builder).parameters
    assert all(p.kind is not p.VAR_KEYWORD and p.default is not p.empty for p in parameters.values())
    assert all(f"{name}:" in (builder.__doc__ or "") for name in parameters)
    assert "Differences from the paper" in (builder.__doc__ or "")


def test_recipes(case):
    assert "default" in case[0].recipes
    assert case[0].name in SMALL, "give the architecture a small configuration for the tests"


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(formulas=formulas(), padding=st.integers(1, 8))
def test_padding_changes_nothing(case, formulas, padding):
    _, model, featurizer = case
    records = featurizer.featurize(formulas)
    width = int(records.lengths("species").max())
    everything = range(len(formulas))
    np.testing.assert_allclose(
        outputs(model, records, everything, width + padding), outputs(model, records, everything, width), rtol=0, atol=1e-6
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(formulas=formulas())
def test_batch_mates_change_nothing(case, formulas):
    _, model, featurizer = case
    records = featurizer.featurize(formulas)
    lengths = records.lengths("species")
    together = outputs(model, records, range(len(formulas)), int(lengths.max()))
    alone = np.concatenate([outputs(model, records, [i], int(lengths[i])) for i in range(len(formulas))])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_an_empty_example_is_finite(case):
    _, model, featurizer = case
    records = featurizer.featurize(["NaCl"])
    batch = pad(records, np.array([0]), dict.fromkeys(records.values, 3), 2)
    assert all(np.isfinite(np.asarray(output)).all() for output in model(batch).values())


def test_every_weight_gets_a_gradient(case):
    tf = pytest.importorskip("tensorflow")
    architecture, model, featurizer = case
    records = featurizer.featurize(MATERIALS[architecture.material])
    batch = pad(records, np.arange(len(records)), dict.fromkeys(records.values, int(records.lengths("species").max())), len(records))
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(output * tf.random.stateless_normal(output.shape, (1, 2))) for output in model(batch).values())
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    # d/dp 2**((1 - p)**2) is 0 at the initial p = 1, as published.
    resting = ("linear_exponent", "log_exponent")
    silent = [
        w.path
        for w, g in zip(model.trainable_weights, gradients, strict=True)
        if w.name not in resting and (g is None or not np.abs(tf.convert_to_tensor(g).numpy()).max() > 0)
    ]
    assert silent == []


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_save_and_load(name, variant, tmp_path):
    architecture = architectures()[name]
    keywords = architecture.variants.get(variant, {}) | SMALL[name]
    targets = [Target("a", "eV", mean=1.0, std=2.0), Target("b", task="binary")]
    predictor = Predictor.create(name, targets, keywords=keywords, seed=3)
    loaded = Predictor.load(predictor.save(tmp_path / "model"))
    materials = MATERIALS[architecture.material]
    assert loaded.predict(materials).equals(predictor.predict(materials))
    assert loaded.to_config() == Predictor.load(tmp_path / "model").to_config()


@pytest.mark.parametrize("name", sorted(architectures()))
def test_unknown_keyword(name):
    with pytest.raises(TypeError, match="heads"):
        architectures()[name].builder(("a",), heads=3)
    with pytest.raises(ValueError, match=f"{name} has no keyword 'heads'"):
        Predictor.create(name, [Target("a")], keywords={"heads": 3})


@pytest.mark.parametrize("name", sorted(architectures()))
def test_xla_gives_the_same_numbers(name):
    predictor = Predictor.create(name, [Target("a")], keywords=SMALL[name])
    records = predictor.featurizer.featurize(MATERIALS[predictor.architecture.material])
    plain, compiled = (predictor.outputs(records, jit_compile=jit)["a"] for jit in (False, True))
    np.testing.assert_allclose(plain, compiled, atol=1e-5)
