"""A client of models behind TensorFlow Serving: crystals or formulas go in, numbers with their units come out.

    from tfmat.export.client import Client

    client = Client("energy")                     # REST on localhost:8501; Client("energy", protocol="grpc") on 8500
    client.predict(["NaCl.cif", structure])[0].values["formation_energy_per_atom"]      # -2.027 eV/atom

REST needs neither TensorFlow nor Keras; gRPC needs ``pip install 'tfmat[export]'``. The server is asked for units and inputs, which it
knows of models that were written by ``tfmat export --format serving``; for others the client must be given ``tfmat.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfmat.crystal import Crystal, Material
from tfmat.data.materials import read_materials
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.export.client.arrays import composition_arrays, crystal_arrays, elements_in, with_empty_slot
from tfmat.export.client.transports import Grpc, Rest, Transport
from tfmat.featurizers.sites import at_position, each_crystal

PORTS = {"rest": 8501, "grpc": 8500}
"""Protocol -> TensorFlow Serving's port."""


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
        values: name of the target -> its value; ``<target>_uncertainty`` where the model gives one.
        in_domain: whether every element occurred in the training data.
        n_sites: number of sites of the cell; None for a model of compositions.
    """

    values: Mapping[str, Quantity]
    in_domain: bool
    n_sites: int | None


class Client:
    """One model of a server.

    Args:
        model: name of the model on the server.
        host: name or address of the server.
        port: the server's port; 8501 for REST and 8500 for gRPC if None.
        protocol: ``rest`` or ``grpc``.
        version: version of the model; the newest if None.
        timeout: longest time that one call may take [s].
        batch_size: largest number of materials in a call. Where one material is refused, its whole call is.
        metadata: path of ``tfmat.json`` of the model; the server is asked if None.
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
        transport = Rest if protocol == "rest" else Grpc
        self._transport: Transport = transport(host, PORTS[protocol] if port is None else port, model, version, timeout)
        self._batch_size = batch_size
        self._metadata = None if metadata is None else _read_metadata(Path(metadata))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The content of ``tfmat.json``: targets, units, signatures, provenance. The server is asked for it once."""
        if self._metadata is None:
            text = self._transport.call("about", {"row": np.zeros(1, np.int32)}, ["tfmat_json"])["tfmat_json"].reshape(-1)[0]
            self._metadata = json.loads(text)
        return self._metadata

    def predict(self, materials: Any) -> list[Answer]:
        """Ask the model for a prediction of each material.

        Args:
            materials: one or many, in any form that `tfmat.Predictor.predict` takes.

        Raises:
            InputError: a material cannot be read, or the server refuses it, in its own words; there is no such server or model.
        """
        signature = self.metadata["signatures"]["serving_default"]
        of_crystals = "lattice" in signature["inputs"]
        found = _read(materials, "crystal" if of_crystals else "composition")
        answers: list[Answer] = []
        for start in range(0, len(found), self._batch_size):
            read = found[start : start + self._batch_size]
            try:
                inputs = with_empty_slot(self._crystals(read) if of_crystals else _compositions(read))
            except InputError as error:
                raise InputError(error.problem, expected=error.expected, index=start + (error.index or 0)) from None
            answers += _answers(self._transport.call("serving_default", inputs, list(signature["outputs"])), signature["outputs"])
        return answers

    def _crystals(self, materials: Sequence[Any]) -> dict[str, np.ndarray]:
        crystals = list(each_crystal(materials, len(SYMBOLS) - 1))
        state = self.metadata["signatures"]["serving_default"]["inputs"].get("state")
        states = {} if state is None else {"state": np.stack([self._state(c, state, index) for index, c in enumerate(crystals)])}
        return crystal_arrays(crystals) | states

    def _state(self, crystal: Crystal, given: Mapping[str, Any], index: int) -> np.ndarray:
        values = crystal.state if crystal.state is not None else self.metadata["featurizer"]["config"].get("state")
        if values is None or np.size(values) != given["shape"][1]:
            expected = f"{given['shape'][1]} numbers: {given['meaning']}"
            raise InputError("the crystal has no state of the model's length", expected=expected, index=index)
        return np.asarray(values, np.float64).astype(given["dtype"])


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        outputs = content["signatures"]["serving_default"]["outputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("it cannot be read", file=str(path), expected="tfmat.json of an exported SavedModel") from error
    if not isinstance(outputs, dict):
        raise InputError("it has no outputs", file=str(path), expected="tfmat.json of an exported SavedModel")
    return content


def _read(materials: Any, kind: Material) -> list[Any]:
    """Formulas, crystals and pymatgen's objects, read as `tfmat.Predictor.predict` reads them; one that cannot be read is an error."""
    found = read_materials(materials, kind)
    for index, material in enumerate(found):
        if material.error is not None:
            raise InputError(f"{material.place}{material.error}", index=index)
    return [material.value for material in found]


def _compositions(materials: Sequence[Any]) -> dict[str, np.ndarray]:
    amounts = []
    for index, material in enumerate(materials):
        with at_position(index):
            amounts.append(elements_in(material))
    return composition_arrays(amounts)


def _answers(outputs: Mapping[str, np.ndarray], described: Mapping[str, Mapping[str, Any]]) -> list[Answer]:
    columns = {name: np.asarray(outputs[name]).reshape(-1) for name in described}
    values = {name: column for name, column in columns.items() if name not in ("in_domain", "n_sites")}
    return [
        Answer(
            {name: Quantity(float(column[row]), described[name].get("unit", "")) for name, column in values.items()},
            bool(columns["in_domain"][row]),
            int(columns["n_sites"][row]) if "n_sites" in columns else None,
        )
        for row in range(len(columns["in_domain"]))
    ]
