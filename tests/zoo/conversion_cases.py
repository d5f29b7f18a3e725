"""Files of megnet and matgl with random weights, laid out as the packages write them."""

import json

import h5py
import numpy as np

STREAMS = ("atom", "bond", "state")
DIM, HIDDEN, EMBEDDING, GAUSSIANS, READOUT = 4, 6, 5, 12, (5, 3)


def random_weights(rng, *, blocks=2, flavor="megnet", state=2, fidelities=0, target="y"):
    """A small MEGNet: path in the zoo's model -> float32."""
    shapes = {"atom_embedding/embeddings": (95, EMBEDDING)}
    if fidelities:
        shapes["state_embedding/embeddings"] = (fidelities, EMBEDDING)

    def dense(name, rows, columns):
        shapes[f"{name}/kernel"], shapes[f"{name}/bias"] = (rows, columns), (columns,)

    for stream, rows in zip(STREAMS, (EMBEDDING, GAUSSIANS, EMBEDDING if fidelities else state), strict=True):
        dense(f"{stream}_encoder_1", rows, HIDDEN)
        dense(f"{stream}_encoder_2", HIDDEN, DIM)
    for block in range(1, blocks + 1):
        for stream in STREAMS if block > 1 else ():
            dense(f"block{block}/{stream}_ff_1", DIM, HIDDEN)
            dense(f"block{block}/{stream}_ff_2", HIDDEN, DIM)
        for part, inputs in (("e", 4), ("v", 3), ("u", 3)):
            for number, (rows, columns) in enumerate(((inputs * DIM, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, DIM)), start=1):
                dense(f"block{block}/phi_{part}_{number}", rows, columns)
    size = DIM // 2 if flavor == "megnet" else DIM
    for stream in STREAMS[:2]:
        dense(f"{stream}_set2set", 2 * size, 4 * size)
        if flavor == "megnet":
            shapes[f"{stream}_set2set/projection_kernel"], shapes[f"{stream}_set2set/projection_bias"] = (DIM, size), (size,)
    dense("readout_1", 4 * size + DIM, READOUT[0])
    dense("readout_2", *READOUT)
    dense(target, READOUT[1], 1)
    return {path: rng.normal(0, 0.4, shape).astype(np.float32) for path, shape in shapes.items()}


def names(weights, *, blocks, new=False, offset=0):
    """Layer in the zoo's model -> layer in the file, in the numbering of megnet 0.x or the names of 1.x."""
    stream_layers = [f"{stream}_encoder_{k}" for stream in STREAMS for k in (1, 2)]
    stream_layers += [f"block{b}/{stream}_ff_{k}" for b in range(2, blocks + 1) for stream in STREAMS for k in (1, 2)]
    dense = [*stream_layers, "readout_1", "readout_2", "output"]
    if not new:
        found = {name: f"dense_{number + offset}" for number, name in enumerate(dense, start=1)}
        found |= {f"block{b}": f"meg_net_layer_{b + offset}" for b in range(1, blocks + 1)}
        found |= {f"{stream}_set2set": f"set2_set_{k + offset}" for k, stream in enumerate(STREAMS[:2], start=1)}
        return found | {"atom_embedding": f"embedding_{1 + offset}", "state_embedding": f"embedding_{2 + offset}"}
    found = {f"{stream}_encoder_{k}": f"preblock_{stream}_{k - 1}" for stream in STREAMS for k in (1, 2)}
    for b in range(1, blocks + 1):
        found[f"block{b}"] = f"megnet_{b - 1}"
        found |= {f"block{b}/{stream}_ff_{k}": f"block_{b - 1}_{stream}_ff_{k - 1}" for stream in STREAMS for k in (1, 2)}
    found |= {f"{stream}_set2set": f"set2set_{stream}" for stream in STREAMS[:2]}
    found |= {name: f"readout_{k}" for k, name in enumerate(dense[-3:])}
    return found | {"atom_embedding": "atom_embedding", "state_embedding": "state_embedding"}


