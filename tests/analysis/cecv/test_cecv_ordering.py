"""Whether trained models are ordered as published: local (DCNN-K1) above L-G-DCNN above global (LSTM) at small tolerance."""

import pytest

from tfmat import datasets
from tfmat.analysis.cecv import TOLERANCES, cecv
from tfmat.architecture import architectures
from tfmat.predictor import Predictor
from tfmat.target import Target

SMALL = {"dim": 128, "conv_dim": 128}
EPOCHS = 20


@pytest.mark.slow
def test_the_published_ordering_on_measured_enthalpies():
    """Oxides among the embedded measured enthalpies, all splits: 287 compounds, nearly all of three elements.

    That the local reference tells most environments apart holds here. That L-G-DCNN is above the LSTM, as on OQMD's 2,374 silicon
    compounds, does not have to: the test then ends as an expected failure that gives the numbers.
    """
    data = datasets.load(datasets.DEFAULT)
    materials = [material for table in data.splits.values() for material in table.materials]
    vectors = {}
    for variant in ("dcnn_k1", "lgdcnn", "lstm"):
        keywords = {**architectures()["lgdcnn"].variants[variant], **SMALL}
        predictor = Predictor.create("lgdcnn", [Target("formation_enthalpy_per_atom", "eV/atom")], keywords=keywords)
        predictor.fit(data.splits["train"], epochs=EPOCHS)
        vectors[variant] = cecv(predictor, materials, "O").vector
        print(variant, *vectors[variant])
    small = slice(0, TOLERANCES.index(0.2))
    local, middle, below = (vectors[variant][small] for variant in ("dcnn_k1", "lgdcnn", "lstm"))
    assert (local > middle).all() and (local > below).all()
    if not (middle > below).all():
        numbers = ", ".join(f"{variant} {' '.join(map(str, vector))}" for variant, vector in vectors.items())
        pytest.xfail(f"the published ordering does not hold here: L-G-DCNN is not above the LSTM ({numbers})")
