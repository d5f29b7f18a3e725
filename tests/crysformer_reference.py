"""Crysformer in NumPy, float64, from the equations of the paper alone: one crystal, lists of edges, loops over nodes."""

import numpy as np

GATES = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x))}


def graphs(neighbors, vectors):
    """Edges (source j, target i, vector from i to j), and line-graph edges (source edge, target edge, cosine at the shared atom)."""
    edges = [(j, i, v) for i in range(len(neighbors)) for j, v in zip(neighbors[i], vectors[i], strict=True) if np.any(v)]
    angles = []
    for target, (j, _, v) in enumerate(edges):
        for source, (_, center, w) in enumerate(edges):
            if center == j:
                angles.append((source, target, np.clip(-v @ w / (np.linalg.norm(v) * np.linalg.norm(w)), -1, 1)))
    return edges, angles


def norm(w, x):
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6) * w["gamma"] + w["beta"]


def dense(w, x):
    return x @ w["kernel"] + w["bias"]


def softmax(scores):
    powers = np.exp(scores - scores.max(0))
    return powers / powers.sum(0)


def layer(w, h, e, pairs, *, heads, gate="tanh", cross=True, conditional=True):
    """`pairs`: source and target node of each edge. The layer updates edges if it holds the weights for it."""
    sources, targets = np.array(pairs).reshape(-1, 2).T

    def split(x):
        return x.reshape(*x.shape[:-1], heads, -1)

    def forward(name, x):
        return dense(w[f"{name}/contract"], np.maximum(dense(w[f"{name}/expand"], x), 0))

    width = h.shape[1] // heads
    mine = [np.flatnonzero(targets == i) for i in range(len(h))]
    if cross:
        q, k, v = split(dense(w["cross/query"], h)), split(dense(w["cross/key"], e)), split(dense(w["cross/value"], e))
        new = np.zeros_like(q)
        for i, ij in enumerate(mine):
            if len(ij):
                alpha = softmax((q[i] * k[ij]).sum(-1) / np.sqrt(width))
                new[i] = (alpha[..., None] * v[ij]).sum(0)
        h = norm(w["norm_1"], h + dense(w["cross/output_map"], new.reshape(h.shape)))
    if conditional:
        q, k, v = (split(x) for x in np.split(dense(w["conditional/query_key_value"], h), 3, axis=-1))
        s = q[targets] * k[sources] * split(GATES[gate](dense(w["conditional/condition"], e)))
        new = np.zeros_like(q)
        for i, ij in enumerate(mine):
            if len(ij):
                beta = softmax(s[ij].sum(-1) / np.sqrt(width))
                new[i] = (beta[..., None] * v[sources[ij]]).sum(0)
        h = norm(w["norm_2"], h + dense(w["conditional/output_map"], new.reshape(h.shape)))
        if "conditional/edge_map" in w:
            e = norm(w["norm_3"], e + dense(w["conditional/edge_map"], s.reshape(e.shape)))
    h = norm(w["norm_4"], h + forward("feed_forward", h))
    if "norm_5" in w:
        e = norm(w["norm_5"], e + forward("edge_feed_forward", e))
    return h, e


def gaussians(x, lowest, highest, number):
    centers = np.linspace(lowest, highest, number)
    return np.exp(-(number - 1) / (highest - lowest) * (np.asarray(x)[:, None] - centers) ** 2)


def embedded(w, name, values):
    x = dense(w[f"{name}_embedding/map"], values)
    return np.maximum(norm(w[f"{name}_embedding/norm"], x), 0) if f"{name}_embedding/norm" in w else x


def weights_of(model):
    """Path of a layer -> name of a weight -> float64 array."""
    found = {}
    for weight in model.weights:
        *path, name = weight.path.split("/")
        found.setdefault("/".join(path), {})[name] = np.asarray(weight, np.float64)
    return found


def inside(w, prefix):
    return {path.removeprefix(prefix + "/"): values for path, values in w.items() if path.startswith(prefix + "/")}


def crysformer(model, crystal, *, blocks, heads=4, distance_gaussians=80, angle_gaussians=40, backtracking=True, **options):
    """Target -> output of `model` for the arrays of one crystal; ``backtracking=False`` leaves angles out and must not agree."""
    w = weights_of(model)
    edges, angles = graphs(crystal["neighbors"], crystal["vectors"])
    if not backtracking:
        angles = [(source, target, cosine) for source, target, cosine in angles if cosine < 1 - 1e-6]
    atoms = w["atom_embedding"]
    if "table" in atoms:
        h = (atoms["table"][crystal["species"]] @ atoms["kernel"] + atoms["bias"]) * 2 ** atoms["log2_scale"]
    else:
        h = atoms["embeddings"][crystal["species"] - 1]
    e = embedded(w, "bond", gaussians([np.linalg.norm(v) for _, _, v in edges], 0, 8, distance_gaussians))
    t = embedded(w, "angle", gaussians([cosine for _, _, cosine in angles], -1, 1, angle_gaussians))
    for block in range(1, blocks + 1):
        e, t = layer(inside(w, f"block{block}_line_graph"), e, t, [a[:2] for a in angles], heads=heads, **options)
        h, e = layer(inside(w, f"block{block}_atom_graph"), h, e, [b[:2] for b in edges], heads=heads, **options)
    y = h.mean(0)
    if "head" in w:
        y = np.maximum(dense(w["head"], y), 0)
    return {name: dense(w[name], y) for name in model.output}
