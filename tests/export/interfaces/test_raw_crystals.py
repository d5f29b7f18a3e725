"""`serving_default` of models of crystals: lattice, coordinates and species in, what `Predictor.predict` says out."""

import numpy as np
import pytest
import tensorflow as tf
from crystal_descriptions import prototype
from exported_crystals import CASES, make, names, same
from raw_cases import bad_rows, handmade, skewed

from tfmat import datasets
from tfmat.architecture import architectures
from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.export import ExportError, export_model
from tfmat.export.formats.saved_model import as_module
from tfmat.export.interfaces import interface_of
from tfmat.export.interfaces.crystals import EXAMPLES
from tfmat.export.verify import largest_difference
from tfmat.predictor import Predictor
from tfmat.target import Target

# One of each architecture, and those whose numbers depend on the order of what is found.
CHOSEN = (
    "megnet, legacy Set2Set",
    "paraisite, uncertainty",
    "crysformer, uncertainty",
    "crysformer, strict",
    "atom_list_lstm, uncertainty",
)
SLOW = ("paraisite, uncertainty", "crysformer, uncertainty")
"""Another one has the same search: without `strict` nothing depends on the order of the neighbours."""
ELEMENTS = [1, 6, 8, 11, 17, 22, 38]


def tensors(batch):
    return {key: tf.constant(value) for key, value in batch.items()}


def entry_of(predictor):
    return interface_of(predictor).entries()["serving_default"]


def served(predictor):
    """`serving_default` without the way over files, which `test_crystal_interfaces` goes."""
    return as_module(predictor, interface_of(predictor).signatures())[1]["serving_default"]


def answers(predictor, serve, materials, size=32):
    """All outputs, in batches of about equally large crystals."""
    order = sorted(range(len(materials)), key=lambda index: len(materials[index]))
    outputs = {}
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        for key, value in serve(**tensors(entry_of(predictor).encode([materials[row] for row in rows]))).items():
            outputs.setdefault(key, np.zeros((len(materials), 1), value.dtype.as_numpy_dtype))[rows] = value.numpy()
    return outputs


def assert_predicted(predictor, serve, materials):
    """At most 1e-4 from `Predictor.predict`, relative to the value or, where that is larger, the spread of the target."""
    outputs, frame = answers(predictor, serve, materials), predictor.predict(materials)
    assert not frame["error"].any() and frame[predictor.targets[0].name].nunique() > len(frame) / 3
    np.testing.assert_array_equal(outputs.pop("n_sites")[:, 0], frame["sites"])
    np.testing.assert_array_equal(outputs.pop("in_domain")[:, 0], frame["in_domain"])
    expected = {name: frame[name].to_numpy()[:, None] for name in outputs}
    assert largest_difference(predictor, outputs, expected) <= 1e-4


@pytest.fixture(scope="module", params=[pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CHOSEN])
def predictor(request):
    result = make(request.param, blocks=1 if "crysformer" in request.param else None)
    result.info["elements"] = ELEMENTS
    return result


@pytest.fixture(scope="module")
def serve(predictor):
    return served(predictor)


def test_every_architecture_is_chosen():
    """One that takes crystals and is not in the list above is not tested."""
    assert {CASES[case][0] for case in CHOSEN} == {name for name, given in architectures().items() if given.material == "crystal"}


def test_agrees_with_the_predictor(predictor, serve):
    assert_predicted(predictor, serve, handmade())


def test_what_is_told_of_the_material(predictor, serve):
    materials = [prototype("rock salt"), prototype("perovskite"), prototype("fcc")]
    outputs = serve(**tensors(entry_of(predictor).encode(materials)))
    assert set(outputs) == names(predictor) | {"n_sites", "in_domain"}
    assert outputs["n_sites"].dtype == tf.int32 and outputs["n_sites"].numpy().tolist() == [[2], [5], [1]]
    assert outputs["in_domain"].dtype == tf.bool and outputs["in_domain"].numpy().tolist() == [[True], [True], [False]]
    assert serve(**tensors({key: value[:0] for key, value in entry_of(predictor).encode(materials).items()}))["metal"].shape == (0, 1)


def batches_with_a_bad_row(predictor):
    good = entry_of(predictor).encode([EXAMPLES[0]] * 3)
    good["species"] = np.pad(good["species"], [(0, 0), (0, 1)])
    good["frac_coords"] = np.pad(good["frac_coords"], [(0, 0), (0, 1), (0, 0)])
    for key, place, value, sentence in bad_rows(interface_of(predictor).heaviest):
        batch = {name: array.copy() for name, array in good.items()}
        if key in ("all", "empty"):
            for name in batch.keys() - ({"lattice"} if key == "empty" else set()):
                batch[name][1] = 0
        else:
            batch[key][1][place] = value
        yield batch, sentence


