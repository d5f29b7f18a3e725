"""How many clusters a set of correlation matrices forms at a tolerance."""

from __future__ import annotations

from typing import Literal

import numpy as np

Clustering = Literal["leader", "legacy"]


def count_clusters(matrices: np.ndarray, tolerance: float, clustering: Clustering = "leader") -> int:
    """Number of clusters, one matrix after the other.

    A leader's cluster is itself and every matrix that is in none yet and differs from it by at most the tolerance in every entry. For
    K = 3 it is less than the tolerance, and the entries are compared without their signs, as in the published scripts.

    - ``"leader"``: the next matrix that is in no cluster yet is the next leader.
    - ``"legacy"``: as the published scripts count. Matrices in a cluster lead, too, and form another one of what they find free; it ends
      when at most one matrix is left, and that one counts as a cluster.

    Args:
        matrices: (N, K, K) symmetric, in the order in which they are looked at, which matters.
        tolerance: positive.
        clustering: see above.
    """
    count, size = len(matrices), matrices.shape[-1]
    entries = matrices[:, *np.triu_indices(size, 1)]
    if size == 3:
        entries = np.abs(entries)
    if not count:
        return 0
    # The candidates for a cluster lie in a window of the entry that varies most, so the matrices are sorted by it.
    widest = int(np.argmax(np.ptp(entries, axis=0)))
    order = np.argsort(entries[:, widest], kind="stable")
    entries, places = entries[order], np.argsort(order)
    column = entries[:, widest]
    first, last = np.searchsorted(column, column - 2 * tolerance), np.searchsorted(column, column + 2 * tolerance)
    free = np.ones(count, bool)
    left, clusters = count, 0
    for place in places.tolist():
        if clustering == "legacy" and left <= 1:
            return clusters + left
        if clustering == "leader" and not free[place]:
            continue
        candidates = np.flatnonzero(free[first[place] : last[place]]) + first[place]
        apart = np.abs(entries[candidates] - entries[place]).max(axis=1, initial=0.0)
        candidates = candidates[apart < tolerance if size == 3 else apart <= tolerance]
        free[candidates] = False
        left -= len(candidates)
        clusters += bool(len(candidates))
    return clusters
