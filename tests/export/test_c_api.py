"""SavedModels of crystals in a C program: TensorFlow's own loader, which TensorFlow Serving has too, and nothing else."""

import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from serving_cases import CRYSTALS, crystal_model

from tfmat.export import export_model

COMPILER = next((found for found in map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")) if found), None)
LIBRARIES = pathlib.Path(tf.sysconfig.get_lib())
NEEDED = ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"]
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler"),
    pytest.mark.skipif(not all((LIBRARIES / name).exists() for name in NEEDED), reason="this TensorFlow has no C library"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    out = tmp_path_factory.mktemp("c") / "serving_default"
    source = pathlib.Path(__file__).with_name("serving_default.c")
    libraries = [f"-L{LIBRARIES}", *(f"-l:{name}" for name in NEEDED), f"-Wl,-rpath,{LIBRARIES}"]
    command = [COMPILER, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-isystem{tf.sysconfig.get_include()}", str(source), "-o", str(out)]
    done = subprocess.run([*command, *libraries], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    out = tmp_path_factory.mktemp("c") / "model"
    export_model(crystal_model(), out, examples=CRYSTALS[:1])
    return out


def call(program, folder, lattice, species, coords):
    sites = "\n".join(f"{z} {x:.9g} {y:.9g} {w:.9g}" for z, (x, y, w) in zip(species, coords, strict=True))
    text = f"{len(species)}\n{' '.join(f'{x:.9g}' for x in np.ravel(lattice))}\n{sites}\n"
    environment = {"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}  # nothing of Python
    return subprocess.run([str(program), str(folder)], input=text, capture_output=True, text=True, env=environment, cwd="/")


def test_same_numbers(program, saved):
    crystal = CRYSTALS[1]
    frame = crystal_model().predict([crystal])
    loaded = tf.saved_model.load(str(saved)).signatures["serving_default"]
    done = call(program, saved, crystal.lattice, crystal.species, crystal.frac_coords)
    assert done.returncode == 0, done.stderr
    outputs = dict(line.split() for line in done.stdout.splitlines())
    assert set(outputs) == set(loaded.structured_outputs)
    arrays = {"lattice": crystal.lattice, "frac_coords": crystal.frac_coords, "species": crystal.species}
    python = loaded(**{key: tf.constant(value[None], tf.int32 if key == "species" else tf.float32) for key, value in arrays.items()})
    for name, value in python.items():
        assert float(outputs[name]) == pytest.approx(float(value[0, 0]), rel=1e-6), name
    for name in ("energy", "energy_uncertainty", "metal"):
        assert float(outputs[name]) == pytest.approx(frame[name][0], rel=1e-4), name
    assert int(outputs["n_sites"]) == len(crystal) and int(outputs["in_domain"]) == frame["in_domain"][0]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"species": [11, 119]}, "`species` must be atomic numbers from 1 to 94, with 0 as padding"),
        ({"coords": np.zeros((2, 3))}, "two atoms are closer than 0.5"),
    ],
)
def test_refused(program, saved, changed, sentence):
    """A crystal that cannot be read ends with the model's sentence and no number."""
    crystal = CRYSTALS[0]
    given = {"lattice": crystal.lattice, "species": crystal.species, "coords": crystal.frac_coords} | changed
    done = call(program, saved, **given)
    assert done.returncode == 1 and done.stdout == "" and sentence in done.stderr


def test_no_model(program, tmp_path):
    done = call(program, tmp_path, np.eye(3), [11], [[0, 0, 0]])
    assert done.returncode == 1 and done.stdout == "" and "Could not find SavedModel" in done.stderr
