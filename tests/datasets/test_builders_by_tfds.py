"""TFDS's own checks of a builder: what it stores, its splits, features, configurations and that it is registered."""

import pathlib

import pytest

pytest.importorskip("dill", reason="tfds.testing imports dill")
tfds = pytest.importorskip("tensorflow_datasets")
from tfmat.datasets import builders  # noqa: E402


class EmbeddedTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = builders.ExpFormationEnthalpy
    EXAMPLE_DIR = str(pathlib.Path(__file__).parent)
    SPLITS = {"train": 1729, "validation": 203, "test": 203}
    SKIP_CHECKSUMS = True
