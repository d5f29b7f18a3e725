"""Weights of the PyTorch package matgl: ``state.pt`` and the ``model.json`` beside it. Pickled objects are refused, not loaded."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.atomic import sha256_of
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError
from tfmat.extras import require
from tfmat.target import Target
from tfmat.zoo.conversion.foreign import ForeignModel
from tfmat.zoo.conversion.published import BAND_GAP, BY_SHA256, CHEN_2019, CONVERTER, FORMATION_ENERGY, MATGL_URL

ELEMENTS: tuple[int, ...] = (*range(1, 84), *range(89, 95))
"""Atomic numbers in the order of matgl's rows: H to Bi, Ac to Pu."""
ROWS = 95
"""Rows of the zoo's table of elements; row Z is element Z."""
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
_STREAMS = {"atom": "node", "bond": "edge", "state": "state"}
_PHI = {"e": "edge", "v": "node", "u": "state"}


def read_matgl(file: str | os.PathLike[str], *, target: Target | None = None) -> ForeignModel:
    """Read a MEGNet of matgl (0.x, DGL). Needs PyTorch: ``pip install 'tfmat[matgl]'``.

    Args:
        file: ``state.pt``, or ``<name>_state.pt``; ``model.json``, or ``<name>_model.json``, must be beside it.
        target: name, unit and transform of what it predicts; mean and std are read from ``model.json``. Default: told by the name of the
            file or its folder, where that holds ``Eform`` or ``BandGap``.

    Raises:
        InputError: PyTorch is not installed; it is not such a file, is damaged, lacks something, or is no MEGNet that the zoo can express.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError("no such file", expected="state.pt of a model of matgl", file=str(path))
    settings, (mean, std) = read_description(path)
    tensors = _Tensors(_load(path))
    sha256 = sha256_of(path)
    try:
        target = dataclasses.replace(target or _target(path, sha256), task="regression", mean=mean, std=std)
        return _model(path, sha256, settings, tensors, target)
    except InputError as error:
        raise error.located(file=str(path)) from None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"its weights do not fit together ({error})", expected="a MEGNet of matgl", file=str(path)) from None


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


def _load(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state file."""
    try:
        require("matgl", "reading PyTorch's file", "torch")
    except InputError as error:
        raise error.located(file=str(path)) from None
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        arrays = {str(name): np.asarray(tensor.detach().numpy(), np.float32) for name, tensor in state.items()}
    except Exception as error:  # of many kinds, torch's own and those of pickle and zipfile
        problem = f"not a state of PyTorch, or damaged, or with pickled objects ({type(error).__name__})"
        raise InputError(problem, expected="a dictionary of tensors alone", file=str(path)) from None
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds numbers that are not finite", expected="trained weights", file=str(path))
    return arrays


class _Tensors:
    """Tensors that are taken one by one, so that it is known in the end which were not."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._left = {name.removeprefix("model."): array for name, array in arrays.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str) -> np.ndarray:
        """The tensor, once."""
        if name not in self._left:
            raise InputError(f"it lacks the tensor {name!r}", expected="the state of a MEGNet of matgl")
        return self._left.pop(name)

    def dense(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (in, out) and bias (out,)."""
        return self.take(f"{name}.weight").T, self.take(f"{name}.bias")

    def finish(self) -> None:
        """Refuse what is left."""
        if self._left:
            name, more = next(iter(self._left)), len(self._left) - 1
            raise InputError(f"the zoo's MEGNet has no place for {name!r}{f' and {more} more' if more else ''}")


def _target(path: Path, sha256: str) -> Target:
    if sha256 in BY_SHA256:
        return BY_SHA256[sha256].target
    name = f"{path.absolute().parent.name}/{path.name}".lower()
    for part, target in (("eform", FORMATION_ENERGY), ("bandgap", BAND_GAP)):
        if part in name:
            return target
    raise InputError("neither the file nor its folder says what it predicts", expected="a target name: --target NAME --unit UNIT")


