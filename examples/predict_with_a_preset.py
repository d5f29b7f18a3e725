"""Predict with published weights. NaCl.cif and my_cifs/, a folder of structure files, are yours."""

import pathlib

from pymatgen.core import Lattice, Structure

import tfmat

print(tfmat.list_models())
for preset in tfmat.list_presets():
    print("{name}: {property} [{unit}], {reported_error}, {fidelity}, {size}, {licence}".format(**preset))

p = tfmat.Predictor.from_preset("mp-2018.6.1/formation_energy")
structure = Structure(Lattice.cubic(4.21), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
print(p.predict("NaCl.cif"))
print(p.predict(["NaCl.cif", pathlib.Path("my_cifs"), structure]))
