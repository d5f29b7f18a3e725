"""The results as Markdown: runs of the same kind in a line, beside what others reached on the same rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.campaign.jobs import Job, cost, from_row
from benchmarks.campaign.status import model

DATASETS = {
    "matbench_phonons": "1,265 crystals, official folds of Matbench v0.1",
    "mp2018_subset": "56 % subset of MP-2018.6.1, each id in its official split (33,720 / 2,795 / 2,370)",
    "aflow_band_gap": "5,512 crystals of AFLOW, gaps known per formula only (maybe another polymorph's), tfmat's own split by formula",
}

# Test MAE of others. Phonons: matbench.materialsproject.org, mean of the five folds. MP-2018.6.1: from the JARVIS-Leaderboard's predictions
# (AI-SinglePropertyPrediction, dataset megnet), recomputed on the 2,370 test ids of the subset; those models learnt from all 60,000 rows.
# AFLOW: "L-G-DCNN 40 epochs" is the published code, run once with seed 42 for 40 epochs (padding leaks and all); "published" the paper's
# table; "rerun" its authors' own 300-epoch log; CrabNet and random forest: CrabNet's repository, metrics/all_metrics.csv (test rows without
# pure elements).
PEERS: dict[tuple[str, str], dict[str, float]] = {
    ("matbench_phonons", "last_phonon_dos_peak"): {
        "kgcnn MegNet": 28.76,
        "coNGN": 28.89,
        "ALIGNN": 29.54,
        "SchNet": 38.96,
        "CrabNet": 55.1,
        "random forest": 67.6,
    },
    ("mp2018_subset", "formation_energy_per_atom"): {"ALIGNN": 0.0208, "XGBoost": 0.0495, "random forest": 0.0652},
    ("mp2018_subset", "band_gap"): {"ALIGNN": 0.191, "XGBoost": 0.248, "random forest": 0.257},
    ("aflow__ael_bulk_modulus_vrh", "bulk_modulus"): {
        "L-G-DCNN 40 epochs": 9.343,
        "L-G-DCNN rerun": 8.592,
        "L-G-DCNN published": 8.221,
        "CrabNet": 8.692,
        "random forest": 11.907,
    },
    ("aflow__agl_thermal_conductivity_300K", "thermal_conductivity"): {
        "L-G-DCNN 40 epochs": 2.515,
        "L-G-DCNN rerun": 2.267,
        "L-G-DCNN published": 2.197,
        "CrabNet": 2.318,
        "random forest": 2.658,
    },
}
HEADER = (
    "| model | parameters | training rows | epochs | folds | seeds | test {score} | validation {score} | MAD of the test rows | h a run |"
)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table for each dataset and target: a line for each kind of run, and one for each peer."""
    tables: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        tables.setdefault((row["dataset"], row["target"]), []).append(row)
    lines: list[str] = []
    for (name, target), mine in tables.items():
        note = f": {DATASETS[name]}" if name in DATASETS else ""
        unit = f" [{mine[0]['unit']}]" if mine[0]["unit"] else ""
        lines += [f"**{name}, {target}**{unit}{note}", "", HEADER.format(score=_score(mine[0])), "|---" * 10 + "|"]
        lines += [_line(job, members) for job, members in _groups(mine).items()]
        scope = "60,000 (100 %)" if name == "mp2018_subset" else ""
        lines += [f"| {peer} | | {scope} | | | | {value:g} | | | |" for peer, value in PEERS.get((name, target), {}).items()]
        lines.append("")
    return "\n".join(lines)


def _score(row: Mapping[str, str]) -> str:
    return "ROC-AUC" if row["task"] == "binary" else "MAE"


def _groups(rows: Sequence[Mapping[str, str]]) -> dict[Job, list[Mapping[str, str]]]:
    """Runs that differ in fold and seed alone; ensembles by their number of members."""
    groups: dict[Job, list[Mapping[str, str]]] = {}
    for row in rows:
        members = row["seed"].count(" ") + 1
        groups.setdefault(replace(from_row(row), fold="", seed=f"ensembles of {members}" if members > 1 else ""), []).append(row)
    return groups


def _line(job: Job, rows: Sequence[Mapping[str, str]]) -> str:
    first = rows[0]
    words = [model(replace(job, epochs=""))]
    words[0] = f"`{job.architecture}`" + words[0].removeprefix(job.architecture)
    others = [name for name in job.targets.split() if name != first["target"]]
    words += [f"together with {' '.join(others)}"] if others else []
    words += [job.seed] if job.seed else []
    folds, seeds = (" ".join(sorted({row[key] for row in rows} - {""})) for key in ("fold", "seed"))
    seconds = [cost(row) for row in rows if cost(row)]
    cells = [" ".join(words), f"{int(first['parameters']):,}" if first["parameters"] else "", _range(rows, "train_rows")]
    cells += [_range(rows, "epochs_run"), folds or "-", seeds, _mean(rows, f"test_{_score(first)}", each=True)]
    cells += [_mean(rows, f"validation_{_score(first)}"), _mean(rows, "test_MAD")]
    return "| " + " | ".join([*cells, f"{statistics.fmean(seconds) / 3600:.2f}" if seconds else ""]) + " |"


def _mean(rows: Sequence[Mapping[str, str]], key: str, *, each: bool = False) -> str:
    """Of what is there; with `each` in bold, with the values by fold and seed."""
    known = sorted((row["fold"], row["seed"], float(row[key])) for row in rows if row[key])
    if not known:
        return ""
    mean = f"{statistics.fmean(value for *_, value in known):.4g}"
    if not each:
        return mean
    return f"**{mean}**" + (f" ({', '.join(f'{value:.4g}' for *_, value in known)})" if len(known) > 1 else "")


def _range(rows: Sequence[Mapping[str, str]], key: str) -> str:
    values = sorted({int(row[key]) for row in rows if row[key]})
    return "-".join(f"{value:,}" for value in dict.fromkeys((values[0], values[-1]))) if values else ""
