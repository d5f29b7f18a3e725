"""A featurized dataset in one compact file: to train where neither pymatgen nor TensorFlow is installed.

The file is HDF5 behind a block of 512 bytes that holds the SHA-256 of all that follows; it is checked before HDF5 reads anything. For each
split there are ``values/KEY`` and ``lengths/KEY`` (the examples one after the other, see `tfmat.records.Records`), ``targets/NAME`` with
its ``unit``, and ``ids``. Where a column has the attribute ``differences``, its rows are those from row to row, and the attribute ``scale``
is a factor for its numbers. What the dataset and the featurizer are is JSON in the attribute ``about``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np

from tfmat import __version__
from tfmat.atomic import sha256_of, staged
from tfmat.data.packed import Featurized
from tfmat.data.splits import SPLITS
from tfmat.data.table import Table
from tfmat.datasets.dataset import Dataset
from tfmat.elements import bring, element_table
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.records import Records, starts_of

Floats = Literal["float16", "float32"]
FLOATS = get_args(Floats)
LENGTHS = ("vectors", "distances")
"""Keys in Å. In float16 they are right to 0.001 Å up to 4 Å and to 0.002 Å up to 8 Å; other numbers but `COSINES` are float32 always."""
COSINES = ("cosines",)
"""Keys of numbers from -1 to 1, which become whole multiples of 1 / 32,767 where `LENGTHS` are float16."""
INDICES = ("bond_receivers", "bond_senders", "pair_receivers", "pair_senders")
"""Keys whose rows differ little from the one before."""
BLOCK = 512
"""Bytes before the HDF5 file, the fewest that HDF5 knows."""
MAGIC = b"tfmat packed data\n"
FORMAT = 2
"""Raised when an older tfmat could not read what a newer one writes."""
CHUNK = 2**20
"""About so many bytes are compressed together."""
_DESCRIPTION = ("name", "version", "title", "units", "tasks", "material", "official_split", "citation", "licence", "url")


def write_packed(
    path: str | os.PathLike[str],
    dataset: Dataset,
    records: Mapping[str, Records],
    featurizer: Featurizer,
    *,
    floats: Floats = "float16",
    tables: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write a dataset and its featurized examples.

    Args:
        path: of the new file.
        dataset: whose materials all are featurized.
        records: split -> its examples.
        featurizer: that made them.
        floats: type of `LENGTHS`.
        tables: element tables to store along, for machines without the package that has them.
        overwrite: replace an existing file.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    if floats not in FLOATS:
        raise InputError(f"unknown type {floats!r} of distances", expected=f"one of {', '.join(FLOATS)}")
    about = {name: getattr(dataset, name) for name in _DESCRIPTION} | {"featurizer": configuration(featurizer), "tfmat": __version__}
    with staged(path, overwrite=overwrite) as temporary:
        with h5py.File(temporary, "w", userblock_size=BLOCK) as file:
            file.attrs["about"] = json.dumps({"format": FORMAT} | about)
            for split, table in dataset.splits.items():
                _write_split(file.create_group(split), table, records[split], floats, dataset.units)
            for name in tables:
                _write(file, f"element_tables/{name}", element_table(name))
        with temporary.open("r+b") as stream:
            stream.write(MAGIC + sha256_of(temporary, BLOCK).encode() + b"\n")
    return Path(path)


def _write_split(group: Any, table: Table, records: Records, floats: str, units: Mapping[str, str]) -> None:
    for key, values in records.values.items():
        used = values[records.offsets[key][0] : records.offsets[key][-1]]
        scale = 1 / np.iinfo(np.int16).max if key in COSINES and floats == "float16" else 1.0
        if scale != 1.0:
            used = np.rint(used / scale).astype(np.int32)
        if key in INDICES:
            used = np.diff(used, prepend=used.dtype.type(0))
        column = _write(group, f"values/{key}", used.astype(_narrow(used, floats if key in LENGTHS else "float32")))
        column.attrs["scale"], column.attrs["differences"] = scale, key in INDICES
        _write(group, f"lengths/{key}", records.lengths(key).astype(np.int32))
    for name, values in table.targets.items():
        _write(group, f"targets/{name}", values.astype(np.float64)).attrs["unit"] = units[name]
    _write(group, "ids", np.frombuffer(json.dumps(table.ids).encode(), np.uint8))


def _narrow(values: np.ndarray, floats: str) -> Any:
    """The type in which `values` are stored."""
    if values.dtype.kind == "f":
        return np.dtype(floats)
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    fits = [kind for kind in (np.uint8, np.int16, np.int32) if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max]
    return np.dtype(fits[0])


def _write(group: Any, name: str, values: np.ndarray) -> Any:
    if not values.size:
        return group.create_dataset(name, data=values)
    rows = max(1, CHUNK // max(values[0].nbytes, 1))
    return group.create_dataset(
        name, data=values, chunks=(min(rows, len(values)), *values.shape[1:]), compression="gzip", compression_opts=6, shuffle=True
    )


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a packed dataset, by how it begins."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_packed(path: str | os.PathLike[str]) -> Dataset:
    """The dataset of a packed file, its materials as `tfmat.data.packed.Featurized`; the element tables in it are made known.

    Its name is the path, so that a model that is trained from it can be evaluated on it.

    Raises:
        InputError: no such file, no packed dataset, damaged, or written by a newer tfmat.
    """
    source = Path(path)
    try:
        with source.open("rb") as stream:
            head = stream.read(BLOCK)
        if not head.startswith(MAGIC):
            raise InputError("no packed dataset", file=str(path), expected="a file written by tfmat datasets pack")
        if head[len(MAGIC) :].split(b"\n")[0] != sha256_of(source, BLOCK).encode():
            raise InputError("truncated or changed: its checksum does not match", file=str(path), expected="the original file")
        with h5py.File(source, "r") as file:
            return _dataset(file, str(path))
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror or error})", file=str(path)) from None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"not what tfmat writes ({error})", file=str(path), expected="a file written by tfmat datasets pack") from None


def _dataset(file: Any, path: str) -> Dataset:
    about = json.loads(file.attrs["about"])
    if about["format"] > FORMAT:
        raise InputError(f"written by a newer tfmat (format {about['format']})", file=path, expected=f"format {FORMAT}: update tfmat")
    for name, table in file.get("element_tables", {}).items():
        bring(name, table[()])
    splits = {split: _read_split(file[split], about["featurizer"], path) for split in SPLITS}
    description = {name: about[name] for name in _DESCRIPTION}
    return Dataset(**(description | {"name": path, "title": f"{about['title']} ({about['name']}), featurized"}), splits=splits)


def _read_split(group: Any, featurizer: Mapping[str, Any], path: str) -> Table:
    values = {key: _restored(array) for key, array in group["values"].items()}
    offsets = {key: starts_of(array[()]) for key, array in group["lengths"].items()}
    records = Records(values, offsets)
    if any(offsets[key][-1] != len(array) or array.dtype.kind not in "iuf" for key, array in values.items()):
        raise ValueError("the lengths do not fit")
    ids = json.loads(group["ids"][()].tobytes())
    targets = {name: array[()].astype(np.float64) for name, array in group["targets"].items()}
    return Table(Featurized(records, featurizer, path), targets, ids, np.arange(1, len(ids) + 1, dtype=np.int64), path)


def _restored(column: Any) -> np.ndarray:
    """The values of a column from what is stored of them."""
    stored, scale = column[()], float(column.attrs.get("scale", 1.0))
    if column.attrs.get("differences", False):
        values = np.cumsum(stored, dtype=np.int32)
        return values.astype(_narrow(values, "float32"))
    return stored if scale == 1.0 else (stored * scale).astype(np.float32)
