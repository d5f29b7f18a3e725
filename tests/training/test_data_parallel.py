"""Two processes train as one, under JAX; see `data_parallel_cases`. And the shares of a process, without JAX."""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from jax_cases import ON_JAX

from docs.data_parallel import CLUSTER, Share, data_parallel
from tfmat.errors import InputError

CASES = pathlib.Path(__file__).with_name("data_parallel_cases.py")


def start(how, *cluster):
    paths = os.pathsep.join(filter(None, [*map(str, CASES.parents[:3]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | ON_JAX | {"PYTHONPATH": paths} | dict(zip(CLUSTER, cluster, strict=False))
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, str(CASES), how], env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_two_processes_train_as_one():
    """Crystals, a target that some miss, a batch whose second half is padding; clipping and a moving average."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [start("alone"), start("joined", address, "2", "0"), start("joined", address, "2", "1")]
    with ThreadPoolExecutor(len(processes)) as pool:  # all pipes at once: a full one would hold up the others
        said = list(pool.map(lambda process: process.communicate(timeout=600), processes))
    reports = []
    for process, (out, err) in zip(processes, said, strict=True):
        assert process.returncode == 0, err[-3000:]
        reports.append(json.loads(out.splitlines()[-1]))
    alone, *joined = reports
    assert alone["devices"] == 1 and alone["rows"] == [8, 8] and alone["trained by"] > 5e-3
    for one in joined:
        assert one["devices"] == 2
        for name, values in alone["history"].items():
            np.testing.assert_allclose(one["history"][name], values, rtol=1e-4)
        for a, b in zip(alone["weights"], one["weights"], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


class Whole(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        weights = {"y": np.array([1.25, 1.25, 0, 1.25, 1.25], np.float32)}
        return (
            {"x": np.arange(1, 11, dtype=np.int32).reshape(5, 2), "species": np.array([1, 2, 3, 4, 5, 6, 0])},
            {"y": np.arange(5.0, dtype=np.float32)[:, None]},
            weights,
        )


def test_shares_are_the_batch_and_keep_its_mean():
    whole = Whole()
    shares = [Share(whole, 2, number, 4)[0] for number in range(2)]
    for part, empty in ((0, 0), (1, np.nan)):
        for key, values in whole[0][part].items():
            together = np.concatenate([share[part][key] for share in shares])
            assert together.dtype == values.dtype
            np.testing.assert_array_equal(together, np.concatenate([values, np.full((-len(values) % 4, *values.shape[1:]), empty)]))
    weights = np.concatenate([share[2]["y"] for share in shares])
    errors = np.array([1.0, 2, 3, 4, 5, 0, 0, 0])
    assert np.mean(weights * errors) == pytest.approx(np.mean(whole[0][2]["y"] * errors[:5]))
    assert len(weights) == 8 and len(Share(whole, 2, 0, 4)) == 1
    with pytest.raises(ValueError, match="multiple of `processes`"):
        Share(whole, 2, 0, 3)


def test_it_needs_jax_and_all_variables(monkeypatch):
    with pytest.raises(InputError, match="needs JAX, Keras runs on tensorflow"):
        data_parallel()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setenv(CLUSTER[0], "127.0.0.1:1")
    with pytest.raises(InputError, match=f"{CLUSTER[1]} and {CLUSTER[2]} not set"):
        data_parallel()