def test_one_bad_row_is_refused_with_a_sentence(predictor, serve):
    for batch, sentence in batches_with_a_bad_row(predictor):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            serve(**tensors(batch))
        assert sentence in str(error.value) and "row] [1]" in str(error.value)


def test_shapes_are_refused_with_a_sentence(predictor):
    """As a server calls it, which does not look at the shapes of the signature."""
    entry = entry_of(predictor)
    good = entry.encode([EXAMPLES[0]] * 2)

    def claimed(array, name):
        array = tf.identity(array)
        array.set_shape(entry.inputs[name].spec(name, {}).shape)  # without a check
        return array

    @tf.function(autograph=False, input_signature=[{name: tf.TensorSpec(None, given.dtype) for name, given in entry.inputs.items()}])
    def unshaped(arrays):
        return entry.prepare({name: claimed(array, name) for name, array in arrays.items()})

    assert unshaped(tensors(good))["batch_sites"].shape == (2,)
    for key, value, sentence in (
        ("lattice", good["lattice"][0], r"`lattice` must have the shape \(B, 3, 3\), but the number of axes is\] \[2\]"),
        ("frac_coords", good["frac_coords"].reshape(2, -1), r"`frac_coords` must have the shape \(B, A, 3\)"),
        ("species", good["species"][..., None], r"`species` must have the shape \(B, A\), but the number of axes is\] \[3\]"),
        ("lattice", good["lattice"][:, :2], "three vectors of three components"),
        ("lattice", good["lattice"][:1], "`lattice` must have a row for every crystal"),
        ("frac_coords", good["frac_coords"][:, :1], "three numbers for every one in `species`"),
        ("frac_coords", good["frac_coords"][:, :, :2], "three numbers for every one in `species`"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
            unshaped(tensors(good | {key: value}))


@pytest.mark.parametrize("predictor", ["megnet, fidelities"], indirect=True)
def test_states_are_sent_beside_the_crystal(predictor):
    serve = served(predictor)
    materials = [Crystal(c.species, c.lattice, c.frac_coords, np.array([i % 3.0])) for i, c in enumerate(EXAMPLES)]
    batch = entry_of(predictor).encode(materials)
    assert batch["state"].tolist() == [[i % 3] for i in range(len(EXAMPLES))]
    same(serve(**tensors(batch)), predictor.predict(materials))
    for value in (-1, 3):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"`state` must be a fidelity from 0 to 2; see row\] \[2\]"):
            serve(**tensors(batch | {"state": np.where(np.arange(8)[:, None] == 2, value, batch["state"]).astype(np.int32)}))


@pytest.mark.parametrize(
    ("patched", "value", "message"),
    [
        ("tfmat.export.interfaces.bonds.CUTOFF_SLACK", -0.2, "signature serving_default differs from the Keras model"),
        (
            "tfmat.export.interfaces.bonds.CUTOFF_SLACK",
            -3.0,
            "refuses an example that the featurizer accepts: .*no two atoms are within 4 Å",
        ),
        (
            "tfmat.export.formats.saved_model.material_outputs",
            lambda *_: {"in_domain": tf.zeros((2, 1), tf.bool)},
            "gives another 'in_domain'",
        ),
    ],
)
def test_a_mismatch_is_refused(patched, value, message, tmp_path, monkeypatch):
    predictor = make("megnet, legacy Set2Set", blocks=1)
    monkeypatch.setattr(patched, value)
    with pytest.raises(ExportError, match=message):
        export_model(predictor, tmp_path / "parent" / "model", examples=EXAMPLES[:2])
    assert not any(tmp_path.iterdir())


def test_reserved_names(tmp_path):
    for name in ("n_sites", "in_domain"):
        predictor = Predictor.create("megnet", [Target(name)], keywords=CASES["megnet, legacy Set2Set"][1])
        with pytest.raises(InputError, match=f"two outputs would be called '{name}'"):
            export_model(predictor, tmp_path / "x")


@pytest.fixture(scope="module")
def published_crystals():
    """500 crystals of 1 to 150 sites, all large ones among them, in skewed cells with sites outside."""
    materials = datasets.load("mp2018_subset").splits["test"].materials
    rng = np.random.default_rng(0)
    order = rng.permutation(len(materials))
    sizes = materials.sites[order]
    order = np.concatenate([order[(sizes > 80) & (sizes <= 150)], order[sizes <= 80]])[:500]
    return [skewed(materials[int(index)], rng) for index in order]


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("case", CHOSEN)
def test_agrees_on_published_crystals(case, published_crystals):
    predictor = make(case)
    assert_predicted(predictor, served(predictor), published_crystals)


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.usefixtures("mirror")
def test_a_published_model_agrees_on_published_crystals(published_crystals, tmp_path, monkeypatch):
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    predictor = Predictor.load("mp-2018.6.1/formation_energy")
    assert_predicted(predictor, served(predictor), published_crystals)
