"""What the tests of the command line share."""

import dataclasses
import itertools
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
METALS, ANIONS = ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Al"), ("O", "S", "F", "Cl")
SMALL = (*("--variant", "dcnn_k1", "--set", "dim=16", "--set", "conv_dim=16", "--set", "conv_blocks=1"), "--no-cache")
TINY = (*SMALL, "--batch-size", "32")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of stderr."""
        return self.err.splitlines()


Command = Callable[..., Result]


def compounds(file: pathlib.Path) -> pathlib.Path:
    """96 binary compounds with a gap, a modulus that is missing for a third of them, a class, and an energy of both signs."""
    rows = ["formula,id,gap,modulus,metal,energy"]
    for i, (a, b, n) in enumerate(itertools.product(METALS, ANIONS, (1, 2, 3))):
        gap = 0.2 * METALS.index(a) + 0.4 * ANIONS.index(b) + 0.3 * n
        modulus = "" if i % 3 == 0 else f"{10 + 20 * gap:.2f}"
        rows.append(f"{a}{n}{b},m{i},{gap:.3f},{modulus},{int(gap > 1.6)},{gap - 1.5:.3f}")
    file.write_text("\n".join(rows) + "\n")
    return file


def start(arguments: Sequence[object], folder: pathlib.Path, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "tfmat", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, **options)


def listing(folder: pathlib.Path) -> set[str]:
    """Every path below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
