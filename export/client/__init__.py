"""A client of models behind TensorFlow Serving: crystals or formulas go in, numbers with their units come out.

    from tfmat.export.client import Client

    client = Client("energy")                     # REST on localhost:8501; Client("energy", protocol="grpc") on 8500
    client.predict(["NaCl.cif", structure])[0].values["formation_energy_per_atom"]      # -2.027 eV/atom

REST needs neither TensorFlow nor Keras; gRPC needs ``pip install 'tfmat[export]'``. Units and inputs are asked of the server, whose models
must have been written by ``tfmat export --format serving``; of other exports the client must be given ``tfmat.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from tfmat.crystal import Crystal, Material
from tfmat.data.materials import read_materials
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError
from tfmat.export.client.arrays import composition_arrays, crystal_arrays, with_empty_slot
from tfmat.extras import require
from tfmat.featurizers.composition import parse_formula
from tfmat.featurizers.sites import each_crystal

PORTS = {"rest": 8501, "grpc": 8500}
"""Protocol -> TensorFlow Serving's port."""

Arrays = Mapping[str, np.ndarray]


class Transport(Protocol):
    """How a server is asked."""

    def call(self, signature: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Call a signature; `outputs` are its names.

        Raises:
            InputError: no server, no such model, or the server's reason to refuse.
        """


@dataclass(frozen=True)
class Quantity:
    """A number and its unit, which is empty for a probability."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:.6g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Answer:
    """What a model says of one material.

    Attributes:
        values: name of the target -> its value; ``<target>_uncertainty`` where the model tells one.
        in_domain: whether every element occurred in the training data.
        n_sites: number of sites of the cell; None for a model of compositions.
    """

    values: Mapping[str, Quantity]
    in_domain: bool
    n_sites: int | None


class Client:
    """One model of a server.

    Args:
        model: its name on the server.
        host: name or address.
        port: 8501 for REST and 8500 for gRPC if None.
        protocol: ``rest`` or ``grpc``.
        version: of the model; the newest if None.
        timeout: of one call [s].
        batch_size: largest number of materials in a call. One that the server refuses refuses its call.
        metadata: ``tfmat.json`` of the model; the server is asked if None.
    """

    def __init__(
        self,
        model: str,
        host: str = "localhost",
        port: int | None = None,
        *,
        protocol: Literal["rest", "grpc"] = "rest",
        version: int | None = None,
        timeout: float = 60.0,
        batch_size: int = 32,
        metadata: str | Path | None = None,
    ) -> None:
        if protocol not in PORTS:
            raise InputError(f"unknown protocol {protocol!r}", expected="rest or grpc")
        if batch_size < 1:
            raise InputError(f"`batch_size` must be positive. Received: batch_size={batch_size}")
        self._transport = _transport(protocol, host, PORTS[protocol] if port is None else port, model, version, timeout)
        self._batch_size = batch_size
        self._told = None if metadata is None else _read_metadata(Path(metadata))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """``tfmat.json``: targets, units, signatures, provenance. Asked of the server once."""
        if self._told is None:
            text = self._transport.call("about", {"row": np.zeros(1, np.int32)}, ["tfmat_json"])["tfmat_json"].reshape(-1)[0]
            self._told = json.loads(text)
        return self._told

    def predict(self, materials: Any) -> list[Answer]:
        """What the model says of each material.

        Args:
            materials: one or many, in any form that `tfmat.Predictor.predict` takes.

        Raises:
            InputError: a material cannot be read, or the server refuses it, in its own words; there is no such server or model.
        """
        signature = self.metadata["signatures"]["serving_default"]
        of_crystals = "lattice" in signature["inputs"]
        materials = _read(materials, "crystal" if of_crystals else "composition")
        encode = self._crystals if of_crystals else _compositions
        answers: list[Answer] = []
        for start in range(0, len(materials), self._batch_size):
            inputs = with_empty_slot(encode(materials[start : start + self._batch_size], start))
            answers += _answers(self._transport.call("serving_default", inputs, list(signature["outputs"])), signature["outputs"])
        return answers

    def _crystals(self, materials: Sequence[Any], start: int) -> dict[str, np.ndarray]:
        try:
            crystals = list(each_crystal(materials, len(SYMBOLS) - 1))
        except InputError as error:
            raise InputError(error.problem, expected=error.expected, index=start + (error.index or 0)) from None
        arrays = crystal_arrays(crystals)
        state = self.metadata["signatures"]["serving_default"]["inputs"].get("state")
        if state is not None:
            arrays["state"] = np.stack([self._state(crystal, state, start + index) for index, crystal in enumerate(crystals)])
        return arrays

    def _state(self, crystal: Crystal, given: Mapping[str, Any], index: int) -> np.ndarray:
        values = crystal.state if crystal.state is not None else self.metadata["featurizer"]["config"].get("state")
        if values is None or np.size(values) != given["shape"][1]:
            expected = f"{given['shape'][1]} numbers: {given['meaning']}"
            raise InputError("the crystal has no state of the model's length", expected=expected, index=index)
        return np.asarray(values, np.float64).astype(given["dtype"])


def _transport(protocol: str, host: str, port: int, model: str, version: int | None, timeout: float) -> Transport:
    if protocol == "rest":
        from tfmat.export.client.transports import Rest

        return Rest(host, port, model, version, timeout)
    require("export", "gRPC, unlike protocol='rest',", "grpc", "tensorflow", "tensorflow_serving")
    from tfmat.export.client.transport_grpc import Grpc

    return Grpc(host, port, model, version, timeout)


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        outputs = told["signatures"]["serving_default"]["outputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("it cannot be read", file=str(path), expected="tfmat.json of an exported SavedModel") from error
    if not isinstance(outputs, dict):
        raise InputError("it has no outputs", file=str(path), expected="tfmat.json of an exported SavedModel")
    return told


def _read(materials: Any, kind: Material) -> list[Any]:
    """Formulas, crystals and pymatgen's objects, read as `tfmat.Predictor.predict` reads them; one that cannot be read is an error."""
    found = read_materials(materials, kind)
    for index, material in enumerate(found):
        if material.error is not None:
            raise InputError(f"{material.place}{material.error}", index=index)
    return [material.value for material in found]


def _compositions(materials: Sequence[Any], start: int) -> dict[str, np.ndarray]:
    amounts = []
    for index, material in enumerate(materials, start):
        try:
            amounts.append(_amounts(material))
        except InputError as error:
            raise InputError(error.problem, expected=error.expected, index=index) from None
    return composition_arrays(amounts)


def _amounts(material: Any) -> dict[str, float]:
    """Symbol -> amount in a formula, a crystal, or pymatgen's ``Composition`` or ``Structure``."""
    if isinstance(material, str):
        return parse_formula(material)
    if isinstance(material, Crystal):
        return {SYMBOLS[int(z)]: float(n) for z, n in zip(*np.unique(material.species, return_counts=True), strict=True)}
    composition = getattr(material, "composition", material)
    found: Mapping[str, float] = getattr(composition, "get_el_amt_dict", dict)()
    if not found or set(found) - set(ATOMIC_NUMBERS):
        raise InputError(f"{type(material).__name__} is no composition of elements", expected="a formula or a crystal")
    return {str(symbol): float(amount) for symbol, amount in found.items()}


def _answers(outputs: Arrays, described: Mapping[str, Mapping[str, Any]]) -> list[Answer]:
    columns = {name: np.asarray(outputs[name]).reshape(-1) for name in described}
    told = ("in_domain", "n_sites")
    return [
        Answer(
            {name: Quantity(float(column[row]), described[name].get("unit", "")) for name, column in columns.items() if name not in told},
            bool(columns["in_domain"][row]),
            int(columns["n_sites"][row]) if "n_sites" in columns else None,
        )
        for row in range(len(columns["in_domain"]))
    ]
