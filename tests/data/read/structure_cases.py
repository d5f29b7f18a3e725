"""CIF and POSCAR texts for the tests, written without pymatgen, and the files that hold them."""

import gzip
import itertools
import json

import numpy as np

SYMMETRY = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
HALITE = [("Na", x, y, z) for x, y, z in ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))]
HALITE += [("Cl", x, y, z) for x, y, z in ((0.5, 0.5, 0.5), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5))]
HEADER = "# made by a test\n"


def cif(sites=HALITE, a=5.64, symmetry=SYMMETRY, group="P 1", occupancy=None, extra=""):
    """CIF text of a cubic cell; coordinates may be text."""
    lines = ["data_test", f"_cell_length_a {a}", f"_cell_length_b {a}", f"_cell_length_c {a}"]
    lines += [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")]
    if group:
        lines.append(f"_symmetry_space_group_name_H-M '{group}'")
    lines.append(extra + symmetry + "loop_\n_atom_site_label\n_atom_site_type_symbol")
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"] + ["_atom_site_occupancy"]
    lines += [f"{s}{i} {s} {x} {y} {z} {1 if occupancy is None else occupancy}" for i, (s, x, y, z) in enumerate(sites)]
    return HEADER + "\n".join(lines) + "\n"


def poscar(sites=HALITE, a=5.64, names=True):
    """POSCAR text, VASP 5 or (without names) VASP 4."""
    groups = [(symbol, list(members)) for symbol, members in itertools.groupby(sites, key=lambda site: site[0])]
    lines = ["made by a test", "1.0", f"{a} 0 0", f"0 {a} 0", f"0 0 {a}"]
    lines += [" ".join(symbol for symbol, _ in groups)] if names else []
    lines += [" ".join(str(len(members)) for _, members in groups), "direct"]
    return "\n".join(lines + [f"{x} {y} {z}" for _, x, y, z in sites]) + "\n"


def random_sites(number, symbol="Cu", seed=0):
    """Sites on a jittered grid, none of them close to another."""
    side = int(np.ceil(number ** (1 / 3)))
    rng = np.random.default_rng(seed)
    grid = rng.permutation(side**3)[:number]
    coords = np.stack([grid // side**2, grid // side % side, grid % side], axis=1) / side + rng.uniform(0, 0.3 / side, (number, 3))
    return [(symbol, *(f"{x:.6f}" for x in row)) for row in coords]


def record(**changes):
    """One line of the JSON format: ``cell``, ``species``, ``frac``."""
    base = {
        "cell": [5.64, 5.64, 5.64, 90, 90, 90],
        "species": [site[0] for site in HALITE],
        "frac": [list(site[1:]) for site in HALITE],
    }
    return base | changes


def as_dict(sites=HALITE, a=5.64):
    """What pymatgen's ``Structure.as_dict`` gives, as far as it is read."""
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "lattice": {"matrix": [[a, 0, 0], [0, a, 0], [0, 0, a]]},
        "sites": [{"species": [{"element": s, "occu": 1}], "abc": [x, y, z], "label": s, "properties": {}} for s, x, y, z in sites],
    }


def folder(tmp_path, files, id_prop):
    path = tmp_path / "crystals"
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if id_prop is not None:
        (path / "id_prop.csv").write_bytes(id_prop if isinstance(id_prop, bytes) else id_prop.encode())
    return path


def jsonl(tmp_path, *lines, name="data.jsonl"):
    path = tmp_path / name
    content = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return path


def reasons(data):
    return {rejection.id: rejection.reason for rejection in data.rejections}
