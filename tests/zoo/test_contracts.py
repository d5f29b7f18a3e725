"""What every architecture of the zoo, in every variant, must keep to. New architectures are picked up from the registry."""

import dataclasses
import functools
import inspect
import typing

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import MATERIALS, SLOW, VARIANTS, make_crystal, of_variants

from tfmat.architecture import architectures
from tfmat.batching.arrays import ROWS_OF, batch_arrays, is_lists
from tfmat.crystal import Crystal
from tfmat.elements import SYMBOLS
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.inference import forward


def formulas():
    pair = st.tuples(st.sampled_from(SYMBOLS[1:95]), st.integers(1, 30))
    composition = st.lists(pair, min_size=1, max_size=8, unique_by=lambda p: p[0])
    return composition.map(lambda parts: "".join(f"{s}{n}" for s, n in parts))


def crystals():
    return st.builds(make_crystal, st.lists(st.integers(1, 94), min_size=1, max_size=6), st.integers(0, 2**32 - 1))


ROUNDING = {"composition": 1e-6, "crystal": 1e-5}
"""Matrix products round differently for another number of rows; models of crystals have more of them, one after the other."""
KINDS = {"composition": formulas(), "crystal": crystals()}


@pytest.fixture(scope="module", params=of_variants(), ids="-".join)
def case(request):
    """Architecture, a small model of the variant, featurizer."""
    return case_of(*request.param)


@functools.cache
def case_of(name, variant):
    architecture = architectures()[name]
    keras.utils.set_random_seed(0)
    model = architecture.builder(("a", "b"), **{**architecture.variants.get(variant, {}), **architecture.small})
    return architecture, model, architecture.featurizer()


def batch_of(model, records, indices, empty_rows=0, padding=0):
    """A batch with `padding` more padded places, or empty entries at the end of each list."""
    batch = batch_arrays(records, np.asarray(indices), len(indices) + empty_rows)
    for key, values in batch.items():
        if not is_lists(records) or key == "lists":
            batch[key] = np.pad(values, [(0, 0), (0, padding), *[(0, 0)] * (values.ndim - 2)])
        elif key not in ("state", "batch_sites"):
            batch[key] = np.concatenate([values, np.repeat(values[-1:], padding, axis=0)])
    for key, listed in ROWS_OF.items():
        if key in batch:
            batch[key][len(batch[key]) - padding - 1 :] = len(batch[listed]) - 1
    return {key: batch[key] for key in model.input}


traced = functools.cache(forward)


def outputs(model, records, indices, padding=0):
    found = traced(model)(batch_of(model, records, indices, padding=padding))
    return np.concatenate([found[name] for name in ("a", "b")], axis=1)


def test_inputs_and_outputs_are_named(case):
    _, model, featurizer = case
    unread = {"lists"} if "site_multiplicity" in featurizer.spec else set()  # a sequence of sites, which not every variant reads
    assert set(featurizer.spec) - unread <= set(model.input) - {"batch_sites"} <= set(featurizer.spec)
    assert ("batch_sites" in model.input) == ("site_multiplicity" in featurizer.spec)
    assert list(model.output) == ["a", "b"]
    assert all(output.shape[0] is None and output.shape[1] in (1, 2) for output in model.output.values())


def test_builder_is_documented_and_typed(case):
    builder = case[0].builder
    parameters = inspect.signature(builder).parameters
    assert all(p.kind is not p.VAR_KEYWORD and p.default is not p.empty for p in parameters.values())
    assert all(f"{name}:" in (builder.__doc__ or "") for name in parameters)
    assert set(typing.get_type_hints(builder)) == {*parameters, "return"}
    assert typing.get_type_hints(builder)["uncertainty"] is bool
    assert "Differences from the paper" in (builder.__doc__ or "")


def test_recipes(case):
    assert "default" in case[0].recipes
    assert case[0].small, "give the architecture a small configuration for the tests"
    assert case[0].citation and case[0].title


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), padding=st.integers(1, 8))
def test_padding_changes_nothing(case, data, padding):
    architecture, model, featurizer = case
    materials = data.draw(st.lists(KINDS[architecture.material], min_size=1, max_size=6))
    records, everything = featurizer.featurize(materials), range(len(materials))
    padded, exact = outputs(model, records, everything, padding), outputs(model, records, everything)
    np.testing.assert_allclose(padded, exact, rtol=0, atol=ROUNDING[architecture.material])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_batch_mates_change_nothing(case, data):
    architecture, model, featurizer = case
    materials = data.draw(st.lists(KINDS[architecture.material], min_size=1, max_size=6))
    records = featurizer.featurize(materials)
    together = outputs(model, records, range(len(materials)))
    alone = np.concatenate([outputs(model, records, [i]) for i in range(len(materials))])
    np.testing.assert_allclose(together, alone, rtol=0, atol=ROUNDING[architecture.material])


