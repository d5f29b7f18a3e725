"""The client, over HTTP and gRPC, against what TensorFlow Serving does with the exported models."""

import json
import re
import shutil
import subprocess
import sys

import fake_server
import numpy as np
import pytest
from exported_crystals import make
from pymatgen.core import Composition, Lattice, Structure
from serving_cases import CRYSTALS, FORMULAS, crystal_model, needs_stubs

from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.export.client import Client, Quantity
from tfmat.export.interfaces import interface_of
from tfmat.export.metadata import describe

pytestmark = needs_stubs
NACL = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])

# Prints what a model says, in a process in which TensorFlow, Keras and the stubs cannot be imported.
ALONE = """
import json, sys
for name in ("tensorflow", "keras", "grpc", "tensorflow_serving"):
    sys.modules[name] = None
from tfmat.export.client import Client
answer = Client("energy", port=int(sys.argv[1])).predict([sys.argv[2]])[0]
print(json.dumps([str(answer.values["energy"]), answer.values["energy"].value, answer.n_sites]))
from tfmat.errors import InputError
try:
    Client("energy", protocol="grpc")
except InputError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def ports(models):
    with fake_server.rest(models) as rest, fake_server.grpc(models) as grpc:
        yield {"rest": rest, "grpc": grpc}


@pytest.fixture(params=["rest", "grpc"])
def protocol(request):
    return request.param


@pytest.fixture
def connect(ports, protocol):
    return lambda model, **options: Client(model, port=ports[protocol], protocol=protocol, **options)


def same(answers, frame, units):
    for row, answer in enumerate(answers):
        assert {name: quantity.unit for name, quantity in answer.values.items()} == units
        for name, quantity in answer.values.items():
            assert quantity.value == pytest.approx(frame[name][row], rel=1e-4, abs=1e-5)
        assert answer.in_domain is bool(frame["in_domain"][row])


def test_compositions(connect, predictor, tmp_path):
    units = {"conductivity": "W/(m K)", "formation_enthalpy": "eV/atom", "metal": ""}
    units |= {f"{name}_uncertainty": unit for name, unit in units.items() if unit}
    client = connect("gap", batch_size=3)
    same(client.predict(FORMULAS), predictor.predict(FORMULAS), units)
    NACL.to(filename=str(tmp_path / "NaCl.cif"))
    others = [NACL, tmp_path / "NaCl.cif", str(tmp_path / "NaCl.cif"), Composition("NaCl"), CRYSTALS[0]]
    answers = client.predict(others)
    same(answers, predictor.predict(["NaCl"] * len(others)), units)
    assert answers[0].n_sites is None and client.predict("NaCl")[0] == client.predict(["NaCl"])[0]
    assert client.predict([]) == []


def test_crystals(connect, tmp_path):
    NACL.to(filename=str(tmp_path / "NaCl.cif"))
    NACL.to(filename=str(tmp_path / "POSCAR"))
    materials = [*CRYSTALS, NACL, tmp_path / "NaCl.cif", str(tmp_path / "POSCAR")]
    expected = crystal_model().predict([*CRYSTALS, NACL, NACL, NACL])
    client = connect("energy", version=1, batch_size=4)
    answers = client.predict(materials)
    same(answers, expected, {"energy": "eV/atom", "energy_uncertainty": "eV/atom", "metal": ""})
    assert [answer.n_sites for answer in answers] == [2, 6, 1, 8, 8, 8, 8]


def test_refusals(connect, ports, protocol, tmp_path):
    """One clear line each; the server's own sentence where the server refuses."""
    apart = Crystal(np.array([1, 1], np.int32), 20.0 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    (tmp_path / "bad.cif").write_text("nothing")
    energy, gap = connect("energy"), connect("gap")
    for client, materials, part in [
        (energy, [CRYSTALS[0], apart], "the server refuses: .*bond.*1"),
        (energy, [Crystal(np.array([118], np.int32), 3 * np.eye(3), np.zeros((1, 3)))], r"the server refuses: `species` must be .* row 0$"),
        (energy, [Crystal(np.array([8], np.int32), 2e4 * np.eye(3), np.zeros((1, 3)))], r"`lattice` must be numbers \[Å\] .* row 0$"),
        (energy, [CRYSTALS[0], "NaCl"], "item 1: 'NaCl' is a formula. Expected a crystal"),
        (energy, ["there/is/none.cif"], "none.cif: no such file"),
        (energy, [tmp_path / "bad.cif"], "bad.cif: the CIF has no atom sites"),
        (gap, ["NaCl", "Xx"], "item 1: formula 'Xx' holds the unknown element 'Xx'"),
        (gap, ["NaCl", 7], "item 1: int is no composition"),
        (connect("other"), ["NaCl"], rf"^the server at localhost:{ports[protocol]} does not serve 'other': Servable not found"),
        (connect("gap", version=9), ["NaCl"], "does not serve 'gap'"),
        (Client("gap", port=1, protocol=protocol, timeout=5), ["NaCl"], "^no TensorFlow Serving server answers at localhost:1: "),
    ]:
        with pytest.raises(InputError, match=part) as caught:
            client.predict(materials)
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="unknown protocol 'http'"):
        Client("gap", protocol="http")
    with pytest.raises(InputError, match="`batch_size` must be positive"):
        Client("gap", batch_size=0)


