"""Where a model pools its elements or sites, found in its graph."""

import keras
import numpy as np
import pytest
from keras import ops
from small_models import SMALL

from tfmat.analysis.readout import calls, element_features, element_layers, find_readout
from tfmat.architecture import architectures
from tfmat.errors import InputError

BATCH = {"species": np.array([[8, 26, 0]], np.int32), "fractions": np.array([[0.6, 0.4, 0.0]], np.float32)}


def small(name, **keywords):
    return architectures()[name].builder(("a",), **SMALL[name] | keywords)


def probe(model, layer):
    return np.asarray(keras.Model(model.input, element_features(model, layer))(BATCH))


def test_the_readout_of_lgdcnn_is_the_sum_behind_its_last_block():
    model = small("lgdcnn")
    h = probe(model, "readout")
    head = model.get_layer("head")
    outputs = head(ops.convert_to_tensor(h), ops.convert_to_tensor([[1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(np.asarray(outputs["a"]), np.asarray(model(BATCH)["a"]), atol=1e-6)
    update = probe(model, "block3_conv2")  # the block's output before the residual sum, the other reading of "last layer"
    before = probe(model, "block2_conv2") + probe(model, "block1_conv2") + probe(model, "region")
    np.testing.assert_allclose(h, before + update, atol=1e-6)


def test_layers_of_elements():
    model = small("lgdcnn")
    names = element_layers(model)
    assert names[:2] == ["elements", "fractions_code"] and names[-1] == "block3_conv2"
    assert {"bilstm_1", "attention", "bigru_2", "region"} < set(names) and "head" not in names
    mean = small("lgdcnn", recurrent=(), conv_blocks=0)
    assert element_layers(mean) == ["elements", "fractions_code"]
    with pytest.raises(InputError, match=r"no layer 'bilstm_1' with features.*one of readout, elements, fractions_code"):
        element_features(mean, "bilstm_1")


def test_of_a_layer_that_is_called_twice_the_last_call_is_meant():
    model = small("lgdcnn")
    scorer = model.get_layer("attention")
    second = scorer(ops.convert_to_tensor(probe(model, "bigru_2")), ops.convert_to_tensor([[1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(probe(model, "attention"), np.asarray(second), atol=1e-6)


def test_models_made_of_parts_do_not_change_what_is_found():
    model = small("megnet")
    readout = find_readout(model)
    keras.Model({"features": list(readout.features), "inputs": model.input}, model.output)
    assert [id(tensor) for tensor in find_readout(model).features] == [id(tensor) for tensor in readout.features]


@pytest.mark.parametrize(
    ("name", "keywords", "kinds"),
    [
        ("megnet", {}, ["sites", "bonds", "crystals"]),
        ("megnet", {"state_dim": 2}, ["sites", "bonds", "crystals"]),
        ("paraisite", {}, ["sites", "bonds", "crystals"]),
        ("crysformer", {"update_last_edges": True}, ["sites"]),
        ("atom_list_lstm", {}, ["slots"]),
        ("lgdcnn", {}, ["slots"]),
    ],
)
def test_what_the_rows_of_features_are(name, keywords, kinds):
    """Features of sites, bonds and whole crystals have the same shape (None, D)."""
    readout = find_readout(small(name, **keywords))
    assert list(readout.kinds) == kinds
    assert [len(tensor.shape) for tensor in readout.features] == [3 if kind == "slots" else 2 for kind in kinds]


def test_layers_of_sites():
    assert element_layers(small("crysformer", blocks=2)) == ["atom_embedding", "block1_atom_graph", "block2_atom_graph"]
    megnet = small("megnet", blocks=2)
    assert element_layers(megnet) == ["atom_embedding", "atom_encoder_1", "atom_encoder_2", "block1", "block2"]
    assert element_features(megnet) is element_features(megnet, "block2") is calls(megnet, megnet.get_layer("block2"))[0].output_tensors[0]


def test_a_model_without_sites_is_refused():
    numbers = keras.Input((3,), name="numbers")
    model = keras.Model({"numbers": numbers}, {"a": keras.layers.Dense(1, name="a")(numbers)}, name="flat")
    with pytest.raises(InputError, match="flat has no features of each element or site"):
        find_readout(model)


def test_a_layer_whose_output_may_be_of_any_length_is_refused():
    class Opaque(keras.layers.Layer):
        def call(self, x):
            return x

        def compute_output_shape(self, shape):
            return (None, shape[-1])

    species = keras.Input((None,), dtype="int32", name="species")
    features = keras.layers.Embedding(99, 4)(species)
    crystal = Opaque(name="opaque")(keras.layers.Dense(4)(ops.sum(features, axis=1)))
    total = ops.sum(features, axis=1) + crystal
    model = keras.Model({"species": species}, {"a": keras.layers.Dense(1, name="a")(total)}, name="odd")
    with pytest.raises(InputError, match="odd: opaque does not tell the shape of its output"):
        find_readout(model)
