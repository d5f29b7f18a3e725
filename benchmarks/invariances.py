"""How much a prediction changes where the same crystal is described otherwise: order of the sites, orientation, origin, cell.

For each model of crystals, with random weights from a seed, and each description the largest difference over 30 crystals of
matbench_phonons (data mirror, `TFMAT_DATA_DIR`; skipped without it), in standard deviations of the predictions of these crystals.

Examples:
    python -m benchmarks.invariances
    python -m benchmarks.invariances --models megnet "atom_list_lstm pooling=lstm" --save
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.competitors import ROOT, print_table
from benchmarks.rows import append_today

RESULTS = ROOT / "benchmarks/results/invariances.csv"
CRYSTALS = 30
MOST_SITES = 24
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "megnet": ("megnet", {}),
    "paraisite": ("paraisite", {}),
    "crysformer": ("crysformer", {}),
    "crysformer strict=True": ("crysformer", {"strict": True}),
    "atom_list_lstm": ("atom_list_lstm", {}),
    "atom_list_lstm pooling=lstm": ("atom_list_lstm", {"pooling": "lstm"}),
}
"""Name in the table -> architecture and keywords beside those of its default variant."""
Structure = Any


def permuted(structure: Structure, rng: np.random.Generator) -> Structure:
    return type(structure).from_sites([structure[i] for i in rng.permutation(len(structure)).tolist()])


def rotated(structure: Structure, rng: np.random.Generator) -> Structure:
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return _turned(structure, turned * np.linalg.det(turned))


def mirrored(structure: Structure, rng: np.random.Generator) -> Structure:
    return _turned(structure, np.diag([1.0, 1.0, -1.0]))


def _turned(structure: Structure, matrix: np.ndarray) -> Structure:
    return type(structure)(structure.lattice.matrix @ matrix, structure.species, structure.frac_coords)


def shifted(structure: Structure, rng: np.random.Generator) -> Structure:
    return type(structure)(structure.lattice, structure.species, structure.frac_coords + rng.uniform(0, 1, 3))


def niggli(structure: Structure, rng: np.random.Generator) -> Structure:
    return structure.get_reduced_structure("niggli")


def doubled(structure: Structure, rng: np.random.Generator) -> Structure:
    return structure.make_supercell([2, 1, 1], in_place=False)


def conventional(structure: Structure, rng: np.random.Generator) -> Structure:
    """The same sites in the conventional cell; the structure itself where that is no multiple of its own cell."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    matrix = np.linalg.inv(SpacegroupAnalyzer(structure).get_symmetry_dataset().transformation_matrix).T
    whole = matrix.round().astype(int)
    return structure.make_supercell(whole, in_place=False) if np.abs(matrix - whole).max() < 1e-6 else structure


DESCRIPTIONS: dict[str, Callable[[Structure, np.random.Generator], Structure]] = {
    "permutation": permuted,
    "rotation": rotated,
    "origin": shifted,
    "Niggli": niggli,
    "2x1x1": doubled,
    "conventional": conventional,
    "mirror": mirrored,
}


def chosen() -> list[Structure]:
    """Crystals of at most `MOST_SITES` sites, drawn from a seed."""
    from pymatgen.core import Structure

    from tfmat import datasets

    materials = datasets.load("matbench_phonons").splits["train"].materials
    small = [i for i in np.random.default_rng(0).permutation(len(materials)).tolist() if 2 <= len(materials[i]) <= MOST_SITES]
    found = [materials[i] for i in small[:CRYSTALS]]
    return [Structure(crystal.lattice, crystal.species.tolist(), crystal.frac_coords) for crystal in found]


def differences(name: str, structures: list[Structure]) -> dict[str, str]:
    """A row of the table."""
    from tfmat.architecture import get
    from tfmat.predictor import Predictor
    from tfmat.target import Target

    architecture, keywords = MODELS[name]
    predictor = Predictor.create(architecture, [Target("y")], keywords=get(architecture).variant() | keywords, seed=0)
    others = [make(structure, np.random.default_rng(i)) for make in DESCRIPTIONS.values() for i, structure in enumerate(structures)]
    frame = predictor.predict([*structures, *others])
    values = frame["y"].to_numpy().reshape(-1, len(structures))
    if not np.isfinite(values).all():
        raise SystemExit(f"{name}: {frame['error'].dropna().iloc[0]}")
    spread = values[0].std()
    largest = np.abs(values[1:] - values[0]).max(axis=1) / spread
    row = {"model": name} | {of: f"{value:.1e}" for of, value in zip(DESCRIPTIONS, largest, strict=True)}
    return row | {"spread": f"{spread:.3g}", "crystals": str(len(structures))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="NAME")
    parser.add_argument("--save", action="store_true", help=f"also append to {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    if not os.environ.get("TFMAT_DATA_DIR"):
        print("invariances: skipped, it needs the data mirror (TFMAT_DATA_DIR)")
        return
    structures = chosen()
    rows = [differences(name, structures) for name in arguments.models]
    print_table(rows)
    if arguments.save:
        append_today(RESULTS, rows, {})


if __name__ == "__main__":
    main()
