"""The JSON file that matgl writes beside its weights: settings of the network and the scale of its target."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tfmat.errors import InputError

LARGEST = 10_000_000
"""Bytes of a ``model.json`` that is still read."""
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_NORMALIZER = re.compile(rf"\s*Normalizer:\s*Mean\s*=\s*{_NUMBER},\s*Std\s*[:=]\s*{_NUMBER}\s*")
_FIXED = {
    "activation_type": "softplus2",
    "is_classification": False,
    "include_state": True,
    "nlayers_set2set": 1,
    "graph_transformations": None,
    "bond_expansion": None,
}


def read_description(state: Path) -> tuple[dict[str, Any], tuple[float, float]]:
    """Settings of the network, and mean and standard deviation of the target.

    Args:
        state: the weight file, ``state.pt`` or ``<name>_state.pt``; ``model.json`` or ``<name>_model.json`` beside it is read.

    Raises:
        InputError: there is none, it cannot be read, or it describes a network that the zoo cannot express.
    """
    name = state.name.removesuffix("state.pt") + "model.json" if state.name.endswith("state.pt") else "model.json"
    path = state.with_name(name)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        kwargs = json.loads(path.read_text(encoding="utf-8"))["kwargs"]
        model = kwargs.get("model")
        if not isinstance(model, dict) or model.get("@class") != "MEGNet":
            raise InputError("it describes no MEGNet with a target transformer", expected="TransformedTargetModel of a MEGNet")
        settings = dict(model["init_args"])
        for key, value in _FIXED.items():
            if settings.get(key, value) != value:
                raise InputError(f"{key} is {settings[key]!r}", expected=f"{value!r}, as in the zoo's MEGNet")
        return settings, _normalizer(kwargs.get("target_transformer"))
    except FileNotFoundError:
        raise InputError(f"there is no {name} beside it", expected="the description that belongs to the weights", file=str(state)) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=str(path)) from None
    except InputError as error:
        raise error.located(file=str(path)) from None
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"not the description of a model of matgl ({error})", expected="matgl's model.json", file=str(path)) from None


def _normalizer(text: Any) -> tuple[float, float]:
    if text is None:
        return 0.0, 1.0
    found = _NORMALIZER.fullmatch(text) if isinstance(text, str) else None
    if found is None or not float(found[2]) > 0:
        raise InputError(f"target transformer {str(text)[:80]!r}", expected="'Normalizer: Mean=..., Std: ...'")
    return float(found[1]), float(found[2])
