"""The interface of models of compositions: formulas, or amounts of elements in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tfmat.export.interfaces.base import Fixed, Interface, Size
from tfmat.export.interfaces.composition_graph import ELEMENTS, arrange, expand_brackets, normalise, parse_formulas, symbol_table
from tfmat.export.interfaces.signatures import Entry, Input
from tfmat.featurizers import CompositionFeaturizer

EXAMPLES: tuple[str, ...] = (
    *("Fe", "Si", "O2", "NaCl", "GaAs", "Fe2O3", "TiO2", "Al0.3Ga0.7", "Bi2Te3", "SrTiO3", "LiFePO4", "Li0.5CoO2", "CaCO3", "Fe0.75Ni0.25"),
    *("CuSO9H10", "KAl3Si3O12H2", "La0.67Ca0.33MnO3", "LiNi0.8Mn0.1Co0.1O2", "CrMnFeCoNi", "YBa2Cu3O6.93", "Ba0.5Sr0.5Co0.8Fe0.2O2.5"),
    *("Zr41.2Ti13.8Cu12.5Ni10Be22.5", "Li6.4La3Zr1.4Ta0.6O12", "NaKCaMgAlSiO8"),
)
"""Compositions of 1 to 7 elements, with equal amounts and decimals."""


class CompositionInterface(Interface):
    """`tfmat.featurizers.CompositionFeaturizer` in the graph; the signature ``from_formula`` reads formulas too."""

    materials: ClassVar[str] = "formulas"
    featurizer: CompositionFeaturizer

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Elements and their amounts."""
        species = f"atomic numbers of the elements, each 1 to {ELEMENTS}, in any order; 0 = no element"
        fractions = "amounts of the elements, positive, in any scale (divided by their sum); 0 = no element"
        return {"species": Input("int32", ("B", "E"), species), "fractions": Input("float32", ("B", "E"), fractions)}

    @property
    def sizes(self) -> Mapping[str, Size]:
        """The elements: a LiteRT model is unrolled over them, so its time grows with them."""
        return {"max_elements": Size("E", 8, self.featurizer.max_elements, "elements")}

    def prepare(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """See `tfmat.export.interfaces.composition_graph.normalise`."""
        return self._network(normalise(arrays["species"], arrays["fractions"], self.featurizer.max_elements))

    def prepare_static(self, arrays: Mapping[str, Any]) -> Fixed:
        """See `tfmat.export.interfaces.composition_graph.arrange`."""
        width = int(arrays["species"].shape[1])
        # The sum of float32 fractions is rounded at every addition.
        species, fractions, sound = arrange(arrays["species"], arrays["fractions"], snap=(width + 1) * 2.0**-24)
        return Fixed(self._network((species, fractions)), sound)

    def entries(self) -> Mapping[str, Entry]:
        """``from_formula``: text."""
        symbols = symbol_table()
        meaning = "formula without brackets, e.g. Fe2O3 or Li0.5CoO2: expand Ca(OH)2 to CaO2H2 before sending"

        def prepare(arrays: Mapping[str, Any]) -> dict[str, Any]:
            return self._network(normalise(*parse_formulas(arrays["formula"], symbols), self.featurizer.max_elements))

        def encode(formulas: Sequence[str]) -> dict[str, np.ndarray]:
            return {"formula": np.array([expand_brackets(formula) for formula in formulas], object)}

        return {"from_formula": Entry({"formula": Input("string", ("B",), meaning)}, prepare, encode, resources=(symbols,))}

    def examples(self) -> Sequence[str]:
        """`EXAMPLES`."""
        return EXAMPLES

    @staticmethod
    def _network(arrays: tuple[Any, Any]) -> dict[str, Any]:
        return {"species": arrays[0], "fractions": arrays[1]}
