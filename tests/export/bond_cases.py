"""Models that read bonds within a radius; their batches in another order, of wrong shapes and with rows that are no crystal."""

import numpy as np

SMALL = {"blocks": 2, "embedding_dim": 4, "hidden_dim": 8, "dim": 8, "gaussians": 12, "set2set_steps": 2, "readout_dims": (8, 4)}
AXES = {"species": ("B", "A"), "centers": ("B", "E"), "neighbors": ("B", "E"), "distances": ("B", "E")}
CASES = {
    "megnet, legacy Set2Set": ("megnet", SMALL | {"legacy_set2set": True}),
    "megnet, flavor matgl, uncertainty": ("megnet", SMALL | {"flavor": "matgl", "uncertainty": True}),
    "megnet, fidelities": ("megnet", SMALL | {"fidelities": 3, "uncertainty": True}),
    "megnet, state features": ("megnet", SMALL | {"state_dim": 2}),
    "paraisite, uncertainty": ("paraisite", SMALL | {"head_dims": (8, 6), "uncertainty": True}),
}
SITES, BONDS = 8, 150
SIZES = {"max_sites": SITES, "max_bonds": BONDS}
NOTE = ("bonds", {"cutoff": 4.0, "unit": "Å"}, "(i, j) and (j, i)")


def shuffled(batch):
    """Sites and bonds in another order, and padding anywhere among them."""
    order = np.random.default_rng(2).permutation(SITES)
    place, real = np.argsort(order), batch["distances"] > 0
    moved = batch | {key: np.where(real, place[batch[key]], 0).astype(np.int32) for key in ("centers", "neighbors")}
    moved["species"] = batch["species"][:, order]
    shuffle = np.random.default_rng(3).permutation(BONDS)
    return moved | {key: moved[key][:, shuffle] for key in ("centers", "neighbors", "distances")}


def bad_shapes(batch):
    """Batches whose inputs do not fit each other, and part of the sentence."""
    for key in ("neighbors", "distances"):
        yield batch | {key: batch[key][:, :-1]}, "one of each for every bond"
    yield batch | {"species": batch["species"][:1]}, "must have a row for every crystal"


# A key, its new values from the first on, part of the sentence.
BAD_ROWS = [
    ("species", [-11], "`species` must be atomic numbers from 1 to 94"),
    ("species", [95], "`species` must be atomic numbers from 1 to 94"),
    ("species", [0], "`centers` must be positions of sites"),
    ("centers", [2], "`centers` must be positions of sites"),
    ("centers", [SITES], "`centers` must be positions of sites"),
    ("centers", [-1], "`centers` must be positions of sites"),
    ("neighbors", [2**31 - 1], "`neighbors` must be positions of sites"),
    ("neighbors", [-(2**31)], "`neighbors` must be positions of sites"),
    ("distances", [-2.82], "`distances` must be from 0.5 to 4 Å"),
    ("distances", [0.05], "`distances` must be from 0.5 to 4 Å"),
    ("distances", [4.01], "`distances` must be from 0.5 to 4 Å"),
    ("distances", [np.nan], "`distances` must be from 0.5 to 4 Å"),
    ("distances", [np.inf], "`distances` must be from 0.5 to 4 Å"),
    ("distances", [0] * BONDS, "and 0 where `distances` is 0"),
    ("all", [], "a crystal needs at least one bond"),
]
BAD_STATES = {
    "state_dim": [([np.nan, 0], "`state` must be finite numbers"), ([0, np.inf], "`state` must be finite numbers")],
    "fidelities": [([-1], "`state` must be a fidelity from 0 to 2"), ([3], "`state` must be a fidelity from 0 to 2")],
}


def bad_rows(featurizer):
    """What a row is turned into: a key, a place, its new values, part of the sentence."""
    bad = list(BAD_ROWS)
    for key, states in BAD_STATES.items():
        bad += [("state", values, sentence) for values, sentence in states if getattr(featurizer, key)]
    return [(key, slice(len(values)), values, sentence) for key, values, sentence in bad]
