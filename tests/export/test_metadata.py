"""What ``tfmat.json`` says is enough: arrays that are built from it alone, without tfmat, give the numbers of `predict`."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from small_models import SMALL

from tfmat.crystal import Crystal
from tfmat.export.formats.saved_model import as_module
from tfmat.export.interfaces import interface_of
from tfmat.export.metadata import describe
from tfmat.predictor import Predictor
from tfmat.target import Target

TURNED = np.array([[0.8, 0.6, 0], [-0.36, 0.48, 0.8], [0.48, -0.64, 0.6]])
CSCL = (["Cs", "Cl"], 4.0 * (1 + 1e-15) * TURNED, [[0.0, 0, 0], [0.5, 0.5, 0.5]])
"""Its Cs-Cs distance is the cut-off of MEGNet, 4 Å, and a little more once it is rounded."""
RUTILE = (
    ["Ti", "Ti", "O", "O", "O", "O"],
    np.diag([4.594, 4.594, 2.959]),
    [[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]],
)


def images(lattice, coords, reach=4):
    """For each site all images of all sites: (site, vector), nearest first, the site itself left out."""
    cartesian = np.asarray(coords, float) @ lattice
    shifts = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3))) @ lattice
    for start in cartesian:
        vectors = (cartesian[:, None] + shifts - start).reshape(-1, 3)
        sites, lengths = np.repeat(np.arange(len(cartesian)), len(shifts)), np.linalg.norm(vectors, axis=1)
        order = np.argsort(lengths, kind="stable")[1:]
        yield sites[order], vectors[order], lengths[order]


def megnet(metadata, symbols, lattice, coords):
    rule = metadata["bonds"]
    rows = []
    for center, (sites, _, lengths) in enumerate(images(lattice, coords)):
        near = lengths <= rule["cutoff"] + rule["tolerance"]
        rows += [(center, site, length) for site, length in zip(sites[near], lengths[near], strict=True)]
    centers, neighbors, distances = zip(*rows, strict=True)
    if symbols == CSCL[0]:
        assert len(rows) == 28 and max(distances) > rule["cutoff"]
    return {"species": numbers(metadata, symbols), "centers": centers, "neighbors": neighbors, "distances": distances}


def crysformer(metadata, symbols, lattice, coords):
    rule = metadata["neighbors"]
    assert not rule["strict"]
    found = []
    for sites, vectors, lengths in images(lattice, coords):
        near = lengths <= lengths[rule["k"] - 1] + rule["tolerance"]
        assert near.sum() <= rule["max_neighbors"]
        found.append((sites[near], vectors[near]))
    most = max(len(sites) for sites, _ in found)
    return {
        "species": numbers(metadata, symbols),
        "neighbors": [np.pad(sites, (0, most - len(sites))) for sites, _ in found],
        "vectors": [np.pad(vectors, [(0, most - len(vectors)), (0, 0)]) for _, vectors in found],
    }


def atom_list_lstm(metadata, symbols, lattice, coords):
    """Its lists hold shells in the order of the elements; in these crystals shells are farther apart than the rounding."""
    rule, kinds = metadata["atom_lists"], numbers(metadata, symbols)
    lists = []
    for sites, _, lengths in images(lattice, coords):
        shells = np.cumsum(np.diff(lengths, prepend=lengths[0]) > 1e-3)
        order = np.lexsort([kinds[sites], shells])[: rule["n_list"] - 1]
        lists.append((kinds[sites][order], lengths[order]))
    return {
        "species": kinds,
        "lists": np.arange(len(kinds)) + 1,
        "elements": [elements for elements, _ in lists],
        "distances": [lengths for _, lengths in lists],
    }


def numbers(metadata, symbols):
    return np.array([metadata["atomic_numbers"][symbol] for symbol in symbols])


@pytest.mark.parametrize("build", [megnet, crysformer, atom_list_lstm], ids=lambda build: build.__name__)
def test_arrays_from_the_metadata_alone(build):
    name = build.__name__
    keywords = SMALL[name] | ({"pooling": "mean"} if name == "atom_list_lstm" else {})
    predictor = Predictor.create(name, [Target("y", "eV")], keywords=keywords, seed=1)
    entries = {"featurized": interface_of(predictor).signatures()["featurized"]}
    metadata = json.loads(describe(predictor, "savedmodel", {name: entry.inputs for name, entry in entries.items()}))
    serve = as_module(predictor, entries)[1]["featurized"]
    inputs = metadata["signatures"]["featurized"]["inputs"]
    for symbols, lattice, coords in (CSCL, RUTILE):
        built = build(metadata, symbols, lattice, coords)
        arrays = {key: tf.constant(np.asarray(built[key])[None].astype(given["dtype"])) for key, given in inputs.items()}
        crystal = Crystal(numbers(metadata, symbols).astype(np.int32), lattice, np.array(coords, float))
        expected = predictor.predict([crystal])["y"].iloc[0]
        assert float(serve(**arrays)["y"][0, 0]) == pytest.approx(expected, abs=1e-5)
        assert abs(expected) > 1e-4
