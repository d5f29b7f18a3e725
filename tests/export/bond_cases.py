"""Small models of crystals, crystals for them, and batches that hold none."""

import numpy as np

from tfmat.crystal import Crystal
from tfmat.export.bonds import BondInterface
from tfmat.export.example_crystals import EXAMPLES
from tfmat.predictor import Predictor
from tfmat.target import Target

TARGETS = (Target("energy", "eV/atom", mean=-1.4, std=1.1), Target("metal", task="binary"))
SMALL = {"blocks": 2, "embedding_dim": 4, "hidden_dim": 8, "dim": 8, "gaussians": 12, "set2set_steps": 2, "readout_dims": (8, 4)}
CASES = {
    "megnet, legacy Set2Set": ("megnet", {"legacy_set2set": True}),
    "megnet, flavor matgl, uncertainty": ("megnet", {"flavor": "matgl", "uncertainty": True}),
    "megnet, fidelities": ("megnet", {"fidelities": 3, "uncertainty": True}),
    "megnet, state features": ("megnet", {"state_dim": 2}),
    "paraisite, uncertainty": ("paraisite", {"head_dims": (8, 6), "uncertainty": True}),
}
SITES, BONDS = 8, 150


def make(name, keywords):
    result = Predictor.create(name, TARGETS, keywords=SMALL | keywords)
    random = np.random.default_rng(0)
    # Independent weights everywhere, so that no two of them can be mistaken for each other.
    result.model.set_weights([w + 0.1 * random.normal(size=w.shape).astype("float32") for w in result.model.get_weights()])
    return result


def crystals(predictor):
    """Two examples, a molecule beside an atom without bonds, and three random cells; with states if the model needs them."""
    random = np.random.default_rng(1)
    molecule = Crystal(np.array([1, 1, 2], np.int32), 9.0 * np.eye(3), np.array([[0, 0, 0], [0.082, 0, 0], [0.5, 0.5, 0.5]]))
    made = [EXAMPLES[5], molecule, EXAMPLES[2]]
    for sites in (2, 3, 4):
        lattice = 4.2 * np.eye(3) + random.uniform(-0.8, 0.8, (3, 3))
        corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])[:sites]
        made.append(Crystal(random.integers(1, 95, sites).astype(np.int32), lattice, corners + random.uniform(-0.05, 0.05, (sites, 3))))
    state = {"state_dim": lambda i: [0.3 * i, -0.2], "fidelities": lambda i: [i % 3]}
    for key, of in state.items():
        if getattr(predictor.featurizer, key):
            made = [Crystal(c.species, c.lattice, c.frac_coords, np.array(of(i), float)) for i, c in enumerate(made)]
    return made


def arrays(predictor, materials, sites=SITES, bonds=BONDS):
    interface = BondInterface(predictor.featurizer)
    return interface.pad([predictor.featurizer(material) for material in materials], {"A": sites, "E": bonds})


def same(outputs, frame, rows=slice(None)):
    for name, values in outputs.items():
        values = np.asarray(values)
        assert values.dtype == np.float32 and values.shape[1:] == (1,)
        np.testing.assert_allclose(values[:, 0], frame[name][rows], rtol=1e-5, atol=1e-6, err_msg=name)


def names(predictor):
    return {"energy", "metal"} | ({"energy_uncertainty"} if "uncertainty" in predictor.keywords else set())


# What row 1, rocksalt in its primitive cell, is turned into: a key, its new values from the first on, part of the sentence.
BAD_ROWS = [
    ("species", [-11], "`species` must be atomic numbers from 1 to 94"),
    ("species", [95], "`species` must be atomic numbers from 1 to 94"),
    ("species", [0], "`centers` must be positions of sites"),
    ("centers", [2], "`centers` must be positions of sites"),
    ("centers", [SITES], "`centers` must be positions of sites"),
    ("centers", [-1], "`centers` must be positions of sites"),
    ("neighbors", [2**31 - 1], "`neighbors` must be positions of sites"),
    ("neighbors", [-(2**31)], "`neighbors` must be positions of sites"),
    ("distances", [-2.82], "`distances` must be from 0.1 to 4 Å"),
    ("distances", [0.05], "`distances` must be from 0.1 to 4 Å"),
    ("distances", [4.01], "`distances` must be from 0.1 to 4 Å"),
    ("distances", [np.nan], "`distances` must be from 0.1 to 4 Å"),
    ("distances", [np.inf], "`distances` must be from 0.1 to 4 Å"),
    ("distances", [0] * BONDS, "and 0 where `distances` is 0"),
    ("all", [], "a crystal needs at least one bond"),
]
BAD_STATES = {
    "state_dim": [([np.nan, 0], "`state` must be finite numbers"), ([0, np.inf], "`state` must be finite numbers")],
    "fidelities": [([-1], "`state` must be a fidelity from 0 to 2"), ([3], "`state` must be a fidelity from 0 to 2")],
}


def bad_batches(predictor):
    """Batches with a good row 0 and a bad row 1, and part of the sentence."""
    good = arrays(predictor, [BondInterface(predictor.featurizer).examples()[0]] * 2)
    bad = list(BAD_ROWS)
    for key, states in BAD_STATES.items():
        bad += [("state", values, sentence) for values, sentence in states if getattr(predictor.featurizer, key)]
    for key, values, sentence in bad:
        batch = {name: array.copy() for name, array in good.items()}
        if key == "all":
            for name in ("species", "centers", "neighbors", "distances"):
                batch[name][1] = 0
        else:
            batch[key][1, : len(values)] = values
        yield good, batch, sentence


# Arguments: the exported model, its format, a batch as NPZ.
ALONE = """
import json, sys
if sys.argv[2] == "savedmodel":
    sys.modules["keras"] = sys.modules["tfmat"] = None  # TensorFlow imports Keras where it is installed
import numpy as np
batch = {key: value for key, value in np.load(sys.argv[3]).items()}
error = ""
if sys.argv[2] == "savedmodel":
    import tensorflow as tf
    serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
    outputs = {key: value.numpy() for key, value in serve(**{key: tf.constant(value) for key, value in batch.items()}).items()}
    try:
        serve(**{key: tf.constant(-value) for key, value in batch.items()})
    except tf.errors.InvalidArgumentError as refusal:
        error = str(refusal)
else:
    from ai_edge_litert.interpreter import Interpreter
    outputs = Interpreter(model_path=sys.argv[1]).get_signature_runner("serving_default")(**batch)
values = {key: value.tolist() for key, value in outputs.items()}
print(json.dumps([values, [name for name, module in sys.modules.items() if module is not None], error]))
"""
