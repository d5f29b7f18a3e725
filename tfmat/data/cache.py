"""Featurized examples on disk in ``.npy`` files, so that a dataset is featurized once: written part by part, mapped, never unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from tfmat.atomic import size_of
from tfmat.data.table import Table
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.records import Records

_LOGGER = logging.getLogger("tfmat")
_KEY = re.compile(r"[0-9a-f]{64}")
_LEFT_BEHIND_SECONDS = 24 * 3600.0
ENTRY = "entry.json"
CHECKED_BYTES = 64 * 2**20
"""Larger arrays are mapped; of these the size is checked and not the checksum, so that opening them takes no time."""


@dataclass(frozen=True)
class CacheEntry:
    """One featurized table in the cache.

    Attributes:
        key: see `RecordCache.key`.
        path: its folder.
        source: the file or dataset that it came from.
        featurizer: name of the featurizer's class; ``unreadable`` where the entry is damaged.
        rows: number of examples.
        size: on disk [bytes].
        created: seconds since 1970.
    """

    key: str
    path: Path
    source: str
    featurizer: str
    rows: int
    size: int
    created: float


class RecordCache:
    """A folder with one folder of ``.npy`` files per featurized table: renamed into place when complete, never unpickled.

    Two processes that build the same entry both work, and the first one's result stays. A killed process leaves a folder whose name ends
    in ``.tmp``, which nobody reads and which a later `save` removes after a day and `clear` at once.

    Args:
        directory: created when first written to. Default: the folder named by ``TFMAT_CACHE_DIR``, else ``~/.cache/tfmat/records``.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        chosen = directory or os.environ.get("TFMAT_CACHE_DIR") or Path.home() / ".cache" / "tfmat" / "records"
        self.directory = Path(chosen).expanduser()

    def key(self, featurizer: Featurizer, table: Table) -> str:
        """SHA-256 of the featurizer's class name, version and configuration, and of the table's materials in order.

        Targets and ids do not enter: the same crystals with another target are not featurized again.
        """
        parts = [configuration(featurizer), table.materials_hash()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def path(self, key: str) -> Path:
        """The folder of `key`."""
        return self.directory / key

    def load(self, key: str) -> Records | None:
        """The records of `key`, large ones mapped from the file, or `None` where there are none or they are damaged (which is logged)."""
        path = self.path(key)
        if not path.is_dir():
            return None
        try:
            return read_records(path)
        except (OSError, ValueError) as error:
            _LOGGER.warning("cache entry %s is damaged (%s) and will be rebuilt", path, error)
            return None

    def save(self, key: str, records: Records, about: dict[str, Any] | None = None) -> None:
        """Store `records`; a folder that cannot be written to is logged and otherwise ignored."""
        try:
            with self.building(key, about) as writer:
                writer.append(records)
        except OSError as error:
            _LOGGER.warning("featurized data could not be kept in %s (%s)", self.directory, error)

    @contextlib.contextmanager
    def building(self, key: str | Callable[[], str], about: dict[str, Any] | None = None) -> Iterator[RecordWriter]:
        """A writer for the entry of `key`, which appears when the block ends without an error. Raises `OSError`.

        Args:
            key: a function is called when the block has ended: for content whose key is known only then.
            about: kept with the entry.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._tidy()
        prefix = f"{key}." if isinstance(key, str) else "building."
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=self.directory))
        try:
            with RecordWriter(temporary) as writer:
                yield writer
                writer.finish({"created": time.time()} | (about or {}))
            os.chmod(temporary, 0o755)
            self._publish(temporary, key if isinstance(key, str) else key())
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _publish(self, temporary: Path, key: str) -> None:
        """Rename to the final place. Another process's complete entry stays; a damaged one is moved aside first."""
        for _ in range(10):
            try:
                os.rename(temporary, self.path(key))
                return
            except OSError:
                if not self.path(key).exists():
                    raise
            with contextlib.suppress(OSError, ValueError):
                read_records(self.path(key))
                return
            with contextlib.suppress(OSError):
                aside = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".tmp", dir=self.directory))
                try:
                    os.rename(self.path(key), aside / "damaged")
                finally:
                    shutil.rmtree(aside, ignore_errors=True)
        raise OSError(f"{self.path(key)} cannot be replaced")

    def _tidy(self, older_than: float = _LEFT_BEHIND_SECONDS) -> int:
        """Remove what killed processes left behind; returns the bytes freed."""
        freed = 0
        for path in self.directory.glob("*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime >= older_than:
                    freed += size_of(path)
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        return freed

    def entries(self) -> list[CacheEntry]:
        """List what the cache holds, the newest first."""
        found = []
        for path in self.directory.glob("*") if self.directory.is_dir() else ():
            if not _KEY.fullmatch(path.name) or not path.is_dir():
                continue
            entry: dict[str, Any] = {}
            with contextlib.suppress(OSError, ValueError):
                entry = read_entry(path)
            name = str(entry.get("featurizer", {}).get("name", "")) if entry else "unreadable"
            with contextlib.suppress(OSError):
                created = float(entry.get("created", path.stat().st_mtime))
                found.append(CacheEntry(path.name, path, str(entry.get("source", "")), name, entry.get("rows", 0), size_of(path), created))
        return sorted(found, key=lambda entry: -entry.created)

    def clear(self, keys: Sequence[str] | None = None) -> tuple[int, int]:
        """Remove the entries of `keys`, or everything, what killed processes left included; returns how many entries and bytes."""
        chosen = [entry for entry in self.entries() if keys is None or entry.key in keys]
        freed = 0 if keys is not None else self._tidy(0.0)
        for entry in chosen:
            # Without its entry.json it is no longer read, even if the removal is cut off.
            with contextlib.suppress(OSError):
                (entry.path / ENTRY).unlink()
            shutil.rmtree(entry.path, ignore_errors=True)
            freed += entry.size
        return len(chosen), freed


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
    records = from_arrays(arrays)
    if not records.values:
        raise ValueError("it holds no arrays")
    for name, offset in records.offsets.items():
        if offset.ndim != 1 or not offset.size or offset[0] != 0 or offset[-1] != len(records.values[name]) or np.any(np.diff(offset) < 0):
            raise ValueError(f"the offsets of {name!r} do not fit")
    if len(records) != entry["rows"]:
        raise ValueError(f"{len(records)} rows instead of {entry['rows']}")
    return records


def to_arrays(records: Records) -> dict[str, np.ndarray]:
    """The arrays of `records` by the names under which they are stored: ``values.KEY`` and ``offsets.KEY``."""
    return {f"{kind}.{key}": array for kind in ("values", "offsets") for key, array in getattr(records, kind).items()}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Records:
    """The records of such arrays."""
    values, offsets = (
        {name.removeprefix(kind): arrays[name] for name in arrays if name.startswith(kind)} for kind in ("values.", "offsets.")
    )
    return Records(values, offsets)


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
        limit: most bytes that are held in memory.
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
