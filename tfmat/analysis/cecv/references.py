"""Which models are the references of CECV's curves."""

from __future__ import annotations

from typing import Literal

from tfmat.predictor import Predictor

Role = Literal["local", "global"]


def role_of(predictor: Predictor) -> Role | None:
    """The role of a model, by the structure of its network; None for a model that is no reference.

    ``"local"`` is L-G-DCNN without recurrent layers and with convolutions of single elements, the variant dcnn_k1: an element does not see
    the others. ``"global"`` is one with an LSTM alone, the variant lstm.
    """
    if predictor.architecture.name != "lgdcnn":
        return None
    keywords = predictor.architecture.default_keywords() | predictor.keywords
    if not keywords["recurrent"] and keywords["kernel_size"] == 1:
        return "local"
    if tuple(keywords["recurrent"]) == ("lstm",) and not keywords["attention"] and not keywords["conv_blocks"]:
        return "global"
    return None
