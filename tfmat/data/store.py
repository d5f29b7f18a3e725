"""Records in a folder of ``.npy`` files: written part by part, read by mapping, never unpickled."""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from tfmat.records import Records

ENTRY = "entry.json"
CHECKED_BYTES = 64 * 2**20
"""Larger arrays are mapped; of these the size is checked and not the checksum, so that opening them takes no time."""


class RecordWriter:
    """Writes records to a folder, part by part, so that they never have to be in memory together.

    Args:
        directory: an existing empty folder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rows = 0
        self._files: dict[str, IO[bytes]] = {}
        self._first: dict[str, np.ndarray] = {}
        self._lengths: dict[str, int] = {}
        self._offsets: dict[str, list[np.ndarray]] = {}
        self._checksums: dict[str, int] = {}

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for stream in self._files.values():
            stream.close()

    def append(self, part: Records) -> None:
        """Add the examples of `part`."""
        for key, value in part.values.items():
            if key not in self._files:
                self._files[key] = (self.directory / f"values.{key}.npy").open("wb")
                self._first[key] = value[:0]
                self._lengths[key], self._offsets[key], self._checksums[key] = 0, [np.zeros(1, np.int64)], 0
                _write_header(self._files[key], self._first[key], 0)
            used = value[part.offsets[key][0] : part.offsets[key][-1]]
            content = np.ascontiguousarray(used).astype(self._first[key].dtype, copy=False)
            content.tofile(self._files[key]) if content.size else None
            self._checksums[key] = zlib.crc32(content.data if content.size else b"", self._checksums[key])
            self._offsets[key].append(part.offsets[key][1:] - part.offsets[key][0] + self._lengths[key])
            self._lengths[key] += len(content)
        self.rows += len(part)

    def finish(self, about: Mapping[str, Any] | None = None) -> None:
        """Complete the folder; `about` is kept in ``entry.json``."""
        arrays = {}
        for key, stream in self._files.items():
            stream.seek(0)
            _write_header(stream, self._first[key], self._lengths[key])
            stream.close()
            offsets = np.concatenate(self._offsets[key]).astype(np.int64)
            np.save(self.directory / f"offsets.{key}.npy", offsets, allow_pickle=False)
            arrays[f"values.{key}"] = self._checksums[key]
            arrays[f"offsets.{key}"] = zlib.crc32(offsets.data)
        entry = dict(about or {}) | {"rows": self.rows, "checksums": arrays}
        (self.directory / ENTRY).write_text(json.dumps(entry, indent=1), encoding="utf-8")


def _write_header(stream: IO[bytes], like: np.ndarray, rows: int) -> None:
    """A header with room for the longest first axis, so that it can be written again."""
    shape = (rows, *like.shape[1:])
    np.lib.format.write_array_header_1_0(
        stream, {"descr": np.lib.format.dtype_to_descr(like.dtype), "fortran_order": False, "shape": shape}
    )


def read_entry(directory: Path) -> dict[str, Any]:
    """``entry.json`` of a folder of records. Raises `OSError` or `ValueError`."""
    entry = json.loads((directory / ENTRY).read_text(encoding="utf-8"))
    if not isinstance(entry, dict) or not isinstance(entry.get("checksums"), dict) or not isinstance(entry.get("rows"), int):
        raise ValueError(f"{ENTRY} is malformed")
    return entry


def read_records(directory: Path) -> Records:
    """The records of a folder; large arrays are mapped. Raises `OSError` or `ValueError` where it is damaged."""
    entry = read_entry(directory)
    arrays = {name: _read(directory / f"{name}.npy", checksum) for name, checksum in entry["checksums"].items()}
    values = {name.removeprefix("values."): array for name, array in arrays.items() if name.startswith("values.")}
    offsets = {name.removeprefix("offsets."): array for name, array in arrays.items() if name.startswith("offsets.")}
    if not values:
        raise ValueError("it holds no arrays")
    records = Records(values, offsets)
    for name, offset in offsets.items():
        if offset.ndim != 1 or not offset.size or offset[0] != 0 or offset[-1] != len(values[name]) or np.any(np.diff(offset) < 0):
            raise ValueError(f"the offsets of {name!r} do not fit")
    if len(records) != entry["rows"]:
        raise ValueError(f"{len(records)} rows instead of {entry['rows']}")
    return records


def _read(path: Path, checksum: int) -> np.ndarray:
    try:
        if path.stat().st_size > CHECKED_BYTES:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            return np.asarray(mapped)
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (EOFError, SyntaxError, TypeError, KeyError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from None
    if zlib.crc32(np.ascontiguousarray(array).data if array.size else b"") != checksum:
        raise ValueError(f"{path.name} has another checksum")
    return array


class Spool:
    """Collects records in memory and, from `limit` bytes on, in a temporary folder that is mapped in the end.

    Args:
        limit: [bytes].
    """

    def __init__(self, limit: int = 128 * 2**20) -> None:
        self.limit = limit
        self._parts: list[Records] = []
        self._bytes = 0
        self._writer: RecordWriter | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
            # Where an open file can be unlinked, the mapping lives on and nothing is left behind whatever happens later.
            shutil.rmtree(self._writer.directory, ignore_errors=True)

    def append(self, part: Records) -> None:
        """Add the examples of `part`."""
        if self._writer is not None:
            self._writer.append(part)
            return
        self._parts.append(part)
        self._bytes += part.nbytes
        if self._bytes > self.limit:
            self._writer = RecordWriter(Path(tempfile.mkdtemp(prefix="tfmat-")))
            while self._parts:
                self._writer.append(self._parts.pop(0))

    def finish(self) -> Records | None:
        """All records, or `None` where there are none."""
        if self._writer is None:
            return Records.join(self._parts) if self._parts else None
        self._writer.finish()
        return read_records(self._writer.directory)
