"""What is trained where no variant is named."""

import pytest

from tfmat.architecture import architectures


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
