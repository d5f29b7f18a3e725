"""`KERAS_BACKEND=jax tfmat train` for every architecture: the model loads, predicts the same and is exported under TensorFlow."""

import json

import numpy as np
import pytest
from jax_cases import needs_jax, run_on_jax

from tfmat.architecture import architectures
from tfmat.predictor import Predictor

QUICK = {
    "atom_list_lstm": {"n_list": 4, "embedding_dim": 8, "site_units": 8, "crystal_units": 16, "layers": 1},
    "crysformer": {"k": 4, "max_neighbors": 8, "dim": 8, "blocks": 1, "heads": 2, "elements": "learned"},
    "lgdcnn": {"dim": 8, "conv_dim": 8, "conv_blocks": 1, "recurrent": ["gru"]},
    "megnet": {"dim": 4, "hidden_dim": 8, "gaussians": 8, "blocks": 1, "set2set_steps": 1},
    "paraisite": {"dim": 4, "hidden_dim": 8, "gaussians": 8, "blocks": 1, "set2set_steps": 1, "head_dims": [8]},
}
"""Smaller than `Architecture.small`, because JAX compiles for seconds; a new architecture needs no entry."""
SMALL = {name: QUICK.get(name, dict(found.small)) for name, found in architectures().items()}
DATA = {name: "formulas.jsonl" if found.material == "composition" else "crystals.jsonl" for name, found in architectures().items()}
TRAIN = """
import contextlib, json, sys
sys.modules |= {"tensorflow": None, "matplotlib": None}  # cannot be imported
from tfmat.cli import run
from tfmat.data import read_user_data
from tfmat.predictor import Predictor
folder, small, data_of = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
saved, save = [], Predictor.save
def keep(self, *arguments, **options):
    saved.append(self)
    return save(self, *arguments, **options)
Predictor.save = keep
done = {}
for name, keywords in small.items():
    options = [text for key, value in keywords.items() for text in ("--set", f"{key}={json.dumps(value)}")]
    data = f"{folder}/{data_of[name]}"
    command = ["train", name, "--data", data, *options, "--recipe-option", "loss=mse", "--recipe-option", "learning_rate=0.01"]
    with contextlib.redirect_stdout(sys.stderr):
        code = run([*command, "--batch-size", "8", "--epochs", "15", "--no-cache", "--out", f"{folder}/{name}"])
    done[name] = {"code": code}
    if code == 0:
        records = saved[-1].featurizer.featurize(read_user_data(data).table.materials[8:12])
        done[name]["outputs"] = saved[-1].outputs(records)["gap"].tolist()
print(json.dumps(done))
"""


def write_data(folder):
    """16 formulas and 16 crystals of CsCl's structure, whose target depends on the elements."""
    rng = np.random.default_rng(0)
    with (folder / "formulas.jsonl").open("w") as formulas, (folder / "crystals.jsonl").open("w") as crystals:
        for index in range(16):
            metal, other = ("Li", "Na", "K", "Cs")[index % 4], ("F", "Cl", "Br", "I")[index // 4]
            split = ("train", "train", "validation", "test")[index // 4]
            row = {"id": f"m{index}", "gap": index % 4 + 0.3 * (index // 4), "split": split}
            edge = 3.0 + 0.2 * rng.random()
            cell = {"cell": [edge, edge, edge, 90, 90, 90], "species": [metal, other], "frac": [[0, 0, 0], [0.5, 0.5, 0.5]]}
            formulas.write(json.dumps(row | {"formula": f"{metal}{1 + index % 2}{other}"}) + "\n")
            crystals.write(json.dumps(row | cell) + "\n")


FAST = ("lgdcnn", "megnet")
"""One of compositions and one of crystals."""
NAMES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in sorted(architectures())]


@pytest.fixture(scope="module")
def trained(request, tmp_path_factory):
    """The folder, and of each architecture that a test asks for the exit code and the outputs under JAX, from one process for all."""
    asked = {item.callspec.params["name"] for item in request.session.items if item.path == request.path}
    folder = tmp_path_factory.mktemp("jax")
    write_data(folder)
    return folder, run_on_jax(TRAIN, folder, json.dumps({name: SMALL[name] for name in sorted(asked)}), json.dumps(DATA))


@needs_jax
@pytest.mark.parametrize("name", NAMES)
def test_trained_with_jax_the_same_with_tensorflow(trained, name):
    folder, done = trained
    assert done[name]["code"] == 0
    predictor = Predictor.load(folder / name)
    losses = [row["loss"] for row in predictor.history]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert predictor.info["versions"]["jax"]
    from tfmat.data import read_user_data

    data = read_user_data(folder / DATA[name]).table
    outputs = predictor.outputs(predictor.featurizer.featurize(data.materials[8:12]))["gap"]
    np.testing.assert_allclose(outputs, done[name]["outputs"], rtol=1e-4, atol=1e-6)
    assert np.ptp(outputs[:, 0]) > 1e-3, "it tells the materials apart"


@needs_jax
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "megnet" else pytest.mark.slow) for name in sorted(architectures())]
)
def test_trained_with_jax_exported_with_tensorflow(trained, name, tmp_path):
    from tfmat.export.formats.saved_model import export_saved_model

    assert export_saved_model(Predictor.load(trained[0] / name), tmp_path / "served").max_difference <= 1e-4
