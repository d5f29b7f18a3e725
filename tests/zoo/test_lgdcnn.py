"""L-G-DCNN against the parity vectors and parameter counts of the published code, and its invariances."""

import keras
import numpy as np
import pytest

from tfmat.zoo.lgdcnn import LGDCNN, VARIANTS

SPECIES = np.array([[8, 26, 0], [11, 17, 0], [8, 38, 22], [14, 0, 0]], dtype="int32")
FRACTIONS = np.array([[0.6, 0.4, 0], [0.5, 0.5, 0], [0.6, 0.2, 0.2], [1, 0, 0]])

# float64 outputs (value, log-scale) of the published code for SPECIES, then for its first two rows padded to 2 slots.
PARITY = {
    "lstm": (
        [(0.04684083, 0.10500609), (0.04485450, 0.10127350), (0.04505937, 0.10300902), (0.04750046, 0.10485181)],
        [(0.04566422, 0.10413732), (0.04441562, 0.10123618)],
    ),
    "dcnn": (
        [(4.58866124, 4.54561493), (4.48147794, 4.46019790), (4.53326122, 4.51724938), (4.53735662, 4.48434193)],
        [(4.58476165, 4.54230105), (4.47761358, 4.45687094)],
    ),
    "dcnn_k1": (
        [(3.18712850, -3.11230957), (3.18823722, -3.11314211), (3.18784846, -3.11300979), (3.18976640, -3.11466096)],
        [(3.18712850, -3.11230957), (3.18823722, -3.11314211)],
    ),
    "lgdcnn": (
        [(4.53059370, 4.47785443), (4.53062531, 4.47788668), (4.52868475, 4.47606741), (4.53169555, 4.47946853)],
        [(4.52851374, 4.47589938), (4.52851802, 4.47590108)],
    ),
}
# The published counts, less one 1,024-vector for each direction of an LSTM: Keras has one bias where PyTorch has two.
PARAMETERS = {
    "lstm": 1_681_414 - 2048,
    "dcnn": 5_613_062,
    "dcnn_k1": 629_766,
    "ldcnn": 7_190_022 - 2048,
    "lgdcnn": 8_633_863,
    "lgdcnn_v1": 8_633_863,
}


def wave(shape, fan_in):
    return (np.sin(0.7 * np.arange(np.prod(shape)) + 1) / np.sqrt(fan_in)).reshape(shape)


def published_recurrent(gates, width, dim, swap):
    """Weights of one direction in the published layout, converted: transposed kernels, Keras' gate order."""
    kernel, recurrent = wave((gates * dim, width), width), wave((gates * dim, dim), dim)
    biases = [wave((gates * dim,), 100), wave((gates * dim,), 100)]

    def convert(array):
        blocks = np.split(array, gates, axis=0)
        return np.concatenate([blocks[1], blocks[0], *blocks[2:]] if swap else blocks, axis=0)

    bias = np.stack([convert(b) for b in biases]) if swap else convert(biases[0]) + convert(biases[1])
    return convert(kernel).T, convert(recurrent).T, bias


def fill_with_parity_weights(model):
    for layer in model.layers:
        for weight in layer.trainable_weights:
            name, shape = weight.name, tuple(weight.shape)
            if shape == ():
                weight.assign(1.0)
            elif layer.name.startswith("bi"):
                continue
            elif len(shape) == 1:
                weight.assign(wave(shape, 100))
            elif len(shape) == 2:
                weight.assign(wave(shape[::-1], shape[0]).T)
            else:
                taps, width, out = shape
                weight.assign(wave((out, width, taps), width * taps).transpose(2, 1, 0))
            assert name
        if layer.name.startswith("bi"):
            gru = layer.cell == "gru"
            for kernel, recurrent, bias in layer.directions:
                values = published_recurrent(3 if gru else 4, kernel.shape[0], layer.dim, gru)
                for weight, value in zip((kernel, recurrent, bias), values, strict=True):
                    weight.assign(value)


@pytest.fixture(scope="module")
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module", params=sorted(PARITY))
def parity(request, float64):
    model = LGDCNN(**VARIANTS[request.param], legacy_padding=True)
    fill_with_parity_weights(model)
    return request.param, model


def test_parity_with_published_code(parity):
    variant, model = parity
    wide, narrow = PARITY[variant]
    output = model({"species": SPECIES, "fractions": FRACTIONS})["target"]
    np.testing.assert_allclose(output, wide, rtol=0, atol=1e-6)
    output = model({"species": SPECIES[:2, :2], "fractions": FRACTIONS[:2, :2]})["target"]
    np.testing.assert_allclose(output, narrow, rtol=0, atol=1e-6)


def test_masking_changes_exactly_what_the_published_model_leaks(parity):
    """With masks, padded rows differ from the published ones, the full row does not, and the local model has nothing to leak."""
    variant, model = parity
    masked = LGDCNN(**VARIANTS[variant])
    masked.set_weights(model.get_weights())
    difference = np.abs(np.asarray(masked({"species": SPECIES, "fractions": FRACTIONS})["target"]) - PARITY[variant][0]).max(axis=1)
    assert difference[2] < 1e-6
    assert (difference[[0, 1, 3]] < 1e-6 if variant == "dcnn_k1" else difference[[0, 1, 3]] > 1e-4).all()


@pytest.mark.parametrize("variant", sorted(PARAMETERS))
def test_parameter_count(variant):
    model = LGDCNN(**VARIANTS[variant])
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == PARAMETERS[variant]


@pytest.mark.parametrize(
    ("fraction", "rows"),
    [(1.0, (1999, 0)), (0.6, (1199, 2)), (0.5, (999, 4)), (0.2, (399, 26)), (0.01, (19, 220)), (1e-4, (0, 882)), (0.0, (0, 1999))],
)
def test_fraction_rows(fraction, rows):
    from tfmat.zoo.lgdcnn import FractionEncoding

    linear, logarithmic = FractionEncoding(512).rows(np.array([[fraction]], dtype="float32"))
    assert (int(linear[0, 0]), int(logarithmic[0, 0])) == rows


def test_fraction_table():
    from tfmat.zoo.lgdcnn import sine_table

    table = sine_table(2000, 256)
    np.testing.assert_allclose(table[1, :4], [0.84147098, 0.82482897, 0.80797388, 0.79096817], atol=1e-8)
    np.testing.assert_allclose(table[1999, :4], [0.81170904, -0.44994819, 0.97441259, 0.98515103], atol=1e-8)
