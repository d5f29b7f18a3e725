"""Models that read lists of atoms; their batches in another order, of wrong shapes and with rows that are no crystal."""

import numpy as np

SMALL = {"n_list": 8, "embedding_dim": 4, "site_units": 6, "crystal_units": 32, "layers": 2}
AXES = {"species": ("B", "U"), "elements": ("B", "U", 7), "distances": ("B", "U", 7), "lists": ("B", "A")}
CASES = {
    "atom_list_lstm, uncertainty": ("atom_list_lstm", SMALL | {"uncertainty": True}),
    "atom_list_lstm, mean": ("atom_list_lstm", SMALL | {"pooling": "mean", "output": "relu", "order": "published"}),
    "atom_list_lstm, cutoff": ("atom_list_lstm", SMALL | {"cutoff": 3.0, "normalisation": False}),
}
SITES = 8
SIZES = {"max_sites": SITES}
NOTE = ("atom_lists", {"n_list": 8, "featurizer_version": 1, "unit": "Å"}, "around site i are all other sites and the periodic images")


def shuffled(batch):
    """Lists in another order with padding among them, and padding among the sites, whose order remains."""
    random = np.random.default_rng(2)
    order = random.permutation(SITES)
    moved = {key: batch[key][:, order] for key in ("species", "elements", "distances")}
    renumbered = np.where(batch["lists"] > 0, np.argsort(order)[batch["lists"] - 1] + 1, 0)
    moved["lists"] = np.zeros_like(batch["lists"])
    for row, numbers in zip(moved["lists"], renumbered, strict=True):
        present = numbers[numbers > 0]
        row[np.sort(random.permutation(SITES)[: len(present)])] = present
    return moved


def bad_shapes(batch):
    """Batches whose inputs do not fit each other, and part of the sentence."""
    yield batch | {"species": batch["species"][:, :-1]}, "a list for every one in `species`"
    yield batch | {"distances": batch["distances"][:, :-1]}, "one distance for every element"
    yield batch | {"lists": batch["lists"][:1]}, "`lists` must have a row for every crystal"


def bad_rows(featurizer):
    """What a row is turned into: a key, a place, its new values, part of the sentence."""
    species, elements = (f"`{key}` must be atomic numbers from 1 to 95" for key in ("species", "elements"))
    limits = "0.5 Å on" if featurizer.cutoff is None else "0.5 Å to 3 Å"
    distances, lists = f"`distances` must be from {limits} where `elements` is not 0", "`lists` must be positions in `species`"
    first, nobody = (0, 0), (2, 0)  # entries, the latter of a list that is padding
    bad = [("species", 0, value, species) for value in (-11, 96)] + [("elements", first, value, elements) for value in (-1, 96)]
    bad += [("distances", first, value, distances) for value in (0, -2.8, 0.05, np.nan, np.inf, -np.inf)]
    bad += [("lists", 0, value, lists) for value in (-1, 3, SITES + 1, 2**31 - 1, -(2**31))]
    if featurizer.cutoff is None:
        bad.append(("species", 2, 8, "every list must have 7 neighbours"))
        bad.append(("distances", (0, 6), 2.5, "`distances` must be sorted, the nearest first"))
    return [
        *bad,
        ("elements", first, 0, distances),
        ("distances", nobody, np.nan, distances),
        ("elements", nobody, 8, distances),
        ("species", 0, 0, "`elements` must be 0 where `species` is 0"),
        ("all", 0, 0, "a crystal needs at least one site"),
    ]
