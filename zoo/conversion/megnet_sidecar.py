"""The JSON file that megnet writes beside a model: graph, scaler and what its authors say about it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.errors import InputError
from tfmat.target import Target, Transform

LARGEST = 10_000_000
"""Bytes of a side-car that is still read; megnet's own have a few thousand."""
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class SideCar:
    """What the side-car says; the defaults are those of megnet's package.

    Attributes:
        cutoff: bond radius [Å].
        gaussians: number of centres, evenly from 0 to ``cutoff + 1`` [Å].
        width: of the Gaussians [Å].
        mean: of the target scaler [the target's unit].
        std: of the target scaler [the target's unit].
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
