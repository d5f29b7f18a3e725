"""``tfmat datasets pack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfmat.cli.errors import tell
from tfmat.cli.progress import SHOWN, load_tensorflow
from tfmat.errors import InputError
from tfmat.runs.data import crystals_unread, open_dataset, record_cache, split_spec
from tfmat.runs.folder import stem
from tfmat.runs.settings import builder_keywords, known

Data = Annotated[str, typer.Argument(metavar="NAME|FILE|FOLDER", help="A dataset, or a file or folder as for `tfmat train --data`.")]
_FOR_HELP = "The architecture that is to learn from it: its featurizer makes the arrays."
For = Annotated[str, typer.Option("--for", metavar="ARCHITECTURE", help=_FOR_HELP)]
Targets = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Which targets; repeatable. Default: as `tfmat train`.")]
Variant = Annotated[
    str | None, typer.Option(metavar="NAME", help="A named variant of the architecture, see `tfmat models`. Default: as `tfmat train`.")
]
_SET_HELP = "A keyword of the builder that the featurizer has too, e.g. cutoff=5, or elements=magpie; repeatable."
Keywords = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SET_HELP)]
_FLOATS_HELP = "Of vectors and distances: float16 keeps them to 0.002 Å up to 8 Å and takes two thirds of the space."
Floats = Annotated[str, typer.Option(metavar="float16|float32", help=_FLOATS_HELP)]
Split = Annotated[str | None, typer.Option(metavar="METHOD", help="How to split a file, see `tfmat train --split`.")]
SplitSeed = Annotated[int, typer.Option(min=0, max=2**31 - 1, metavar="N", help="Of random, formula and chemical-system splits.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Default: DATA-ARCHITECTURE.h5 here.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep featurized data in TFMAT_CACHE_DIR too.")]


def pack(
    data: Data,
    for_: For,
    target: Targets = None,
    variant: Variant = None,
    set_: Keywords = None,
    floats: Floats = "float16",
    split: Split = None,
    split_seed: SplitSeed = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    cache: Cache = True,
) -> None:
    """Featurize a dataset into one compact file, from which models are trained without pymatgen and TensorFlow.

    The file is given to `tfmat train --data`, or to tfmat.runs.packed_training.train in Python.

    \b
    Examples:
      tfmat datasets pack mp2018_subset --for crysformer
      tfmat datasets pack my_cifs/ --for megnet --target band_gap --set cutoff=5 --out gaps.h5
      KERAS_BACKEND=jax tfmat train crysformer --data mp2018_subset-crysformer.h5
    """  # noqa: D301
    from tfmat.architecture import architectures
    from tfmat.atomic import check_free
    from tfmat.cli.datasets import size
    from tfmat.datasets import check_name
    from tfmat.datasets.packed_file import FLOATS, is_packed

    check_name(data)
    load_tensorflow()
    known("type of numbers", floats, FLOATS)
    if is_packed(data):
        raise InputError("it is packed already", file=data)
    from tfmat.runs.packed_training import pack as write

    family = architectures()[known("architecture", for_, architectures())]
    keywords = builder_keywords(family, variant or family.default, set_ or [])
    path = out or Path(f"{stem(data)}-{for_}.h5")
    if not overwrite:
        check_free(path)
    with record_cache(cache, family.material) as kept:
        spec, material = split_spec(split, split_seed, 0, None), crystals_unread(family.material)
        dataset = open_dataset(data, target, spec, progress=SHOWN, material=material, cache=kept)
        if summary := getattr(dataset, "summary", ""):
            tell(summary)
        with SHOWN.rows(f"featurizing {data}") as report:
            refused = write(dataset, for_, path, keywords=keywords, floats=floats, cache=kept, overwrite=overwrite, report=report)  # type: ignore[arg-type]
    if refused:
        tell(f"{len(refused):,} crystals cannot be featurized and are left out; the first is {refused[0]}")
    rows = ", ".join(f"{name} {len(table):,}" for name, table in dataset.splits.items())
    print(f"{path}: {size(path.stat().st_size)}, {rows} rows")