def test_rest_needs_no_tensorflow(ports, tmp_path):
    NACL.to(filename=str(tmp_path / "NaCl.cif"))
    command = [sys.executable, "-c", ALONE, str(ports["rest"]), str(tmp_path / "NaCl.cif")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told, refusal = run.stdout.splitlines()[-2:]
    text, value, sites = json.loads(told)
    assert value == pytest.approx(crystal_model().predict([NACL])["energy"][0], rel=1e-4)
    assert text == f"{value:.6g} eV/atom" and sites == 8
    assert re.fullmatch(r"gRPC, unlike protocol='rest', needs grpc.*not installed\. Expected pip install 'tfmat\[export\]'", refusal)


def test_another_server(ports):
    """Something that answers, but is no TensorFlow Serving."""
    from tfmat.export.client.transports import Rest

    rest = Rest("localhost", ports["rest"], "gap", None, 5)
    for text in (b"<html>", b"[]", b'{"outputs": {"a": 1}}'):
        with pytest.raises(InputError, match="an answer without the outputs a, b"):
            rest._outputs(text, ["a", "b"])
    assert "HTTP status 500 without" in str(rest._refusal(500, b"<html>", "serving_default"))
    assert "the server tells no units: Serving signature" in str(rest._refusal(400, b'{"error": "Serving signature"}', "about"))


def test_metadata_of_a_file(ports, repository, tmp_path):
    file = tmp_path / "tfmat.json"
    shutil.copy(repository / "gap" / "1" / "assets.extra" / "tfmat.json", file)
    told = json.loads(file.read_text())
    told["signatures"]["serving_default"]["outputs"]["metal"]["unit"] = "of this file"
    file.write_text(json.dumps(told))
    assert Client("gap", port=ports["rest"], metadata=file).predict(["NaCl"])[0].values["metal"].unit == "of this file"
    file.write_text("[]")
    with pytest.raises(InputError, match=r"tfmat\.json: it cannot be read\. Expected tfmat\.json of an exported SavedModel"):
        Client("gap", metadata=file)


def test_states(monkeypatch):
    """Models with global state features are sent them, the model's own where a crystal has none."""
    sent = {}

    class Transport:
        def call(self, signature, inputs, outputs):
            sent.update(inputs)
            return {name: np.ones((len(inputs["species"]), 1)) for name in outputs}

    predictor = make("megnet, fidelities")
    inputs = interface_of(predictor).entries()["serving_default"].inputs
    told = json.loads(describe(predictor, "savedmodel", {"serving_default": inputs}, facts={"serving_default": ("in_domain", "n_sites")}))
    client = Client("m")
    monkeypatch.setattr(client, "_transport", Transport())
    monkeypatch.setattr(client, "_metadata", told)
    crystal = Crystal(CRYSTALS[0].species, CRYSTALS[0].lattice, CRYSTALS[0].frac_coords, np.array([2.0]))
    assert client.predict([crystal])[0].values["energy"] == Quantity(1.0, "eV/atom")
    assert sent["state"].tolist() == [[2]] and sent["state"].dtype == np.int32 and sent["species"].tolist() == [[0, 11, 17]]
    with pytest.raises(InputError, match=r"item 1: the crystal has no state of the model's length\. Expected 1 numbers: fidelity"):
        client.predict([crystal, CRYSTALS[0]])
    told["featurizer"]["config"]["state"] = [1.0]
    client.predict([crystal, CRYSTALS[0]])
    assert sent["state"].tolist() == [[2], [1]]
