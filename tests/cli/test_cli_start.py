"""Commands start quickly: `tfmat models` describes the models once, and TensorFlow is imported without what is not used."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from cli_cases import ROOT, Command

from tfmat.runs import listing

MODELS = """
import sys
from tfmat.cli import run
assert run(["models", "--json"]) == 0
print("keras" in sys.modules, file=sys.stderr)
"""
LOADED = """
import gc, sys
from tfmat.cli.progress import load_tensorflow
load_tensorflow()
import keras, tensorflow
assert gc.isenabled() and gc.get_freeze_count() > 100_000
assert not {"jax", "matplotlib", "sklearn"} & set(sys.modules), "hidden ones are as if never asked for"
import matplotlib, sklearn
print(keras.backend.backend())
"""


def python(code: str, folder: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(ROOT), "TFMAT_CACHE_DIR": str(folder), "KERAS_HOME": str(folder)} | environment
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.slow
def test_models_are_described_once(tfmat: Command, tmp_path: pathlib.Path) -> None:
    first, second = (python(MODELS, tmp_path) for _ in range(2))
    assert (first.stderr.split()[-1], second.stderr.split()[-1]) == ("True", "False")
    assert json.loads(first.stdout) == json.loads(second.stdout) == json.loads(tfmat("models", "--json").out)
    file = tmp_path / "models" / "listing.json"
    file.write_text(file.read_text()[:-20])
    assert python(MODELS, tmp_path).stdout == first.stdout


def test_changed_code_is_described_again(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "zoo").mkdir()
    for file in (tmp_path / "__init__.py", tmp_path / "zoo" / "new.py"):
        file.write_text("")
    monkeypatch.setattr(listing.tfmat, "__file__", str(tmp_path / "__init__.py"))
    before = listing._state()
    assert listing._state() == before
    (tmp_path / "zoo" / "new.py").write_text("ARCHITECTURE = ...")
    assert listing._state() != before


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_loading_leaves_out_what_is_not_used(backend: str, tmp_path: pathlib.Path) -> None:
    code = LOADED if backend == "tensorflow" else LOADED.replace('"jax", ', "")
    (tmp_path / "keras.json").write_text(json.dumps({"backend": backend}))
    assert python(code, tmp_path, KERAS_BACKEND="").stdout.split() == [backend]
