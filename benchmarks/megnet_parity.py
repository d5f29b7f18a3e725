"""MEGNet's published weights in tfmat beside the real packages: the largest difference of each model over the oracle's crystals.

Needs ``oracles/megnet.json`` (predictions of the packages megnet 1.3.2 and matgl) beside TFMAT_DATA_DIR; the weights come from there or
through pip, matgl's need PyTorch once.

Example:
    python benchmarks/megnet_parity.py
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    path = Path(os.environ.get("TFMAT_DATA_DIR", "missing")).parent / "oracles" / "megnet.json"
    if not path.is_file():
        raise SystemExit(f"skipped: no {path}")
    oracle = json.loads(path.read_text(encoding="utf-8"))
    print("| model | crystals | largest difference | edge cases | largest difference | unit |\n|---|---|---|---|---|---|")
    for name, expected in oracle["keras_megnet"]["predictions"].items():
        print(row(name, oracle, expected, oracle["keras_megnet"]["edge_predictions"][name]))
    matgl = oracle["matgl"]["MEGNet-MP-2018.6.1-Eform"]
    values = {crystal: value["eV_per_atom"] for crystal, value in matgl.items() if np.isfinite(value.get("eV_per_atom", np.nan))}
    crystals, edges = ({k: v for k, v in values.items() if k in oracle[part]} for part in ("crystals", "edge_cases"))
    print(row("matgl/MEGNet-MP-2018.6.1-Eform", oracle, crystals, edges))


def row(name: str, oracle: dict[str, Any], *expected: dict[str, Any]) -> str:
    from pymatgen.core import Structure

    from tfmat import Predictor
    from tfmat.errors import InputError

    try:
        predictor = Predictor.load(name)
    except InputError as error:
        return f"| `{name}` | not to be had here: {error.problem} |"
    target, cells = predictor.targets[0], []
    for part, values in zip(("crystals", "edge_cases"), expected, strict=True):
        known = {key: value for key, value in values.items() if isinstance(value, float)}
        frame = predictor.predict([Structure.from_dict(oracle[part][key]) for key in known])
        predicted = frame[target.name].to_numpy()
        if target.transform == "log10":
            predicted = np.log10(predicted)
        cells += [str(len(known)), f"{np.abs(predicted - np.array(list(known.values()))).max():.1e}"]
    unit = "probability" if target.task == "binary" else f"log10 {target.unit}" if target.transform == "log10" else target.unit
    return f"| `{name}` | " + " | ".join(cells) + f" | {unit} |"


if __name__ == "__main__":
    main()
