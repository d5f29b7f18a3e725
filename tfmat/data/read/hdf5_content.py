"""The content of an HDF5 file from elsewhere, read in a process of its own: the HDF5 library can crash on a damaged file."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmat.data.workers import Request, Workers
from tfmat.errors import InputError

SECONDS = 60.0
"""Longest time that reading a file may take [s]."""
MEMORY = 4 << 30
"""Most memory of the process that reads it [B]."""
LARGEST = 10_000_000
"""Most numbers of an array that is still read."""


@dataclass(frozen=True)
class Content:
    """What one group of an HDF5 file holds.

    Attributes:
        attributes: of the file itself, those that are text.
        arrays: path below the group -> float32 array.
        others: path below the group -> size and type of what is not read: too large, or no floating-point numbers.
    """

    attributes: Mapping[str, str]
    arrays: Mapping[str, np.ndarray]
    others: Mapping[str, str]


def read_hdf5(path: str | os.PathLike[str], group: str) -> Content:
    """Read the arrays of a group and the attributes of the file.

    Raises:
        InputError: no such file, not HDF5, damaged, or without that group.
    """
    with Workers(1, seconds=SECONDS, memory_bytes=MEMORY) as workers:
        request = Request("tfmat.data.read.hdf5_content:load", {"path": os.fspath(path), "group": group})
        try:
            found = workers.submit(request).result()
        except InputError as error:
            raise error.located(file=os.fspath(path)) from None
    arrays = {
        name: np.frombuffer(base64.b64decode(entry["data"]), "<f4").reshape(entry["shape"]).copy()
        for name, entry in found["arrays"].items()
    }
    return Content(found["attributes"], arrays, found["others"])


def load(path: str, group: str) -> dict[str, Any]:
    """The content of the file as values that JSON can hold. This runs in the other process."""
    import h5py

    arrays: dict[str, Any] = {}
    others: dict[str, str] = {}

    def collect(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.dtype.kind != "f" or item.size is None or item.size > LARGEST:
            others[name] = f"{item.size or 0:,} x {item.dtype}"
            return
        values = np.asarray(item[()], "<f4")
        arrays[name] = {"shape": list(values.shape), "data": base64.b64encode(values.tobytes()).decode("ascii")}

    try:
        with h5py.File(path, "r") as file:
            attributes = {str(name): _text(value) for name, value in file.attrs.items() if isinstance(value, (bytes, str))}
            if not isinstance(file.get(group), h5py.Group):
                raise InputError(f"it has no group {group!r}")
            file[group].visititems(collect)
    except FileNotFoundError:
        raise InputError("no such file") from None
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"not an HDF5 file, or damaged ({(str(error).splitlines() or [''])[0][:150]})") from None
    return {"attributes": attributes, "arrays": arrays, "others": others}


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
