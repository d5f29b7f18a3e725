"""What formats and precisions cost: the size of the file, and how far its predictions lie from those of Keras.

Every architecture with its default variant and random weights (MEGNet also with published ones, `TFMAT_DATA_DIR`), exported in each format
with weights of each precision. The largest difference over materials that fit, in standard deviations of the predictions for them: formulas
of the embedded data, or crystals of matbench_phonons (data mirror; without it those built in).

Examples:
    python -m benchmarks.precisions
    python -m benchmarks.precisions --models megnet --save
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import invariances
from benchmarks.competitors import ROOT, print_table
from benchmarks.rows import append_today
from tfmat.architecture import get
from tfmat.errors import InputError
from tfmat.export import ExportError, export_model
from tfmat.export.interfaces import interface_of
from tfmat.predictor import Predictor
from tfmat.target import Target

RESULTS = ROOT / "benchmarks/results/precisions.csv"
PRESET = "mp-2018.6.1/formation_energy"
MODELS = ["lgdcnn", "megnet", PRESET, "paraisite", "crysformer", "atom_list_lstm"]
WAYS = {
    "savedmodel": ("float32",),
    "litert": ("float32", "float16", "int8"),
    "onnx": ("float32", "float16"),
}
MATERIALS = 30


def materials_for(predictor: Predictor) -> list[Any]:
    """What is compared: small enough for a file of the default sizes."""
    from tfmat import datasets

    interface = interface_of(predictor)
    if predictor.architecture.material == "composition":
        offered: Any = datasets.load("exp_formation_enthalpy").splits["train"].materials[: 10 * MATERIALS]
    else:
        offered = invariances.chosen() if os.environ.get("TFMAT_DATA_DIR") else interface.examples()
    return list(interface.fitting(offered, interface.lengths({}, "the model"))[0][:MATERIALS])


def measured(name: str) -> list[dict[str, str]]:
    """The rows of one model."""
    if name == PRESET:
        predictor = Predictor.load(name)
    else:
        predictor = Predictor.create(name, [Target("y")], keywords=get(name).variant(), seed=0)
    target, chosen = predictor.targets[0], materials_for(predictor)
    predicted = predictor.predict(chosen)[target.name].to_numpy()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for way, precisions in WAYS.items():
            for precision in precisions:
                row = {"model": name, "format": way, "weights": precision, "size [MB]": "", "largest difference": "", "materials": ""}
                options = {} if way == "savedmodel" else {"precision": precision}
                try:
                    report = export_model(predictor, Path(folder) / f"{way}-{precision}", way, examples=chosen, **options)
                except (ExportError, InputError) as error:
                    rows.append(row | {"largest difference": str(error).split(";")[0][:120]})
                    continue
                if report.losses:
                    difference = report.losses[0].largest / predicted.std()
                else:  # relative to the largest prediction
                    difference = report.max_difference * np.abs(predicted).max() / predicted.std()
                of = {"size [MB]": f"{report.size_bytes / 1e6:.2f}", "largest difference": f"{difference:.1e}"}
                rows.append(row | of | {"materials": str(len(chosen))})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="NAME")
    parser.add_argument("--save", action="store_true", help=f"also append to {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    for name in arguments.models:
        if name == PRESET and not os.environ.get("TFMAT_DATA_DIR"):
            print(f"{name}: skipped, it needs the data mirror (TFMAT_DATA_DIR)")
            continue
        rows = measured(name)
        print_table(rows)
        if arguments.save:
            append_today(RESULTS, rows, {})


if __name__ == "__main__":
    main()
