"""Made-up runs for the tests of reports."""

import numpy as np
import pandas as pd

from tfmat.analysis.report import Result, Run
from tfmat.target import Target

FORMULAS = ("NaCl", "KCl", "Fe2O3", "MgO", "CaTiO3", "LiFePO4", "UO2", "La2CuO4", "Al", "GaAs", "ZnS", "SrTiO3")
GAP, MODULUS, METAL = Target("gap", "eV"), Target("modulus", "GPa", transform="log10"), Target("metal", task="binary")
CRYSTAL = {"cell": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 5.0]], "species": ["Na", "Cl"], "frac": [[0, 0, 0], [0.5, 0.5, 0.5]]}


def frame(targets=(GAP,), rows=60, *, seed=0, noise=0.3, uncertain=True, sites=False):
    """Predictions as `Predictor.evaluate` gives them; rows, materials and true values do not depend on the seed."""
    true_rng, rng = np.random.default_rng(1), np.random.default_rng(seed)
    found = pd.DataFrame({"id": [f"m{i}" for i in range(rows)], "material": [FORMULAS[i % len(FORMULAS)] for i in range(rows)]})
    if sites:
        found["sites"] = pd.array([2 + i % 30 for i in range(rows)], dtype="Int64")
    for target in targets:
        true = true_rng.uniform(1, 5, rows)
        if target.task == "binary":
            found[f"{target.name}_true"] = (true > 3).astype(float)
            found[target.name] = np.clip((true - 1) / 4 + rng.normal(0, noise / 4, rows), 0.01, 0.99)
            continue
        spread = rng.uniform(0.5, 1.5, rows) * noise
        found[f"{target.name}_true"], found[target.name] = true, np.abs(true + rng.laplace(0, spread / np.sqrt(2)))
        if uncertain:
            found[f"{target.name}_uncertainty"] = spread
    return found


def history(targets=(GAP,), epochs=5):
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": float(epoch), "loss": 1 / epoch, "val_loss": 1.2 / epoch}
        for target in targets:
            row |= {f"{target.name}_mae": 0.5 / epoch, f"val_{target.name}_mae": 0.6 / epoch}
        rows.append(row)
    return rows


def made_run(name="gap", targets=(GAP,), predictions=None, *, epochs=5, card="# A card\n\nText.\n", inputs=None, **options):
    """A run of `frame(targets, **options)`, or of the given predictions."""
    predictions = frame(targets, **options) if predictions is None else predictions
    scores = {target.name: {"n": float(len(predictions)), "MAE": 0.25} for target in targets}
    evaluation = {"data": "made", "split": "test", "rows": len(predictions), "rejected": 0, "scores": scores, "date": "2026-01-01"}
    config = {"architecture": "lgdcnn", "keywords": {"dim": 16}, "info": {}}
    results = [Result.of(target, predictions) for target in targets]
    return Run(name, config, history(targets, epochs) if epochs else [], card, evaluation, results, inputs or {})