def model_config(called, *, blocks, steps, activation="linear", fidelities=0, dropout=0.0):
    """Keras' description of the graph. Layers stand in no particular order: the connections alone say what is what."""
    layers = []

    def layer(kind, name, *inputs, **config):
        nodes = [[[*source, {}] for source in inputs]] if inputs else []
        layers.append({"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes})
        return name, 0, 0

    def chain(start, *roles):
        for role in roles:
            start = layer("Dense", called[role], start, activation="softplus2")
        return start

    def dropped(source):
        return layer("Dropout", f"dropout_{len(layers)}", source, rate=dropout) if dropout else source

    graph = [layer("InputLayer", f"graph_{k}") for k in range(4)]
    atoms = layer("Embedding", called["atom_embedding"], layer("InputLayer", "atoms"))
    state = layer("InputLayer", "state")
    state = layer("Embedding", called["state_embedding"], state) if fidelities else state
    streams = [atoms, layer("InputLayer", "bonds"), state]
    streams = [chain(start, f"{s}_encoder_1", f"{s}_encoder_2") for s, start in zip(STREAMS, streams, strict=True)]
    for b in range(1, blocks + 1):
        inner = [chain(x, f"block{b}/{s}_ff_1", f"block{b}/{s}_ff_2") if b > 1 else x for s, x in zip(STREAMS, streams, strict=True)]
        name = layer("MEGNetLayer", called[f"block{b}"], *inner, *graph, activation="softplus2", pool_method="mean")[0]
        streams = [layer("Add", f"add_{b}_{k}", x, dropped((name, 0, k))) for k, x in enumerate(streams)]
    pooled = [layer("Set2Set", called[f"{s}_set2set"], x, g, T=steps) for s, x, g in zip(STREAMS[:2], streams, graph[2:], strict=False)]
    joined = dropped(layer("Concatenate", "concatenate_7", *pooled, streams[2]))
    output = layer("Dense", called["output"], chain(joined, "readout_1", "readout_2"), activation=activation)
    return {"class_name": "Model", "config": {"layers": layers[::-1], "output_layers": [list(output)]}}


def datasets(weights, called, target="y", suffix=""):
    """Path below ``model_weights`` -> array, as megnet's layers call them."""
    found = {}
    for path, array in weights.items():
        role, _, part = path.rpartition("/")
        role = "output" if role == target else role
        if "/phi_" in path:
            (block, phi), part = role.split("/"), {"kernel": "weight", "bias": "bias"}[part]
            letter, number = phi[4], int(phi[6]) - 1
            name = called[block]
            found[f"{name}/{name}{suffix}/{name}/phi_{letter}/{part}_{letter}_{number}:0"] = array
            continue
        if "set2set" in path:
            part = {"projection_kernel": "x_to_m_weight", "projection_bias": "x_to_m_bias"}.get(part, f"recurrent_{part}")
        found[f"{called[role]}/{called[role]}{suffix}/{part}:0"] = array
    return found


def side_car(cutoff=4.0, **changes):
    """What megnet writes beside a model."""
    bonds = {"@class": "GaussianDistance", "centers": {"data": np.linspace(0, cutoff + 1, GAUSSIANS).tolist()}, "width": 0.5}
    graph = {"@class": "CrystalGraph", "atom_converter": {"@class": "DummyConverter"}, "bond_converter": bonds, "cutoff": cutoff}
    return {"graph_converter": graph, "metadata": {"name": "y", "unit": "eV"}} | changes


def write_megnet(path, weights, *, blocks=2, steps=2, new=False, offset=0, suffix="", sidecar=None, target="y", **config):
    """One HDF5 file, and its side-car unless that is None."""
    called = names(weights, blocks=blocks, new=new, offset=offset)
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model_config(called, blocks=blocks, steps=steps, **config))
        for name, array in datasets(weights, called, target, suffix).items():
            file[f"model_weights/{name}"] = array
    if sidecar is not None:
        path.with_name(path.name + ".json").write_text(json.dumps(sidecar))
    return path


def matgl_state(rng, weights, *, blocks, elements, target="y"):
    """The state dictionary of matgl, with PyTorch's two bias vectors and two recurrent matrices."""
    state = {"embedding.layer_node_embedding.weight": weights["atom_embedding/embeddings"][elements]}
    if "state_embedding/embeddings" in weights:
        state["embedding.layer_state_embedding.weight"] = weights["state_embedding/embeddings"]
    state["bond_expansion.rbf.centers"] = np.linspace(0, 5, GAUSSIANS).astype(np.float32)

    def dense(theirs, ours, order=None):
        kernel = weights[f"{ours}/kernel"]
        if order is not None:
            kernel = np.concatenate([np.split(kernel, 3)[k] for k in order])
        state[f"{theirs}.weight"], state[f"{theirs}.bias"] = kernel.T, weights[f"{ours}/bias"]

    theirs = {"atom": "node", "bond": "edge", "state": "state"}
    for stream in STREAMS:
        for k in (1, 2):
            dense(f"{theirs[stream]}_encoder.layers.{2 * k - 2}", f"{stream}_encoder_{k}")
            for b in range(2, blocks + 1):
                dense(f"blocks.{b - 1}.{theirs[stream]}_func.layers.{2 * k - 2}", f"block{b}/{stream}_ff_{k}")
    for b in range(1, blocks + 1):
        for part, name in (("e", "edge"), ("v", "node"), ("u", "state")):
            for k in (1, 2, 3):
                order = {"v": (1, 0, 2), "u": (2, 0, 1)}.get(part) if k == 1 else None
                dense(f"blocks.{b - 1}.conv.{name}_func.layers.{2 * k - 2}", f"block{b}/phi_{part}_{k}", order)
    for stream in STREAMS[:2]:
        kernel, bias = weights[f"{stream}_set2set/kernel"], weights[f"{stream}_set2set/bias"]
        size = len(kernel) // 2
        recurrent, second = rng.normal(size=(4 * size, size)), rng.normal(size=4 * size)
        inputs = kernel.T - np.hstack([recurrent, np.zeros_like(recurrent)])
        lstm = f"{theirs[stream]}_s2s.lstm"
        state[f"{lstm}.weight_ih_l0"], state[f"{lstm}.weight_hh_l0"] = inputs, recurrent
        state[f"{lstm}.bias_ih_l0"], state[f"{lstm}.bias_hh_l0"] = bias - second, second
    for k, ours in enumerate(("readout_1", "readout_2", target)):
        dense(f"output_proj.layers.{2 * k}", ours)
    return {f"model.{name}": np.asarray(array, np.float32) for name, array in state.items()}


def matgl_description(blocks=2, **changes):
    """``model.json`` of matgl."""
    settings = {"nblocks": blocks, "hidden_layer_sizes_output": list(READOUT), "niters_set2set": 3, "cutoff": 4.0, "gauss_width": 0.5}
    settings |= {"activation_type": "softplus2", "is_classification": False, "include_state": True, "nlayers_set2set": 1, "dropout": None}
    model = {"@class": "MEGNet", "init_args": settings | changes}
    return {"kwargs": {"model": model, "target_transformer": "Normalizer: Mean=-1.5, Std: 2.25"}}
