"""Weights of the Keras package megnet: an HDF5 file of ``model.save``. The package itself is not needed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.atomic import sha256_of
from tfmat.data.read.hdf5_content import Content, read_hdf5
from tfmat.errors import InputError
from tfmat.target import Target, Transform
from tfmat.zoo.conversion.foreign import ForeignModel
from tfmat.zoo.conversion.keras_graph import STREAMS, Layer, Roles, find_roles
from tfmat.zoo.conversion.published import BY_SHA256, CHEN_2019, CONVERTER, Published

LARGEST = 10_000_000
"""Bytes of a side-car that is still read; megnet's own have a few thousand."""
_EPS = float(np.finfo(np.float64).eps)
_PARTS = ("e", "v", "u")
_SET2SET = {
    "projection_kernel": "x_to_m_weight",
    "projection_bias": "x_to_m_bias",
    "kernel": "recurrent_kernel",
    "bias": "recurrent_bias",
}
_GATES = {"activation_lstm": "tanh", "recurrent_activation": "hard_sigmoid"}


def read_megnet(file: str | os.PathLike[str], *, target: Target | None = None) -> ForeignModel:
    """Read a model of megnet, published or a user's own, of either generation of layer names.

    Args:
        file: HDF5 file; its side-car ``<file>.json`` is read if it is there, else megnet's defaults are assumed: bonds within 4 Å and
            100 Gaussians of width 0.5 Å from 0 to 5 Å.
        target: name, unit and transform of what it predicts (mean and std are read from the side-car, the task from the network).
            Default: a published model's own, else what the side-car says.

    Raises:
        InputError: it is not such a file, is damaged, lacks something, or is a model that the zoo cannot express.
    """
    path = Path(file)
    side_car = read_sidecar(path)
    content = read_hdf5(path, "model_weights")
    sha256 = sha256_of(path)
    try:
        if "model_config" not in content.attributes:
            raise InputError("no Keras model: it lacks model_config", expected="a file written by megnet's model.save")
        roles = find_roles(content.attributes["model_config"])
        return _model(path, sha256, side_car, roles, _arrays(content, roles), target)
    except InputError as error:
        raise error.located(file=str(path)) from None
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"its layers do not fit together ({error})", expected="a model of megnet", file=str(path)) from None


def _arrays(content: Content, roles: Roles) -> dict[str, np.ndarray]:
    """Weight path in the zoo's model -> array; the last layer is called ``output``."""
    arrays = {}
    for role, layer in roles.layers.items():
        for path, name in _names(role, layer).items():
            arrays[path] = _array(content, layer.name, name)
    return arrays


def _names(role: str, layer: Layer) -> dict[str, str]:
    """Weight path in the zoo's model -> name in the file, of one layer."""
    if layer.kind == "Embedding":
        return {f"{role}/embeddings": "embeddings:0"}
    if layer.kind == "Dense":
        return {f"{role}/{part}": f"{part}:0" for part in ("kernel", "bias")}
    if layer.kind == "Set2Set":
        return {f"{role}/{part}": f"{name}:0" for part, name in _SET2SET.items()}
    return {
        f"{role}/phi_{part}_{number}/{ours}": f"phi_{part}/{theirs}_{part}_{number - 1}:0"
        for part in _PARTS
        for number in (1, 2, 3)
        for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
    }


def _array(content: Content, layer: str, name: str) -> np.ndarray:
    """The array of a layer whose path ends in `name`: what stands before it differs between versions of Keras."""
    own = [path for path in (*content.arrays, *content.others) if path.startswith(f"{layer}/")]
    if not own:
        raise InputError(f"it lacks the layer {layer!r}", expected="weights of every layer")
    found = [path for path in own if path.endswith(f"/{name}")]
    if len(found) != 1:
        raise InputError(f"layer {layer!r} has {len(found)} arrays {name!r}", expected="one")
    if found[0] in content.others:
        raise InputError(
            f"array {name!r} of layer {layer!r} is {content.others[found[0]]}", expected="floating-point numbers, fewer of them"
        )
    array = content.arrays[found[0]]
    if not np.isfinite(array).all():
        raise InputError(f"array {name!r} of layer {layer!r} holds numbers that are not finite", expected="trained weights")
    return array


def _model(path: Path, sha256: str, side_car: SideCar, roles: Roles, arrays: dict[str, np.ndarray], chosen: Target | None) -> ForeignModel:
    published = BY_SHA256.get(sha256)
    steps, binary = _check(roles, arrays, side_car)
    target = _target(chosen, published, side_car, binary=binary)
    for part in ("kernel", "bias"):
        arrays[f"{target.name}/{part}"] = arrays.pop(f"output/{part}")
    state = _state(arrays)
    keywords: dict[str, Any] = {
        "flavor": "megnet",
        "cutoff": side_car.cutoff,
        "blocks": roles.blocks,
        "embedding_dim": arrays["atom_embedding/embeddings"].shape[-1],
        "hidden_dim": arrays["atom_encoder_1/bias"].shape[0],
        "dim": arrays["atom_encoder_2/bias"].shape[0],
        "gaussians": side_car.gaussians,
        "gaussian_width": side_car.width,
        "set2set_steps": steps,
        "legacy_set2set": True,
        "readout_dims": [arrays[f"{role}/bias"].shape[0] for role in roles.layers if role.startswith("readout_")],
        "dropout": roles.dropout,
        **state,
    }
    notes = () if side_car.found else (f"no {path.name}.json beside it: a cut-off of 4 Å and 100 Gaussians from 0 to 5 Å are assumed",)
    given = {} if published is None or published.state is None else {"state": published.state}
    featurizer = {"cutoff": side_car.cutoff, **state, **given}
    info = _info(path, sha256, published, side_car, roles.layers["atom_embedding"], arrays)
    return ForeignModel(path, keywords, featurizer, arrays, target, info, notes)


