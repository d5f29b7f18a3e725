"""The file ``tfmat.json`` that travels with an exported model: it says what goes in, what comes out and where the model is from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tfmat
from tfmat.elements import SYMBOLS
from tfmat.export.interfaces import interface_of
from tfmat.export.interfaces.base import Input
from tfmat.export.outputs import DOMAIN, SITES, UNCERTAINTY
from tfmat.layers.outputs import has_uncertainty
from tfmat.model_directory.provenance import versions

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

_FACTS = {
    DOMAIN: {"dtype": "bool", "shape": ["B", 1], "meaning": "every element occurred in the training data"},
    SITES: {"dtype": "int32", "shape": ["B", 1], "meaning": "number of sites of the cell"},
}


def _outputs(predictor: Predictor, batch: int | str) -> dict[str, dict[str, Any]]:
    outputs = {}
    for target in predictor.targets:
        binary = target.task == "binary"
        meaning = "probability of class 1" if binary else "predicted value"
        shape = {"dtype": "float32", "shape": [batch, 1], "unit": "" if binary else target.unit}
        outputs[target.name] = shape | {"target": target.name, "meaning": meaning}
        if has_uncertainty(predictor.model, target):
            meaning = "standard deviation of the predicted Laplace distribution"
            outputs[target.name + UNCERTAINTY] = shape | {"target": target.name, "meaning": meaning}
    return outputs


def describe(
    predictor: Predictor,
    format: str,
    signatures: Mapping[str, Mapping[str, Input]],
    lengths: Mapping[str, int] | None = None,
    facts: Mapping[str, Sequence[str]] | None = None,
    more: Mapping[str, Any] | None = None,
) -> str:
    """The text of ``tfmat.json``.

    Args:
        predictor: the model that is exported.
        format: name of the format.
        signatures: signature -> its inputs by name.
        lengths: axis -> its length, if the format fixes it; ``"B"`` are the materials of a call.
        facts: signature -> the facts about the materials themselves that it gives, see `tfmat.export.outputs.material_outputs`.
        more: what else is to be said of the file; it must be possible to write it as JSON.
    """
    fixed = lengths or {}
    outputs = _outputs(predictor, fixed.get("B", "B"))
    content = {
        "format": format,
        **(more or {}),
        **predictor.to_config(),
        "signatures": {
            name: {
                "inputs": {key: given.describe(fixed) for key, given in inputs.items()},
                "outputs": outputs | {key: _FACTS[key] for key in (facts or {}).get(name, ())},
            }
            for name, inputs in signatures.items()
        },
        **interface_of(predictor).notes,
        "atomic_numbers": {symbol: number for number, symbol in enumerate(SYMBOLS) if number},
        "exported_with": {"tfmat": tfmat.__version__} | versions(),
    }
    return json.dumps(_strict(content), indent=2, allow_nan=False) + "\n"


def _strict(value: Any) -> Any:
    """The same value with None for numbers that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
