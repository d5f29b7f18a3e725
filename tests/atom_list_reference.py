"""The atom-list LSTM in NumPy, float64, from the equations of the specification alone: one crystal, loops over lists, layers and steps."""

import numpy as np


def weights_of(model):
    """Path of a layer -> name of a weight -> float64 array."""
    found = {}
    for weight in model.weights:
        *path, name = weight.path.split("/")
        found.setdefault("/".join(path), {})[name] = np.asarray(weight, np.float64)
    return found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(w, sequence, layers, start=1.0):
    """Layer by layer, each over the whole sequence; final hidden and cell state of each layer."""
    finals = []
    for layer in range(1, layers + 1):
        kernel, bias = w[f"kernel_{layer}"], w[f"bias_{layer}"]
        split = kernel.shape[0] - bias.size // 4
        hidden = carry = np.full(bias.size // 4, start)
        outputs = []
        for x in sequence:
            i, f, c, o = np.split(x @ kernel[:split] + hidden @ kernel[split:] + bias, 4)
            carry = sigmoid(f) * carry + sigmoid(i) * np.tanh(c)
            hidden = sigmoid(o) * np.tanh(carry)
            outputs.append(hidden)
        finals.append((hidden, carry))
        sequence = outputs
    return np.mean(finals, axis=0)


def norm(w, x):
    """Over all axes of x together; gamma and beta of the last one."""
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w["gamma"] + w["beta"]


def dense(w, x):
    return np.maximum(x @ w["kernel"] + w["bias"], 0)


def entries(w, species, elements, distances, centre_weight, as_run):
    """The sequence that belongs to one site; `as_run`: with the index of the element in place of 1 / r, as by mistake published."""
    kinds = np.array([species, *elements[elements > 0]]) - 1
    factors = np.array([centre_weight, *(1 / distances[elements > 0].astype(float))])
    return w["embeddings"][kinds] * (kinds if as_run else factors)[:, None]


def atom_list_lstm(
    model, arrays, *, layers=4, centre_weight=1.0, normalisation=True, pooling="lstm", target="target", as_run=False, start=1.0
):
    """Value of `target` for one crystal, as the featurizer gives it."""
    w = weights_of(model)
    vectors = []
    for number in arrays["lists"]:
        one = (arrays[key][number - 1] for key in ("species", "elements", "distances"))
        hidden, carry = lstm(w["site_lstm"], entries(w["embedding"], *one, centre_weight, as_run), layers, start)
        vectors.append(hidden + carry)
    sites = np.array(vectors)
    if normalisation:
        sites = norm(w["site_norm"], sites)
    if pooling == "lstm":
        _, crystal = lstm(w["crystal_lstm"], sites, layers, start)
    else:
        crystal = np.mean([dense(w["crystal_dense"], site) for site in sites], axis=0)
    if normalisation:
        crystal = norm(w["crystal_norm"], crystal)
    for number in range(1, 6):
        crystal = dense(w[f"head_{number}"], crystal)
        if normalisation and number == 2:
            crystal = norm(w["head_norm"], crystal)
    total = (crystal @ w["target"]["kernel"] + w["target"]["bias"]).sum()
    return np.maximum(total, w["target"].get("floor", -np.inf))