def _check(roles: Roles, arrays: Mapping[str, np.ndarray], side_car: SideCar) -> tuple[int, bool]:
    """Steps of Set2Set, and whether the output is a probability; what the zoo cannot express is refused."""
    for role, layer in roles.layers.items():
        if role == "output":
            continue
        if layer.kind in ("Dense", "MEGNetLayer") and layer.config.get("activation") != "softplus2":
            raise InputError(f"layer {layer.name!r} has activation {layer.config.get('activation')!r}", expected="'softplus2'")
        if layer.kind == "MEGNetLayer" and layer.config.get("pool_method", "mean") != "mean":
            raise InputError(f"layer {layer.name!r} pools by {layer.config['pool_method']!r}", expected="'mean'")
        for key, value in _GATES.items():
            if layer.kind == "Set2Set" and layer.config.get(key, value) != value:
                raise InputError(f"layer {layer.name!r} has {key} {layer.config[key]!r}", expected=repr(value))
    steps = {roles.layers[f"{stream}_set2set"].config.get("T") for stream in STREAMS[:2]}
    if len(steps) != 1 or not isinstance(step := steps.pop(), int):
        raise InputError("its two Set2Set layers take different or unknown numbers of steps T", expected="one number")
    output = roles.layers["output"]
    activation, width = output.config.get("activation"), arrays["output/bias"].shape
    if activation not in ("linear", "sigmoid") or width != (1,):
        raise InputError(f"its output is {activation!r} of {width}", expected="one number, 'linear' or 'sigmoid'")
    rows = arrays["bond_encoder_1/kernel"].shape[0]
    if rows != side_car.gaussians:
        source = "its side-car describes" if side_car.found else "without a side-car megnet's default is assumed,"
        raise InputError(f"the network reads {rows} Gaussians, {source} {side_car.gaussians}", expected="the side-car of this model")
    if activation == "sigmoid" and (side_car.mean, side_car.std) != (0.0, 1.0):
        raise InputError("a classifier with a target scaler", expected="none")
    return step, activation == "sigmoid"


def _target(chosen: Target | None, published: Published | None, side_car: SideCar, *, binary: bool) -> Target:
    found = chosen or (published.target if published else target_of(side_car.metadata, binary=binary))
    if found is None:
        raise InputError("neither the file nor its side-car says what it predicts", expected="a target name: --target NAME --unit UNIT")
    if binary:
        return Target(found.name, task="binary")
    return dataclasses.replace(found, task="regression", mean=side_car.mean, std=side_car.std)


