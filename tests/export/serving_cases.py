"""What the tests of serving share; the fixture `repository` serves `gap`, of compositions, and `energy`, of crystals."""

import functools
import importlib.util

import pytest
from exported_crystals import make

from tfmat.crystal import Crystal
from tfmat.export.interfaces.crystals import EXAMPLES

FORMULAS = ["Fe2O3", "Ca(OH)2", "Si", "LiNi0.8Mn0.1Co0.1O2"]
CRYSTALS: list[Crystal] = [EXAMPLES[0], EXAMPLES[5], EXAMPLES[2], EXAMPLES[1]]  # 2, 6, 1 and 8 sites
needs_stubs = pytest.mark.skipif(importlib.util.find_spec("tensorflow_serving") is None, reason="tensorflow-serving-api is not installed")


@functools.cache
def crystal_model():
    return make("paraisite, uncertainty", blocks=1)
