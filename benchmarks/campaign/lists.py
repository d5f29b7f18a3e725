"""Lists of jobs by name, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.campaign.estimates import training_rows
from benchmarks.campaign.jobs import Job, make
from tfmat.datasets import composition_benchmark
from tfmat.datasets.source import Source

SEEDS = (0, 1, 2)
EPOCHS = ((5_000, 100), (20_000, 60), (40_000, 40), (75_000, 20), (1_000_000, 12))
"""Training rows up to which so many epochs are run."""
MANY_ROWS = 60_000
"""Sets with more training rows are trained with one seed."""
WIDTHS = (128, 192, 256, 512)
STUDIED = (
    ("jdft2d/fold0", 100),
    ("phonons/fold0", 80),
    ("expt_gap/fold0", 30),
    ("aflow__ael_debye_temperature", 30),
    ("elasticity_log10(K_VRH)/fold0", 14),
    ("aflow__Egap", 6),
)
"""Sets of 419 to 19,330 training rows and epochs: as many row-epochs as the smaller ones need, and as the larger ones can be given."""


def widths() -> list[Job]:
    """L-G-DCNN's width on six sets, on validation rows alone; 512, which takes as long as the others together, with one seed."""
    return [
        make(name, epochs=epochs, seed=seed, keywords={"dim": width, "conv_dim": width}, test=False)
        for seed in SEEDS
        for name, epochs in STUDIED
        for width in WIDTHS
        if width < 512 or seed == 0
    ]


def compositions() -> list[Job]:
    """L-G-DCNN of width 256 on all 31 composition sets: official splits, and CrabNet's five folds of Matbench; the set that is done
    first comes first.
    """
    sets = [list(_composition(source)) for source in composition_benchmark.SOURCES]
    return [job for jobs in sorted(sets, key=_row_epochs) for job in jobs]


def _composition(source: Source) -> Iterator[Job]:
    for seed in SEEDS:
        for fold in range(source.folds) or [None]:
            job = make(source.name, fold=fold, seed=seed, epochs=1)
            rows = training_rows(job)
            if seed == 0 or rows <= MANY_ROWS:
                epochs = next(epochs for most, epochs in EPOCHS if rows <= most)
                yield make(job.data, seed=seed, epochs=epochs, keywords={"dim": 256, "conv_dim": 256})


def _row_epochs(jobs: list[Job]) -> int:
    return sum(training_rows(job) * int(job.epochs) for job in jobs)


def phonons() -> list[Job]:
    """Crysformer on matbench_phonons: five official folds, five seeds."""
    keywords = {"dim": 64, "blocks": 2, "elements": "mat2vec"}
    return [
        make("matbench_phonons", fold=fold, seed=seed, architecture="crysformer", keywords=keywords, epochs=60)
        for seed in range(5)
        for fold in range(5)
    ]


def crysformer_sizes() -> list[Job]:
    """Width, blocks, neighbours and angles of Crysformer around the variant ``small``, on validation rows alone. The published size, which
    takes as long as most others together, and mp2018_subset with one seed.
    """
    published = {"dim": 128, "blocks": 4}
    sizes: tuple[dict[str, int], ...] = (
        {"dim": 64, "blocks": 2},
        {"dim": 64, "blocks": 2, "k": 8},
        {"dim": 64, "blocks": 2, "angle_neighbors": 8},
        {"dim": 64, "blocks": 2, "angle_neighbors": 6},
        {"dim": 96, "blocks": 2},
        {"dim": 64, "blocks": 3},
        {"dim": 128, "blocks": 2},
        {"dim": 64, "blocks": 4},
        published,
    )
    phonons: dict[str, Any] = {"dataset": "matbench_phonons", "fold": 0, "epochs": 60}
    energies: dict[str, Any] = {"dataset": "mp2018_subset", "targets": ["formation_energy_per_atom"], "rows": 5_000, "epochs": 6}
    return [
        make(**data, architecture="crysformer", keywords={"elements": "mat2vec"} | size, seed=seed, test=False)
        for data, seed in ((phonons, 0), (energies, 0), (phonons, 1))
        for size in sizes
        if seed == 0 or size is not published
    ]


def mp2018() -> list[Job]:
    """Formation energy and band gap of the 56 % subset of MP-2018.6.1 in one model."""
    keywords = {"dim": 64, "blocks": 2, "elements": "mat2vec"}
    return [
        make("mp2018_subset", architecture="atom_list_lstm", keywords={"pooling": "mean"}, epochs=30),
        make("mp2018_subset", architecture="megnet", epochs=30),
        make("mp2018_subset", architecture="crysformer", keywords=keywords, epochs=30),
    ]


LISTS: dict[str, Callable[[], list[Job]]] = {
    "widths": widths,
    "compositions": compositions,
    "crysformer_sizes": crysformer_sizes,
    "phonons": phonons,
    "mp2018": mp2018,
}
