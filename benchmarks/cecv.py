"""How long CECV takes: features of the elements of many compounds, their correlation matrices, and the clusters at eight tolerances.

The compounds are made up: Si and 2 to 6 other elements in random amounts, all different, on an untrained network. That makes many more
clusters than a trained one finds among real compounds, which is the slow case. The aim is 50,000 compounds in 2 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import os
import time

SHARES = {3: 0.5, 4: 0.3, 5: 0.12, 6: 0.06, 7: 0.02}
"""Number of elements -> part of the compounds."""


def formulas(count: int, seed: int = 0) -> list[str]:
    """`count` different compounds of 3 to 7 elements with Si."""
    import numpy as np

    from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS

    rng = np.random.default_rng(seed)
    others = [symbol for z, symbol in enumerate(SYMBOLS[:95]) if z and z != ATOMIC_NUMBERS["Si"]]
    found: dict[str, None] = {}
    while len(found) < count:
        size = int(rng.choice(list(SHARES), p=list(SHARES.values())))
        chosen = ["Si", *rng.choice(others, size - 1, replace=False)]
        found["".join(f"{symbol}{rng.integers(1, 13)}" for symbol in chosen)] = None
    return list(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compounds", type=int, default=50_000, help="how many (default: 50,000)")
    parser.add_argument("--threads", type=int, default=2, help="of TensorFlow and NumPy (default: 2)")
    parser.add_argument("--variant", default="lgdcnn", help="of lgdcnn (default: lgdcnn, 8.6 million parameters)")
    arguments = parser.parse_args()
    if arguments.compounds < 1 or arguments.threads < 1:
        parser.error("--compounds and --threads must be at least 1")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(arguments.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    from tfmat import Predictor, Target
    from tfmat.analysis.cecv.clustering import count_clusters
    from tfmat.analysis.cecv.environments import environments
    from tfmat.analysis.cecv.vector import TOLERANCES, canonical_order, probe_compounds
    from tfmat.architecture import get

    keywords = get("lgdcnn").variants[arguments.variant]
    predictor = Predictor.create("lgdcnn", [Target("band_gap", "eV")], keywords=keywords)
    materials = formulas(arguments.compounds)
    start = time.perf_counter()
    records, _ = probe_compounds(predictor, materials, "Si")
    records = records.take(canonical_order(records))
    featurized = time.perf_counter()
    matrices = environments(predictor, records)
    correlated = time.perf_counter()
    print(f"{len(records):,} compounds, {arguments.variant}, {arguments.threads} threads")
    print(f"featurizing and sorting          {featurized - start:7.1f} s")
    print(
        f"features and correlations        {correlated - featurized:7.1f} s   {len(records) / (correlated - featurized):,.0f} compounds/s"
    )
    for clustering in ("leader", "legacy"):
        begin = time.perf_counter()
        vector = [sum(count_clusters(found, tolerance, clustering) for found in matrices.values()) for tolerance in TOLERANCES]
        seconds = time.perf_counter() - begin
        print(f"clusters, {clustering:<8}               {seconds:7.1f} s   {' '.join(map(str, vector))}")
        print(f"in all, {clustering:<8}                 {correlated - start + seconds:7.1f} s")


if __name__ == "__main__":
    main()
