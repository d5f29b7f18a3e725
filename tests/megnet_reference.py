"""MEGNet in NumPy and float64, written from the published equations and nothing of tfmat: what the layers and converters are compared with.

Weights are a dictionary with the paths of the zoo's model as keys, e.g. ``block1/phi_e_1/kernel``.
"""

import itertools

import numpy as np


def softplus2(x):
    """log((exp(x) + 1) / 2)."""
    return np.maximum(x, 0) + np.log(0.5 * np.exp(-np.abs(x)) + 0.5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x):
    """That of Keras 2."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def dense(weights, name, x):
    return x @ weights[f"{name}/kernel"].astype(np.float64) + weights[f"{name}/bias"].astype(np.float64)


def two_layers(weights, name, x):
    return softplus2(dense(weights, f"{name}_2", softplus2(dense(weights, f"{name}_1", x))))


def phi(weights, name, x, activate_last):
    x = softplus2(dense(weights, f"{name}_1", x))
    x = dense(weights, f"{name}_3", softplus2(dense(weights, f"{name}_2", x)))
    return softplus2(x) if activate_last else x


def mean_by(values, index, count):
    """Mean of the rows of each index; zero where there is none."""
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, index, values)
    return total / np.maximum(np.bincount(index, minlength=count), 1)[:, None]


def block(weights, name, v, e, u, centers, receivers, neighbors, activate_last):
    """Atoms (A, D), bonds (E, D) and state (D,) of one crystal -> the new ones. `receivers`: where messages arrive, int (E,)."""
    residual = v, e, u
    if f"{name}/atom_ff_1/kernel" in weights:
        v, e, u = (two_layers(weights, f"{name}/{kind}_ff", x) for kind, x in (("atom", v), ("bond", e), ("state", u)))
    per_bond, per_atom = np.tile(u, (len(e), 1)), np.tile(u, (len(v), 1))
    new_e = phi(weights, f"{name}/phi_e", np.hstack([v[centers], v[neighbors], e, per_bond]), activate_last)
    new_v = phi(weights, f"{name}/phi_v", np.hstack([mean_by(new_e, receivers, len(v)), v, per_atom]), activate_last)
    new_u = phi(weights, f"{name}/phi_u", np.concatenate([new_e.mean(0), new_v.mean(0), u]), activate_last)
    return residual[0] + new_v, residual[1] + new_e, residual[2] + new_u


def set2set(weights, name, items, steps, legacy):
    """Rows (N, D) of one crystal -> (2 n,)."""
    kernel, bias = (weights[f"{name}/{part}"].astype(np.float64) for part in ("kernel", "bias"))
    if f"{name}/projection_kernel" in weights:
        items = items @ weights[f"{name}/projection_kernel"].astype(np.float64) + weights[f"{name}/projection_bias"]
    size = items.shape[1]
    gate = hard_sigmoid if legacy else sigmoid
    query, cell = np.zeros(2 * size), np.zeros(size)
    for _ in range(steps):
        i, f, g, o = np.split(query @ kernel + bias, 4)
        cell = gate(i) * np.tanh(g) + (0.0 if legacy else gate(f) * cell)
        hidden = gate(o) * np.tanh(cell)
        score = items @ hidden
        attention = np.exp(score - score.max())
        query = np.concatenate([hidden, attention @ items / attention.sum()])
    return query


def bonds(lattice, frac_coords, cutoff):
    """All directed pairs within `cutoff` [Å], periodic images included: centres, neighbours, distances."""
    lattice = np.asarray(lattice, np.float64)
    coords = np.asarray(frac_coords, np.float64) @ lattice
    heights = abs(np.linalg.det(lattice)) / np.linalg.norm(np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]]), axis=1)
    spread = np.ptp(np.asarray(frac_coords, np.float64), axis=0)
    reach = [int(np.ceil(cutoff / height + extent)) for height, extent in zip(heights, spread, strict=True)]
    found = []
    for image in itertools.product(*(range(-n, n + 1) for n in reach)):
        distance = np.linalg.norm(coords[None] + np.array(image) @ lattice - coords[:, None], axis=-1)
        for i, j in np.argwhere(distance < cutoff + 1e-8):
            if i != j or distance[i, j] > 1e-8:
                found.append((i, j, distance[i, j]))
    table = np.array(sorted(found)).reshape(-1, 3)
    return table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2]


def crystal_vector(
    weights,
    species,
    centers,
    neighbors,
    distances,
    *,
    cutoff,
    flavor="megnet",
    blocks=3,
    set2set_steps=3,
    gaussian_width=None,
    legacy=None,
    state=None,
):
    """What the read-out gets of one crystal: [atoms; bonds; state].

    `state` is None for the constant [0, 0], an integer for a fidelity, else the state features. `legacy` is None for the Set2Set of the
    flavor's published weights.
    """
    matgl = flavor == "matgl"
    width = gaussian_width or (np.sqrt(2.0) if matgl else 0.5)
    centres = np.linspace(0, cutoff + 1, weights["bond_encoder_1/kernel"].shape[0])
    v = two_layers(weights, "atom_encoder", weights["atom_embedding/embeddings"].astype(np.float64)[species])
    e = two_layers(weights, "bond_encoder", np.exp(-(((distances[:, None] - centres) / width) ** 2)))
    if isinstance(state, int):
        state = weights["state_embedding/embeddings"].astype(np.float64)[state]
    u = two_layers(weights, "state_encoder", np.zeros(2) if state is None else np.asarray(state, np.float64))
    for number in range(1, blocks + 1):
        v, e, u = block(weights, f"block{number}", v, e, u, centers, neighbors if matgl else centers, neighbors, activate_last=matgl)
    legacy = not matgl if legacy is None else legacy
    summaries = [set2set(weights, f"{kind}_set2set", x, set2set_steps, legacy) for kind, x in (("atom", v), ("bond", e))]
    return np.concatenate([*summaries, u])


def megnet(weights, *graph, target="target", **options):
    """Raw output of one crystal, a number: scaled value, or logit. For `graph` and `options` see `crystal_vector`."""
    x = two_layers(weights, "readout", crystal_vector(weights, *graph, **options))
    return float(dense(weights, target, x)[0])


def head(weights, x, *, target="target"):
    """The perceptron of ParAIsite on MEGNet's last hidden layer (16,) before its activation: a number."""
    number = 1
    while f"head_{number}/kernel" in weights:
        x = np.maximum(dense(weights, f"head_{number}", x), 0)
        number += 1
    return float(dense(weights, target, x)[0])


def paraisite(weights, *graph, target="target", **options):
    """As `megnet`."""
    x = softplus2(dense(weights, "readout_1", crystal_vector(weights, *graph, **options)))
    return head(weights, dense(weights, "readout_2", x), target=target)
