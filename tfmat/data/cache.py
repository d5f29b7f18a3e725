"""Featurized examples kept on disk, so that a dataset is featurized once."""

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfmat.data.featurized import Featurized
from tfmat.data.featurizing import RowsDone, featurize_parts
from tfmat.data.store import ENTRY, RecordWriter, read_entry, read_records
from tfmat.data.table import Table
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.records import Records

_LOGGER = logging.getLogger("tfmat")
_KEY = re.compile(r"[0-9a-f]{64}")
_LEFT_BEHIND_SECONDS = 24 * 3600.0


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
    """A folder with one folder of ``.npy`` files a featurized table: renamed into place when complete, never unpickled.

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
                    freed += _size(path)
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        return freed

    def entries(self) -> list[CacheEntry]:
        """What the cache holds, the newest first."""
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
                found.append(CacheEntry(path.name, path, str(entry.get("source", "")), name, entry.get("rows", 0), _size(path), created))
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


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def featurize_table(
    table: Table,
    featurizer: Featurizer,
    cache: RecordCache | None = None,
    *,
    processes: int | None = None,
    report: RowsDone | None = None,
) -> Records:
    """Featurize all materials of `table`, or take them from `cache`.

    Args:
        table: the materials.
        featurizer: what to do with them.
        cache: where to look and to keep the result.
        processes: for crystals: how many work at once. Default: one a core, if the work is expected to take some seconds.
        report: progress callback.

    Raises:
        InputError: a material cannot be featurized; it names the file and the row. They are featurized already, by another one.
    """
    if isinstance(table.materials, Featurized):
        return table.materials.records_for(featurizer)
    if cache:
        found = stored_records(table, featurizer, cache)
        if found is not None:
            return found
        key = cache.key(featurizer, table)
        try:
            with cache.building(key, {"source": table.source, "featurizer": configuration(featurizer)}) as writer:
                for part in featurize_parts(table, featurizer, processes=processes, report=report):
                    writer.append(part)
            found = cache.load(key)
            if found is not None:
                return found
        except OSError as error:
            _LOGGER.warning("featurized data could not be kept in %s (%s)", cache.directory, error)
    return Records.join(list(featurize_parts(table, featurizer, processes=processes, report=report)))


def stored_records(table: Table, featurizer: Featurizer, cache: RecordCache) -> Records | None:
    """The records of `table` if `cache` holds them; an entry that does not fit is removed."""
    key = cache.key(featurizer, table)
    found = cache.load(key)
    if found is None or (len(found) == len(table) and set(found.values) == set(featurizer.spec)):
        return found
    _LOGGER.warning("cache entry %s does not fit and will be rebuilt", cache.path(key))
    cache.clear([key])
    return None