def _state(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The state of a crystal: two zeros (megnet's default), more numbers, or a fidelity."""
    if "state_embedding/embeddings" in arrays:
        return {"fidelities": int(arrays["state_embedding/embeddings"].shape[0])}
    rows = int(arrays["state_encoder_1/kernel"].shape[0])
    return {} if rows == 2 else {"state_dim": rows}


def _info(
    path: Path, sha256: str, published: Published | None, side_car: SideCar, embedding: Layer, arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    initial = embedding.config.get("embeddings_initializer", {}).get("config", {})
    bound = max(abs(float(initial.get(key, 0.05))) for key in ("minval", "maxval"))
    # Rows that no crystal used are still where they were drawn.
    trained = np.flatnonzero(np.abs(arrays["atom_embedding/embeddings"]).max(axis=1) > bound)
    told = {key: " ".join(side_car.metadata[key].split()) for key in ("name", "description") if isinstance(side_car.metadata.get(key), str)}
    known = published.info if published else {"title": f"MEGNet {path.stem}", "citation": f"of the architecture: {CHEN_2019}"}
    return {
        "converted": {"file": path.name, "sha256": sha256, "format": "megnet HDF5", "converter": CONVERTER, **told},
        **known,
        "elements": [int(z) for z in trained if z > 0],
    }


@dataclass(frozen=True)
class SideCar:
    """What the side-car says; the defaults are those of megnet's package.

    Attributes:
        cutoff: bond radius [Å].
        gaussians: number of centres, evenly from 0 to ``cutoff + 1`` [Å].
        width: width of the Gaussians [Å].
        mean: mean of the training targets [the target's unit].
        std: their standard deviation [the target's unit].
        metadata: name, unit, metric and the like, as its authors wrote them.
        found: whether there is a side-car at all.
    """

    cutoff: float = 4.0
    gaussians: int = 100
    width: float = 0.5
    mean: float = 0.0
    std: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    found: bool = True


def read_sidecar(weights: Path) -> SideCar:
    """The side-car ``<file>.json`` of a weight file, or megnet's defaults where there is none.

    Raises:
        InputError: it cannot be read, or describes a graph or scaler that the zoo cannot express.
    """
    path = weights.with_name(weights.name + ".json")
    if not path.is_file():
        return SideCar(found=False)
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"more than {LARGEST:,} bytes", expected="the JSON file that megnet writes beside a model")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=str(path)) from None
    except (ValueError, RecursionError) as error:
        problem = error.problem if isinstance(error, InputError) else f"not valid JSON ({error})"
        raise InputError(problem, file=str(path)) from None
    try:
        return _side_car(content)
    except InputError as error:
        raise error.located(file=str(path)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"not a side-car of megnet ({error})"
        raise InputError(what, expected="graph_converter with cutoff and bond_converter", file=str(path)) from None


def _side_car(content: Any) -> SideCar:
    graph = content["graph_converter"]
    kind = graph.get("@class", "CrystalGraph")
    if kind != "CrystalGraph":
        raise InputError(f"its graphs are made by {kind}", expected="CrystalGraph: the zoo's MEGNet takes ordered crystals")
    atoms = (graph.get("atom_converter") or {}).get("@class", "DummyConverter")
    if atoms != "DummyConverter":
        raise InputError(f"its atoms are described by {atoms}", expected="DummyConverter: atomic numbers")
    strategy = graph.get("nn_strategy")
    inner = strategy.get("cutoff") if isinstance(strategy, dict) else None
    kind = strategy.get("@class") if isinstance(strategy, dict) else strategy
    if kind not in (None, "MinimumDistanceNNAll"):
        raise InputError(f"its neighbours are found by {kind}", expected="MinimumDistanceNNAll: all within a radius")
    cutoff = float(graph["cutoff"] if graph.get("cutoff") is not None or inner is None else inner)
    if inner is not None and float(inner) != cutoff:
        raise InputError(f"its cutoff is {cutoff:g} Å, that of its nn_strategy {float(inner):g} Å", expected="one cut-off")
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise InputError(f"its cutoff is {cutoff:g} Å", expected="a positive number")
    gaussians, width = _bonds(graph["bond_converter"], cutoff)
    mean, std = _scaler(content.get("target_scaler"))
    metadata = content.get("metadata")
    return SideCar(cutoff, gaussians, width, mean, std, metadata if isinstance(metadata, dict) else {})


def _bonds(converter: Any, cutoff: float) -> tuple[int, float]:
    """Number of Gaussians and their width [Å]."""
    kind = converter.get("@class", "GaussianDistance")
    if kind != "GaussianDistance":
        raise InputError(f"its bonds are described by {kind}", expected="GaussianDistance")
    centres = converter["centers"]
    centres = np.asarray(centres["data"] if isinstance(centres, dict) else centres, np.float64)
    width = float(converter["width"])
    if centres.ndim != 1 or len(centres) < 2 or not np.allclose(centres, np.linspace(0, cutoff + 1, len(centres)), atol=1e-6):
        ends = f"{len(centres)} from {centres.min():g} to {centres.max():g} Å" if centres.ndim == 1 and len(centres) else "no list"
        raise InputError(f"its Gaussian centres are {ends}", expected=f"evenly spaced from 0 to {cutoff + 1:g} Å (the cut-off + 1)")
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"the width of its Gaussians is {width:g} Å", expected="a positive number")
    return len(centres), width


def _scaler(scaler: Any) -> tuple[float, float]:
    """Mean and standard deviation of the target."""
    kind = scaler.get("@class") if scaler else None
    if kind in (None, "DummyScaler"):
        return 0.0, 1.0
    if kind != "StandardScaler":
        raise InputError(f"its target scaler is a {kind}", expected="StandardScaler or DummyScaler")
    if not scaler.get("is_intensive", True):
        raise InputError("its target is extensive (is_intensive is false)", expected="an intensive one, the same for every supercell")
    mean, std = float(scaler["mean"]), float(scaler["std"])
    if not (math.isfinite(mean) and math.isfinite(std) and std >= 0):
        raise InputError(f"its target scaler has mean {mean:g} and std {std:g}", expected="finite numbers")
    return mean, std if std >= _EPS else 1.0


def target_of(metadata: Mapping[str, Any], *, binary: bool) -> Target | None:
    """Name, unit and transform from the metadata, as far as they can be told; None without a name.

    ``log10(GPa)`` is the logarithm of a quantity in GPa.
    """
    name = metadata.get("name")
    slug = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")[:60] if isinstance(name, str) else ""
    slug = slug.removeprefix("log10_of_")
    if not slug.isidentifier():
        return None
    unit = metadata.get("unit")
    unit = unit.strip()[:40] if isinstance(unit, str) else ""
    if binary:
        return Target(slug, task="binary")
    inside = re.fullmatch(r"log10\s*\(?([^()]*)\)?", unit)
    transform: Transform = "log10" if inside else "none"
    return Target(slug, inside.group(1).strip() if inside else unit, transform=transform)
