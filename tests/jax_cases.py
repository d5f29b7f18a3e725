"""Programs that tests run in a fresh process on Keras' JAX backend."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
TESTS = pathlib.Path(__file__).parent
ON_JAX = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    # What tests compute takes milliseconds: compiling it well, or compiling the same again, takes most of the time.
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def run_on_jax(program: str, *arguments: object, timeout: float = 1500.0):
    """What the program prints as JSON in its last line."""
    paths = [str(TESTS.parent), str(TESTS), str(TESTS / "training"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | ON_JAX | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as compiled:
        environment |= {"JAX_COMPILATION_CACHE_DIR": compiled}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])
