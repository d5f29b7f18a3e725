"""Crystals of all kinds, and other descriptions of the same crystal."""

import numpy as np

from tfmat.crystal import Crystal

FCC, BCC = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], [[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]
HEXAGONAL = [[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [0, 0, np.sqrt(8 / 3)]]
PROTOTYPES = {  # lattice in units of a, a [Å], species, fractional coordinates
    "sc": (np.eye(3), 3.35, [84], [[0, 0, 0]]),
    "fcc": (FCC, 3.615, [29], [[0, 0, 0]]),
    "bcc": (BCC, 2.866, [26], [[0, 0, 0]]),
    "hcp": (HEXAGONAL, 3.209, [12, 12], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]),
    "diamond": (FCC, 5.431, [14, 14], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "zinc blende": (FCC, 5.653, [31, 33], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "rock salt": (FCC, 5.640, [11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "fluorite": (FCC, 5.463, [20, 9, 9], [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]),
    "perovskite": (np.eye(3), 3.905, [38, 22, 8, 8, 8], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]),
}
CONVENTIONAL = {
    "fcc": [[-1, 1, 1], [1, -1, 1], [1, 1, -1]],
    "bcc": [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
}
CELLS = {"2x1x1": np.diag([2, 1, 1]), "sheared": [[1, 0, 0], [1, 1, 0], [-1, 2, 1]], "left-handed": [[0, 1, 0], [1, 0, 0], [0, 0, 1]]}


def prototype(name, scale=1.0):
    lattice, a, species, coords = PROTOTYPES[name]
    return Crystal(np.array(species, np.int32), np.array(lattice, float) * a * scale, np.array(coords, float))


def cells_of(name):
    """Integer matrices whose rows are the vectors of other cells of the prototype."""
    lattice = PROTOTYPES[name][0]
    conventional = "fcc" if lattice is FCC else "bcc" if lattice is BCC else None
    return list(CELLS.values()) + ([CONVENTIONAL[conventional]] if conventional else [])


def random_crystal(rng, sites=3):
    while True:
        lattice = np.diag(rng.uniform(2.2, 6, 3)) + rng.uniform(-1.5, 1.5, (3, 3))
        coords = rng.uniform(0, 1, (sites, 3))
        images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3)
        between = (coords[:, None, None] - coords[None, :, None] + images) @ lattice
        distances = np.linalg.norm(between, axis=-1)
        planes = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
        volume = abs(np.linalg.det(lattice))
        if planes.min() > 1.2 and volume > 2 * sites and distances[distances > 0].min() > 0.5:
            return Crystal(rng.integers(1, 95, sites).astype(np.int32), lattice, coords)


def other_cell(crystal, matrix):
    """The crystal in the cell with vectors `matrix` @ lattice; and which site of `crystal` each site of the new cell is."""
    matrix = np.array(matrix)
    reach = int(np.abs(matrix).sum())
    images = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    inside = images @ np.linalg.inv(matrix)  # an image is a new site if its corner is in the new cell
    images = images[((inside > -1e-9) & (inside < 1 - 1e-9)).all(1)]
    assert len(images) == round(abs(np.linalg.det(matrix)))
    parents = np.repeat(np.arange(len(crystal)), len(images))
    coords = (crystal.frac_coords[:, None] + images).reshape(-1, 3) @ np.linalg.inv(matrix)
    return Crystal(crystal.species[parents], matrix @ crystal.lattice, coords), parents


def reordered(crystal, rng):
    """The sites in another order, from another origin, in other cells; and which site of `crystal` each one is."""
    order = rng.permutation(len(crystal))
    coords = crystal.frac_coords[order] + rng.uniform(-2, 2, 3) + rng.integers(-3, 4, (len(crystal), 3))
    return Crystal(crystal.species[order], crystal.lattice, coords), order


def rotated(crystal, rng):
    """Turned, and reflected as often as not."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Crystal(crystal.species, crystal.lattice @ rotation, crystal.frac_coords)


def all_pairs(crystal, radius):
    """By trying every image in reach: center, neighbour, vectors and distances of all pairs within `radius`."""
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)
    coords = crystal.frac_coords - np.floor(crystal.frac_coords)
    reach = np.ceil(radius / heights).astype(int) + 1
    images = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3)
    vectors = (coords[None, :, None] - coords[:, None, None] + images) @ crystal.lattice
    distances = np.linalg.norm(vectors, axis=-1)
    kept = (distances > 1e-8) & (distances < radius)
    centers, neighbors, _ = np.nonzero(kept)
    return centers, neighbors, vectors[kept], distances[kept]
