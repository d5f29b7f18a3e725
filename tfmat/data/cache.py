"""Featurized examples kept on disk, so that a dataset is featurized once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tfmat.data.readers import locate
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.records import Records

_LOGGER = logging.getLogger("tfmat")


class RecordCache:
    """A folder with one ``.npz`` file a featurized table. Files are written atomically and never unpickled.

    Args:
        directory: created when first written to. Default: the folder named by ``TFMAT_CACHE_DIR``, else ``~/.cache/tfmat/records``.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        chosen = directory or os.environ.get("TFMAT_CACHE_DIR") or Path.home() / ".cache" / "tfmat" / "records"
        self.directory = Path(chosen).expanduser()

    def key(self, featurizer: Featurizer, table: Table) -> str:
        """SHA-256 of the featurizer's class name, version and configuration, and of the table's content."""
        parts = [configuration(featurizer), table.content_hash()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def path(self, key: str) -> Path:
        """The file of `key`."""
        return self.directory / f"{key}.npz"

    def load(self, key: str) -> Records | None:
        """The records of `key`, or `None` where there are none or the file is damaged (which is logged)."""
        path = self.path(key)
        try:
            with np.load(path, allow_pickle=False) as stored:
                values = {name.removeprefix("values/"): stored[name] for name in stored.files if name.startswith("values/")}
                offsets = {name.removeprefix("offsets/"): stored[name] for name in stored.files if name.startswith("offsets/")}
            return _checked(Records(values, offsets))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            _LOGGER.warning("cache file %s is damaged (%s) and will be rebuilt", path, error)
            return None

    def save(self, key: str, records: Records) -> None:
        """Store `records`; a folder that cannot be written to is logged and otherwise ignored."""
        arrays = {f"values/{name}": value for name, value in records.values.items()}
        arrays |= {f"offsets/{name}": value for name, value in records.offsets.items()}
        temporary = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.directory, suffix=".tmp", delete=False) as stream:
                temporary = stream.name
                np.savez(stream, allow_pickle=False, **arrays)
            os.replace(temporary, self.path(key))
        except OSError as error:
            _LOGGER.warning("featurized data could not be kept in %s (%s)", self.directory, error)
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)


def featurize_table(table: Table, featurizer: Featurizer, cache: RecordCache | None = None) -> Records:
    """Featurize all materials of `table`, or take them from `cache`.

    Raises:
        InputError: a material cannot be featurized; it names the file and the row.
    """
    key = cache.key(featurizer, table) if cache else ""
    found = cache.load(key) if cache else None
    if cache and found is not None:
        if len(found) == len(table) and set(found.values) == set(featurizer.spec):
            return found
        _LOGGER.warning("cache file %s does not fit and will be rebuilt", cache.path(key))
    try:
        records = featurizer.featurize(table.materials)
    except InputError as error:
        raise locate(error, table) from None
    if cache:
        cache.save(key, records)
    return records


def _checked(records: Records) -> Records:
    if not records.values:
        raise ValueError("it holds no arrays")
    for name, offsets in records.offsets.items():
        if (
            offsets.ndim != 1
            or not offsets.size
            or offsets[0] != 0
            or offsets[-1] != len(records.values[name])
            or np.any(np.diff(offsets) < 0)
        ):
            raise ValueError(f"the offsets of {name!r} do not fit")
    return records
