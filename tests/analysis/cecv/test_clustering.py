"""Clusters of correlation matrices against the same rules written as plain loops."""

import numpy as np
import pytest

from tfmat.analysis.cecv import count_clusters


def symmetric(entries):
    """K x K matrices from their entries above the diagonal (N, P)."""
    entries = np.atleast_2d(np.asarray(entries, float))
    size = {1: 2, 3: 3, 6: 4, 10: 5, 21: 7}[entries.shape[1]]
    matrices = np.broadcast_to(np.eye(size), (len(entries), size, size)).copy()
    rows, columns = np.triu_indices(size, 1)
    matrices[:, rows, columns] = matrices[:, columns, rows] = entries
    return matrices


def within(a, b, tolerance):
    """The published comparison."""
    if len(a) == 3:
        return np.abs(np.abs(a) - np.abs(b)).max() < tolerance
    return np.abs(a - b).max() <= tolerance


def by_loops(matrices, tolerance, clustering):
    """Section 3 of the description, step by step."""
    free, clusters = list(range(len(matrices))), 0
    for leader in range(len(matrices)):
        if clustering == "legacy" and len(free) <= 1:
            break
        if clustering == "leader" and leader not in free:
            continue
        members = [other for other in free if within(matrices[leader], matrices[other], tolerance)]
        free = [other for other in free if other not in members]
        clusters += bool(members)
    return clusters + (len(free) if clustering == "legacy" else 0)


@pytest.mark.parametrize("clustering", ["leader", "legacy"])
@pytest.mark.parametrize("pairs", [3, 6, 21])
@pytest.mark.parametrize("tolerance", [0.05, 0.2, 0.4])
def test_the_same_as_by_loops(clustering, pairs, tolerance):
    rng = np.random.default_rng(pairs)
    centres = rng.uniform(-1, 1, (12, pairs))
    matrices = symmetric(centres[rng.integers(0, 12, 90)] + rng.normal(0, 0.012, (90, pairs)))
    found = count_clusters(matrices, tolerance, clustering)
    assert found == by_loops(matrices, tolerance, clustering)
    assert 1 < found < 90


def test_signs_count_from_four_elements_on():
    assert count_clusters(symmetric([[0.5, 0.2, 0.1], [-0.5, 0.2, -0.1]]), 0.05) == 1
    assert count_clusters(symmetric([[0.5, 0.2, 0.1, 0, 0, 0], [-0.5, 0.2, -0.1, 0, 0, 0]]), 0.05) == 2


def test_a_difference_of_the_tolerance_itself():
    three, four = [[0.25, 0, 0], [0.5, 0, 0]], [[0.25, 0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0, 0]]
    assert count_clusters(symmetric(three), 0.25) == 2
    assert count_clusters(symmetric(four), 0.25) == 1


def test_members_lead_in_the_published_scripts():
    """The second is in the first's cluster, yet takes the third; the fourth is left over, and counts."""
    matrices = symmetric([[x, 0, 0, 0, 0, 0] for x in (0.5, 0.6, 0.7, 0.8)])
    assert count_clusters(matrices, 0.15, "leader") == 2
    assert count_clusters(matrices, 0.15, "legacy") == 3


def test_few():
    assert count_clusters(np.empty((0, 4, 4)), 0.1) == 0
    assert count_clusters(np.empty((0, 4, 4)), 0.1, "legacy") == 0
    assert count_clusters(symmetric([[0.1, 0.2, 0.3]]), 0.1) == 1
    assert count_clusters(symmetric([[0.1, 0.2, 0.3]]), 0.1, "legacy") == 1
