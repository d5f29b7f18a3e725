"""A tiny model of crystals for the tests of the command line, and structure files."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from cli_cases import ANIONS, METALS

from tfmat.architecture import Architecture
from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.records import Records
from tfmat.training.recipe import Recipe

CUBE = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@dataclasses.dataclass(frozen=True)
class NearestFeaturizer:
    """Species, and for each site the distance to its nearest neighbour [Å], which must be within the cut-off."""

    cutoff: float = 4.0
    version: ClassVar[int] = 1
    spec: ClassVar[Mapping[str, Any]] = {"species": ("int32", (None,)), "distances": ("float32", (None,))}
    calls: ClassVar[list[int]] = []

    def __call__(self, material: Any) -> dict[str, np.ndarray]:
        try:
            return self.featurize([material])[0]
        except InputError as error:
            raise InputError(error.problem, expected=error.expected) from None

    def featurize(self, materials: Sequence[Any]) -> Records:
        return Records.stack([self._one(material, index) for index, material in enumerate(materials)])

    def _one(self, crystal: Crystal, index: int) -> dict[str, np.ndarray]:
        self.calls.append(1)
        if crystal.species.max() > 94:
            raise InputError(f"{crystal} holds an element beyond Pu", expected="elements H to Pu", index=index)
        images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        differences = crystal.frac_coords[:, None, None] - crystal.frac_coords[None, :, None] + images
        distances = np.linalg.norm(differences @ crystal.lattice, axis=-1)
        nearest = np.where(distances < 1e-8, np.inf, distances).min(axis=(1, 2))
        if nearest.min() > self.cutoff:
            raise InputError(f"{crystal} has no bonds", expected="a denser crystal", index=index)
        return {"species": crystal.species, "distances": nearest.astype(np.float32)}


def nearest_model(targets: Sequence[str] = ("target",), *, dim: int = 4, name: str = "nearest") -> keras.Model:
    species, distances = keras.Input((None,), dtype="int32", name="species"), keras.Input((None,), name="distances")
    features = keras.layers.Embedding(95, dim)(species) * keras.ops.expand_dims(distances, -1)
    mean = keras.layers.GlobalAveragePooling1D()(features)
    outputs = {target: keras.layers.Dense(2, name=target)(mean) for target in targets}
    return keras.Model({"species": species, "distances": distances}, outputs, name=name)


ARCHITECTURE = Architecture(
    name="nearest",
    title="a test",
    material="crystal",
    builder=nearest_model,
    featurizer=NearestFeaturizer,
    recipes={"default": Recipe(epochs=1, batch_size=8)},
)


def poscar(sites: Sequence[tuple[str, float, float, float]], length: float = 5.6, lattice: Sequence[Sequence[float]] = CUBE) -> str:
    """POSCAR text; sites of one element must follow each other."""
    groups = [(symbol, len(list(members))) for symbol, members in itertools.groupby(sites, key=lambda site: site[0])]
    lines = ["made by a test", str(length), *(" ".join(map(str, row)) for row in lattice)]
    lines += [" ".join(symbol for symbol, _ in groups), " ".join(str(number) for _, number in groups), "direct"]
    return "\n".join([*lines, *(f"{x} {y} {z}" for _, x, y, z in sites)]) + "\n"


def caesium_chloride(first: str, second: str) -> list[tuple[str, float, float, float]]:
    return [(first, 0, 0, 0), (second, 0.5, 0.5, 0.5)]


def crystals(folder: pathlib.Path, sparse: Sequence[int] = ()) -> pathlib.Path:
    """32 crystals with a gap; those in `sparse` have no two atoms within 4 Å."""
    folder.mkdir()
    rows = ["id,gap"]
    for i, (metal, anion) in enumerate(itertools.product(METALS, ANIONS)):
        length = 9.0 if i in sparse else 3.6 + 0.01 * i
        (folder / f"c{i}.vasp").write_text(poscar(caesium_chloride(metal, anion), length))
        rows.append(f"c{i},{0.3 * METALS.index(metal) + 0.2 * ANIONS.index(anion)}")
    (folder / "id_prop.csv").write_text("\n".join(rows) + "\n")
    return folder
