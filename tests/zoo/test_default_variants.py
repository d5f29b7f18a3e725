"""What is trained where no variant is named."""

import pytest

from tfmat.architecture import architectures, get
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.zoo import lgdcnn


@pytest.mark.parametrize(
    ("name", "variant", "parameters", "published"),
    [
        ("lgdcnn", "base", 2_210_815, 8_657_663),
        ("crysformer", "small", 308_538, 2_302_330),
        ("atom_list_lstm", "mean", 168_368, 653_616),
    ],
)
def test_the_default_variant(name, variant, parameters, published):
    """What is trained where nothing is said is smaller than the published network, which the builder makes; README names both sizes."""
    architecture = architectures()[name]
    assert architecture.default == variant
    assert architecture.builder(**architecture.variant()).count_params() == parameters
    assert architecture.builder().count_params() == published


def test_base_is_the_default_and_half_as_wide():
    """A new model has its keywords, written out; without any, or with others, the builder makes the published network."""
    assert get("lgdcnn").variant() == lgdcnn.VARIANTS["base"] == {"dim": 256, "conv_dim": 256, "ties": "atomic_number"}
    predictor = Predictor.create("lgdcnn", [Target("t")])
    assert predictor.keywords == lgdcnn.VARIANTS["base"] and predictor.model.count_params() == 2_210_815
    values = predictor.predict(["NaCl", "ClNa", "NaClO3", "O3ClNa"])["t"]
    assert values[0] == values[1] and values[2] == values[3], "of elements of equal amount the order does not matter"
    assert get("lgdcnn").variant("lgdcnn") == {} and get("lgdcnn").default_keywords()["dim"] == 512
    assert Predictor.create("lgdcnn", [Target("t")], keywords={"conv_blocks": 0}).model.get_layer("elements").dim == 512
