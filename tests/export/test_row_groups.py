"""Groups of rows of about equal size."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmat.export import row_groups
from tfmat.export.row_groups import WASTE, WORK, in_groups
from tfmat.export.signatures import Input

INPUTS = {"species": Input("int32", ("B", "A"), ""), "vectors": Input("float32", ("B", "A", "K", 3), "")}


class Network:
    """Gives each row's sum of all it holds, and remembers the shapes that it was given."""

    def __init__(self):
        self.shapes = []

    def __call__(self, arrays):
        self.shapes.append(arrays["vectors"].shape)
        total = tf.reduce_sum(arrays["vectors"], axis=[1, 2, 3]) + tf.cast(tf.reduce_sum(arrays["species"], axis=1), tf.float32)
        return {"total": total[:, None], "twice": 2 * total[:, None]}


def batch(sizes, before=0, behind=0):
    """Rows of (sites, slots), each with numbers of its own, and padding in front of them and behind."""
    sites, slots = (before + behind + max([0, *column]) for column in zip(*sizes, strict=True)) if sizes else (0, 0)
    arrays = {"species": np.zeros((len(sizes), sites), np.int32), "vectors": np.zeros((len(sizes), sites, slots, 3), np.float32)}
    for row, (a, k) in enumerate(sizes):
        arrays["species"][row, before : before + a] = row + 1
        arrays["vectors"][row, before : before + a, before : before + k] = np.arange(a * k * 3).reshape(a, k, 3) + 1.0
    return {name: tf.constant(array) for name, array in arrays.items()}


def run(arrays):
    """What comes out, and the shapes of the groups; step by step, so that these are known."""
    network, eager = Network(), tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        return in_groups(network, arrays, INPUTS, ("A", "K", "K"), ["total", "twice"]), network.shapes
    finally:
        tf.config.run_functions_eagerly(eager)


def check(arrays):
    outputs, shapes = run(arrays)
    whole = Network()(arrays)
    for name in ("total", "twice"):
        np.testing.assert_allclose(outputs[name], whole[name], rtol=1e-6)
    return shapes


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12), st.integers(0, 2), st.integers(0, 3))
def test_every_row_gets_its_own_result(sizes, before, behind):
    shapes = check(batch(sizes, before, behind))
    assert sum(shape[0] for shape in shapes) == len(sizes)
    assert max(shape[1] for shape in shapes) == before + max(a for a, _ in sizes)
    assert max(shape[2] for shape in shapes) == before + max(k for _, k in sizes)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(10, 24)), min_size=1, max_size=30))
def test_groups_hold_little_padding(sizes):
    shapes = check(batch(sizes))
    work = [rows * sites * slots**2 for rows, sites, slots, _ in shapes]
    assert all(each <= WORK or shape[0] == 1 for each, shape in zip(work, shapes, strict=True))
    assert sum(work) - sum(a * k**2 for a, k in sizes) <= len(shapes) * WASTE


def test_one_size_is_one_group_and_a_large_row_is_alone():
    assert check(batch([(3, 12)] * 8)) == [(8, 3, 12, 3)]
    large = (WORK // 144 + 1, 12)
    assert check(batch([(2, 12), large, (2, 12)])) == [(2, 2, 12, 3), (1, *large, 3)]
    assert len(check(batch([(1, 1)] * (row_groups._WINDOW + 1)))) == 2


def test_no_rows_and_empty_rows():
    outputs, _ = run(batch([]))
    assert outputs["total"].shape == (0, 1)
    assert check(batch([(0, 0), (2, 3), (0, 0)])) == [(3, 2, 3, 3)]


def test_in_a_graph_of_any_shape():
    specs = {name: given.spec(name, {}) for name, given in INPUTS.items()}
    call = tf.function(lambda arrays: in_groups(Network(), arrays, INPUTS, ("A", "K", "K"), ["total", "twice"]), input_signature=[specs])
    sizes = [(5, 24), (1, 12), (30, 20), (2, 13)]
    for arrays in (batch(sizes), batch(sizes[:1], 2, 5)):
        np.testing.assert_allclose(call(arrays)["total"], Network()(arrays)["total"], rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_exported_crysformer_works_on_groups(batch_size):
    """The network of a SavedModel never sees the padding of a mixed batch."""
    from small_models import SMALL, make_crystal

    from tfmat.export.interface import interface_of
    from tfmat.export.saved_model import as_module
    from tfmat.predictor import Predictor
    from tfmat.target import Target

    predictor = Predictor.create("crysformer", [Target("energy", "eV/atom")], keywords=SMALL["crysformer"])
    entries = interface_of(predictor).signatures()
    _, functions = as_module(predictor, entries)
    crystals = [make_crystal(species, seed) for seed, species in enumerate([[11, 17], [26], [22, 22, 8, 8, 8, 8], [94, 8, 8]] * 2)][
        :batch_size
    ]
    expected = predictor.predict(crystals)["energy"]
    for name, entry in entries.items():
        outputs = functions[name](**{key: tf.constant(array) for key, array in entry.encode(crystals).items()})
        np.testing.assert_allclose(outputs["energy"][:, 0], expected, rtol=1e-4, atol=1e-6)
    library = functions["featurized"].graph.as_graph_def().library
    assert any(node.op in ("While", "StatelessWhile") for function in library.function for node in function.node_def)
