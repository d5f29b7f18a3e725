"""Models that read nearest neighbours; their batches in another order, of wrong shapes and with rows that are no crystal."""

import numpy as np

SMALL = {"blocks": 2, "dim": 8, "heads": 2, "distance_gaussians": 12, "angle_gaussians": 8}
AXES = {"species": ("B", "A"), "neighbors": ("B", "A", "K"), "vectors": ("B", "A", "K", 3)}
CASES = {
    "crysformer, uncertainty": ("crysformer", SMALL | {"uncertainty": True}),
    "crysformer, strict": ("crysformer", SMALL | {"k": 6, "strict": True, "blocks": 1, "head": "linear", "gate": "relu"}),
}
SITES = 8
SIZES = {"max_sites": SITES}
NOTE = (
    "neighbors",
    {"tolerance": 0.01, "max_neighbors": 24, "featurizer_version": 1, "unit": "Å"},
    "around site i are all other sites and the periodic images",
)


def shuffled(batch):
    """Sites in another order, the slots of each site too, and padding anywhere among them."""
    random = np.random.default_rng(2)
    order = random.permutation(SITES)
    filled = batch["vectors"].any(axis=-1)
    neighbors = np.where(filled, np.argsort(order)[batch["neighbors"]], 0).astype(np.int32)[:, order]
    slots = np.argsort(random.uniform(size=neighbors.shape), axis=-1)
    vectors = np.take_along_axis(batch["vectors"][:, order], slots[..., None], axis=2)
    return {"species": batch["species"][:, order], "neighbors": np.take_along_axis(neighbors, slots, axis=2), "vectors": vectors}


def bad_shapes(batch):
    """Batches whose inputs do not fit each other, and part of the sentence."""
    yield batch | {"neighbors": batch["neighbors"][:, :, :-1]}, "one vector for every neighbour"
    yield batch | {"vectors": batch["vectors"][:, :-1]}, "one vector for every neighbour"
    yield batch | {"species": batch["species"][:1]}, "must have a row for every crystal"
    yield batch | {"species": batch["species"][:, :-1]}, "and a list for every site"


def bad_rows(featurizer):
    """What a row is turned into: a key, a place, its new values, part of the sentence."""
    species = "`species` must be atomic numbers from 1 to 95"
    positions = "`neighbors` must be positions of sites"
    vectors = "`vectors` must be finite and at least 0.5 Å long"
    number = "every site must have 6 neighbours" if featurizer.strict else "every site must have 12 to 24 neighbours"
    first, nobody = (0, 0), (2, 0)  # slots, the latter of a site that is padding
    bad = [("species", 0, value, species) for value in (-11, 96)]
    bad += [("neighbors", first, value, positions) for value in (-1, 2, SITES, 2**31 - 1, -(2**31))]
    bad += [("vectors", first, [0, value, 0], vectors) for value in (0.05, -0.05, 1e-30, np.nan, np.inf, -np.inf, 2e19)]
    return [
        *bad,
        ("species", 0, 0, positions),  # the other site's neighbours are none now
        ("vectors", first, 0, "and 0 where the vector is 0"),
        ("neighbors", nobody, 1, "and 0 where the vector is 0"),
        ("vectors", nobody, 2.5, "`vectors` must be 0 where `species` is 0"),
        ("species", 2, 3, number),  # a site without neighbours
        ("all", 0, 0, "a crystal needs at least one site"),
    ]