def _model(path: Path, sha256: str, settings: Mapping[str, Any], tensors: _Tensors, target: Target) -> ForeignModel:
    cutoff, width, blocks = float(settings["cutoff"]), float(settings["gauss_width"]), int(settings["nblocks"])
    centres = tensors.take("bond_expansion.rbf.centers") if "bond_expansion.rbf.centers" in tensors else None
    gaussians = len(centres) if centres is not None else int(settings["dim_edge_embedding"])
    if centres is not None and not np.allclose(centres, np.linspace(0, cutoff + 1, gaussians), atol=1e-5):
        raise InputError("its Gaussian centres are not evenly spaced", expected=f"from 0 to {cutoff + 1:g} Å (the cut-off + 1)")
    if not (0 < width < math.inf and 0 < blocks <= 100):
        raise InputError(f"gauss_width {width:g} or nblocks {blocks} cannot be", expected="positive numbers")
    elements = _elements(settings.get("element_types"))
    weights = _encoders(tensors, elements)
    for number in range(1, blocks + 1):
        weights |= _block(tensors, number)
    for stream in ("atom", "bond"):
        weights |= _set2set(tensors, stream)
    count = len(settings["hidden_layer_sizes_output"])
    if count != 2:
        raise InputError(f"its read-out has {count} hidden layers", expected="2: the zoo's MEGNet has no other number")
    for number in range(1, count + 2):
        name = f"readout_{number}" if number <= count else target.name
        weights[f"{name}/kernel"], weights[f"{name}/bias"] = tensors.dense(f"output_proj.layers.{2 * (number - 1)}")
    tensors.finish()
    state_rows = int(weights["state_encoder_1/kernel"].shape[0])
    fidelities = int(weights["state_embedding/embeddings"].shape[0]) if "state_embedding/embeddings" in weights else 0
    state = {"fidelities": fidelities} if fidelities else {} if state_rows == 2 else {"state_dim": state_rows}
    keywords: dict[str, Any] = {
        "flavor": "matgl",
        "cutoff": cutoff,
        "blocks": blocks,
        "embedding_dim": weights["atom_embedding/embeddings"].shape[1],
        "hidden_dim": weights["atom_encoder_1/bias"].shape[0],
        "dim": weights["atom_encoder_2/bias"].shape[0],
        "gaussians": gaussians,
        # exp(-w d^2) = exp(-d^2 / width^2)
        "gaussian_width": math.sqrt(1 / width),
        "set2set_steps": int(settings["niters_set2set"]),
        "legacy_set2set": False,
        "readout_dims": [weights[f"readout_{number}/bias"].shape[0] for number in range(1, count + 1)],
        "dropout": float(settings.get("dropout") or 0.0),
        **state,
    }
    known = BY_SHA256[sha256].info if sha256 in BY_SHA256 else {"citation": f"of the architecture: {CHEN_2019}; {MATGL_URL}"}
    info = {
        "converted": {"file": path.name, "sha256": sha256, "format": "matgl state", "converter": CONVERTER},
        "title": f"MEGNet {path.absolute().parent.name if path.name == 'state.pt' else path.stem.removesuffix('_state')}",
        **known,
        "elements": sorted(elements),
    }
    return ForeignModel(path, keywords, {"cutoff": cutoff, **state}, weights, target, info)


def _elements(symbols: Any) -> tuple[int, ...]:
    """Atomic numbers in the order of the rows."""
    if symbols is None:
        return ELEMENTS
    unknown = [symbol for symbol in symbols if symbol not in SYMBOLS[1:ROWS]]
    if unknown or len(set(symbols)) != len(symbols):
        raise InputError(
            f"its element_types hold {unknown[0] if unknown else 'an element twice'}", expected="symbols from H to Pu, each once"
        )
    return tuple(ATOMIC_NUMBERS[symbol] for symbol in symbols)


def _encoders(tensors: _Tensors, elements: tuple[int, ...]) -> dict[str, np.ndarray]:
    rows = tensors.take("embedding.layer_node_embedding.weight")
    if rows.ndim != 2 or len(rows) != len(elements):
        raise InputError(f"its embedding of elements has shape {rows.shape}", expected=f"{len(elements)} rows, one an element")
    table = np.zeros((ROWS, rows.shape[1]), np.float32)
    table[list(elements)] = rows
    weights = {"atom_embedding/embeddings": table}
    if "embedding.layer_state_embedding.weight" in tensors:
        weights["state_embedding/embeddings"] = tensors.take("embedding.layer_state_embedding.weight")
    for ours, theirs in _STREAMS.items():
        weights |= _two(tensors, f"{ours}_encoder", f"{theirs}_encoder")
    return weights


def _two(tensors: _Tensors, ours: str, theirs: str) -> dict[str, np.ndarray]:
    weights = {}
    for number in (1, 2):
        weights[f"{ours}_{number}/kernel"], weights[f"{ours}_{number}/bias"] = tensors.dense(f"{theirs}.layers.{2 * (number - 1)}")
    return weights


def _block(tensors: _Tensors, number: int) -> dict[str, np.ndarray]:
    """Convert one block, the rows of whose first layers are put in the zoo's order."""
    ours, theirs = f"block{number}", f"blocks.{number - 1}"
    weights: dict[str, np.ndarray] = {}
    if number > 1:
        for stream, name in _STREAMS.items():
            weights |= _two(tensors, f"{ours}/{stream}_ff", f"{theirs}.{name}_func")
    for part, name in _PHI.items():
        for layer in (1, 2, 3):
            kernel, bias = tensors.dense(f"{theirs}.conv.{name}_func.layers.{2 * (layer - 1)}")
            if layer == 1 and part != "e":
                first, second, third = np.split(kernel, 3)
                # [v; m; u] -> [m; v; u], and [u; e'; v'] -> [e'; v'; u]
                kernel = np.concatenate([second, first, third] if part == "v" else [second, third, first])
            weights[f"{ours}/phi_{part}_{layer}/kernel"], weights[f"{ours}/phi_{part}_{layer}/bias"] = kernel, bias
    return weights


def _set2set(tensors: _Tensors, stream: str) -> dict[str, np.ndarray]:
    """PyTorch's LSTM with input [h; r] and hidden state h, folded into one kernel with the rows [h; r]."""
    name = f"{_STREAMS[stream]}_s2s.lstm"
    kernel = tensors.take(f"{name}.weight_ih_l0").T.copy()
    recurrent = tensors.take(f"{name}.weight_hh_l0").T
    kernel[: len(recurrent)] += recurrent
    bias = tensors.take(f"{name}.bias_ih_l0") + tensors.take(f"{name}.bias_hh_l0")
    return {f"{stream}_set2set/kernel": kernel, f"{stream}_set2set/bias": bias}
