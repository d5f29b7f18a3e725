"""Small models of crystals with random weights, crystals for them, and what tells whether an exported one gives the same."""

import atom_list_cases
import bond_cases
import neighbor_cases
import numpy as np

from tfmat.crystal import Crystal
from tfmat.export.interfaces import interface_of
from tfmat.export.interfaces.crystals import EXAMPLES
from tfmat.predictor import Predictor
from tfmat.target import Target

TARGETS = (Target("energy", "eV/atom", mean=-1.4, std=1.1), Target("metal", task="binary"))
FAMILIES = {"AtomListFeaturizer": atom_list_cases, "BondFeaturizer": bond_cases, "NeighborFeaturizer": neighbor_cases}
TOLD = {"in_domain": "in_domain", "n_sites": "sites"}  # of the material itself: output -> column of the predictor's table
CASES = atom_list_cases.CASES | bond_cases.CASES | neighbor_cases.CASES


def make(case, blocks=None):
    name, keywords = CASES[case]
    result = Predictor.create(name, TARGETS, keywords=keywords | ({"blocks": blocks} if blocks else {}))
    random = np.random.default_rng(0)
    # Independent weights everywhere, so that no two of them can be mistaken for each other.
    result.model.set_weights([w + 0.1 * random.normal(size=w.shape).astype("float32") for w in result.model.get_weights()])
    return result


def family_of(predictor):
    """The module of cases for the featurizer."""
    return FAMILIES[type(predictor.featurizer).__name__]


def crystals(predictor):
    """Two examples, a molecule beside an atom that is far from everything, and three random cells; with states if the model needs them."""
    random = np.random.default_rng(1)
    molecule = Crystal(np.array([1, 1, 2], np.int32), 9.0 * np.eye(3), np.array([[0, 0, 0], [0.082, 0, 0], [0.5, 0.5, 0.5]]))
    made = [EXAMPLES[5], molecule, EXAMPLES[2]]
    for sites in (2, 3, 4):
        lattice = 4.2 * np.eye(3) + random.uniform(-0.8, 0.8, (3, 3))
        corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])[:sites]
        made.append(Crystal(random.integers(1, 95, sites).astype(np.int32), lattice, corners + random.uniform(-0.05, 0.05, (sites, 3))))
    state = {"state_dim": lambda i: [0.3 * i, -0.2], "fidelities": lambda i: [i % 3]}
    for key, of in state.items():
        if getattr(predictor.featurizer, key, 0):
            made = [Crystal(c.species, c.lattice, c.frac_coords, np.array(of(i), float)) for i, c in enumerate(made)]
    return made


def lengths(predictor):
    """Axis -> length that the tests give a LiteRT file."""
    return interface_of(predictor).lengths(family_of(predictor).SIZES, predictor.architecture.name)


def shapes(predictor, fixed):
    """Input -> its shape, with numbers for the axes that are fixed."""
    axes = dict(family_of(predictor).AXES)
    if "state" in predictor.featurizer.spec:
        axes["state"] = ("B", *predictor.featurizer.spec["state"][1])
    return {name: [fixed.get(axis, axis) for axis in given] for name, given in axes.items()}


def arrays(predictor, materials):
    """A batch of these `lengths`."""
    interface = interface_of(predictor)
    return interface.pad([interface.arrays_of(material) for material in materials], lengths(predictor))


def bad_batches(predictor):
    """Batches with a good row 0 and a bad row 1, rocksalt in its primitive cell before, and part of the sentence."""
    good = arrays(predictor, [interface_of(predictor).examples()[0]] * 2)
    for key, place, values, sentence in family_of(predictor).bad_rows(predictor.featurizer):
        batch = {name: array.copy() for name, array in good.items()}
        if key == "all":
            for name in batch.keys() - {"state"}:
                batch[name][1] = 0
        else:
            batch[key][1][place] = values
        yield good, batch, sentence


def same(outputs, frame, rows=slice(None)):
    for name, values in outputs.items():
        values = np.asarray(values)
        assert values.shape[1:] == (1,)
        if name in TOLD:
            np.testing.assert_array_equal(values[:, 0], frame[TOLD[name]][rows])
            continue
        assert values.dtype == np.float32
        np.testing.assert_allclose(values[:, 0], frame[name][rows], rtol=1e-5, atol=5e-6, err_msg=name)


def names(predictor):
    return {"energy", "metal"} | ({"energy_uncertainty"} if "uncertainty" in predictor.keywords else set())


# Arguments: the exported model, its format, and NPZ files of batches, each called after a signature.
ALONE = """
import json, pathlib, sys
if sys.argv[2] == "savedmodel":
    sys.modules["keras"] = sys.modules["tfmat"] = None  # TensorFlow imports Keras where it is installed
import numpy as np
batches = {pathlib.Path(file).stem: dict(np.load(file)) for file in sys.argv[3:]}
values, errors = {}, []
for name, batch in batches.items():
    if sys.argv[2] == "savedmodel":
        import tensorflow as tf
        serve = tf.saved_model.load(sys.argv[1]).signatures[name]
        outputs = {key: value.numpy() for key, value in serve(**{key: tf.constant(value) for key, value in batch.items()}).items()}
        try:
            serve(**{key: tf.constant(-value) for key, value in batch.items()})
        except tf.errors.InvalidArgumentError as refusal:
            errors.append(str(refusal))
    else:
        from ai_edge_litert.interpreter import Interpreter
        outputs = Interpreter(model_path=sys.argv[1]).get_signature_runner(name)(**batch)
    values[name] = {key: [value.tolist(), value.dtype.name] for key, value in outputs.items()}
print(json.dumps([values, [name for name, module in sys.modules.items() if module is not None], errors]))
"""