def same_crystal(crystal, kind, seed):
    """The crystal in another description: sites permuted, rotated, shifted by lattice vectors, in another cell, or doubled."""
    rng = np.random.default_rng(seed)
    species, lattice, coords = crystal.species, crystal.lattice, crystal.frac_coords
    if kind == "site order":
        order = rng.permutation(len(species))
        return Crystal(species[order], lattice, coords[order])
    if kind == "rotation":
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # an improper one as often as not
        return Crystal(species, lattice @ rotation, coords)
    if kind == "translation":
        return Crystal(species, lattice, coords + rng.uniform(-2, 2, 3) + rng.integers(-2, 3, coords.shape))
    if kind == "choice of cell":
        change = np.eye(3)
        for _ in range(3):
            shear = np.eye(3)
            shear[tuple(rng.permutation(3)[:2])] = rng.integers(-1, 2)
            change = shear @ change
        return Crystal(species, change @ lattice, coords @ np.linalg.inv(change))
    doubled = np.concatenate([coords, coords + [1, 0, 0]]) * [0.5, 1, 1]
    return Crystal(np.tile(species, 2), lattice * [[2], [1], [1]], doubled)


def depends_on_cell(name, variant):
    return architectures()[name].depends_on_cell(architectures()[name].variants.get(variant, {}))


DESCRIPTIONS = [
    pytest.param(case, kind, marks=pytest.mark.slow if case in SLOW else ())
    for case in VARIANTS
    for kind in ("site order", "rotation", "translation", "choice of cell", "supercell")
    if architectures()[case[0]].material == "crystal" and not (kind == "supercell" and depends_on_cell(*case))
]


@pytest.mark.parametrize(
    ("case", "kind"), DESCRIPTIONS, indirect=["case"], ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crystal=crystals(), seed=st.integers(0, 2**32 - 1))
def test_the_description_of_a_crystal_does_not_matter(case, kind, crystal, seed):
    _, model, featurizer = case
    records = featurizer.featurize([crystal, same_crystal(crystal, kind, seed)])
    one, other = outputs(model, records, [0, 1])
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_an_empty_example_is_finite(case):
    architecture, model, featurizer = case
    records = featurizer.featurize(MATERIALS[architecture.material][:1])
    batch = batch_of(model, records, [0], empty_rows=1, padding=1)
    assert all(np.isfinite(np.asarray(output)).all() for output in model(batch).values())


def test_every_weight_gets_a_gradient(case):
    tf = pytest.importorskip("tensorflow")
    architecture, model, featurizer = case
    records = featurizer.featurize(MATERIALS[architecture.material])
    batch = batch_of(model, records, range(len(records)))
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(output * tf.random.stateless_normal(output.shape, (1, 2))) for output in model(batch).values())
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    # d/dp 2**((1 - p)**2) is 0 at the initial p = 1, as published; and a softmax does not feel what is added to all its scores.
    resting = ("linear_exponent", "log_exponent", "score_bias")
    # The constant state is [0, 0], and so is what the first layer makes of it as long as its bias is zero.
    unused = () if "state" in model.input else ("state_encoder_1/kernel", "state_encoder_2/kernel")
    silent = [
        w.path
        for w, g in zip(model.trainable_weights, gradients, strict=True)
        if w.name not in resting and w.path not in unused and (g is None or not np.abs(tf.convert_to_tensor(g).numpy()).max() > 0)
    ]
    assert silent == []


@pytest.mark.parametrize(("name", "variant"), [pytest.param(*case.values[0], marks=case.marks) for case in of_variants()])
@pytest.mark.usefixtures("eagerly")
def test_save_and_load(name, variant, tmp_path):
    architecture = architectures()[name]
    keywords = {**architecture.variants.get(variant, {}), **architecture.small}
    targets = [Target("a", "eV", mean=1.0, std=2.0), Target("b", task="binary")]
    predictor = Predictor.create(name, targets, keywords=keywords, seed=3)
    loaded = Predictor.load(predictor.save(tmp_path / "model"))
    materials = MATERIALS[architecture.material]
    assert loaded.predict(materials).equals(predictor.predict(materials))
    assert loaded.to_config() == Predictor.load(tmp_path / "model").to_config()


@pytest.mark.parametrize("name", sorted(architectures()))
def test_unknown_keyword(name):
    with pytest.raises(TypeError, match="wings"):
        architectures()[name].builder(("a",), wings=3)
    with pytest.raises(ValueError, match=f"{name} has no keyword 'wings'"):
        Predictor.create(name, [Target("a")], keywords={"wings": 3})


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crystal=crystals(), seed=st.integers(0, 2**32 - 1))
def test_equal_sites_are_computed_once(case, crystal, seed):
    """A crystal and its supercell, each as classes of equal sites and with every copy."""
    architecture, model, featurizer = case
    if architecture.material != "crystal":
        pytest.skip("compositions have no copies")
    for material in (crystal, same_crystal(crystal, "supercell", seed)):
        classes, copies = (f.featurize([material]) for f in (featurizer, dataclasses.replace(featurizer, same=0)))
        np.testing.assert_allclose(outputs(model, classes, [0]), outputs(model, copies, [0]), rtol=0, atol=1e-5)
    assert len(classes.values["species"]) < len(copies.values["species"])


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "paraisite" else ()) for n in sorted(architectures())])
def test_one_program_for_all_sizes(name):
    tf = pytest.importorskip("tensorflow")
    predictor = Predictor.create(name, [Target("a")], keywords=architectures()[name].small)
    traces = []
    call = type(predictor.model).call
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(predictor.model), "call", lambda self, *a, **k: traces.append(tf.executing_eagerly()) or call(self, *a, **k))
        for material in MATERIALS[predictor.architecture.material]:
            predictor.predict([material])
    assert traces == [False]
