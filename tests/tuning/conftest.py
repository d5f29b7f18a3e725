"""The architecture ``tiny``, and trials that do not train."""

import gc

import pytest
import tiny
import tuning_cases

from tfmat.tuning import Search
from tfmat.tuning.trial import Fitting


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path, eagerly):
    """A tiny model that is not traced, no role among several processes, and a cache of its own."""
    gc.freeze()  # KerasTuner makes Python look for garbage after each trial, among all that earlier tests have left
    tiny.register(monkeypatch)
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("TUNER_ID", "ORACLE_IP", "ORACLE_PORT"):
        monkeypatch.delenv(f"KERASTUNER_{name}", raising=False)


@pytest.fixture
def pretended(monkeypatch):
    """Trials take no time."""
    found = tuning_cases.Pretended()
    monkeypatch.setattr(Fitting, "run", lambda fitting, *arguments, **keywords: found(fitting, *arguments, **keywords))
    monkeypatch.setattr("tfmat.tuning.tuner.PAUSE", 0.0)
    monkeypatch.setattr("tfmat.tuning.tuner.write_hparams", lambda *arguments: None)
    monkeypatch.setattr(Search, "check", lambda search: None)
    return found
