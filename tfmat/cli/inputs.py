"""The model and the materials that ``tfmat predict`` and ``tfmat explain`` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfmat.cli.progress import rows_done
from tfmat.cli.quiet import load_tensorflow
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.data.materials import GivenMaterial
    from tfmat.predictor import Predictor


def load_and_collect(
    model: Path, arguments: Sequence[str], files: Sequence[Path], formula_column: str | None
) -> tuple[Predictor, list[GivenMaterial]]:
    """The model and the materials for it, in the order of the command line.

    The process that parses structure files starts while this one loads TensorFlow.

    Args:
        model: folder or preset.
        arguments: formulas, files and folders.
        files: these are no formulas.
        formula_column: of tables.
    """
    from tfmat.data.materials import may_parse, read_materials
    from tfmat.data.structures import parsers

    with parsers() as workers:
        if may_parse([*arguments, *files]):
            workers.warm()
        load_tensorflow()
        from tfmat.predictor import Predictor

        predictor = Predictor.load(model)
        kind = predictor.architecture.material
        found = read_materials([*arguments, *files], kind, formula_column=formula_column, workers=workers, progress=rows_done)
        if not found:
            raise InputError("no material to predict", expected="formulas or files, as in: tfmat predict MODEL Fe2O3 NaCl.cif more.csv")
        return predictor, found
