"""Building datasets with TFDS, and reading what was built. Needs the extra ``datasets``."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.crystal import Crystals
from tfmat.data.table import Table
from tfmat.datasets.registry import prepared_directory, tfds_directory
from tfmat.datasets.source import RowsWritten, Source
from tfmat.errors import InputError
from tfmat.records import Records

_BATCH = 1024


def build(source: Source, *, overwrite: bool = False, progress: RowsWritten | None = None, **config: Any) -> Path:
    """Download and build a dataset in the folder of TFDS, with progress on stderr: TFDS's bars on a terminal, lines otherwise.

    A build that fails or is killed leaves nothing that would be taken for a dataset, and what had been built before as it was.

    Args:
        source: of the dataset.
        overwrite: build it again where it has been built.
        progress: is told split, rows written so far, and rows of the split; takes the place of TFDS's bars.
        config: further keywords of ``tfds.download.DownloadConfig``, such as ``beam_options``.

    Returns:
        The folder.
    """
    root, built = tfds_directory(), prepared_directory(source)
    if built is not None and not overwrite:
        return built
    try:
        if built is None:
            return _prepare(source, root, progress, config)
        with tempfile.TemporaryDirectory(prefix=".rebuild.", dir=root) as temporary:
            new = _prepare(source, Path(temporary), progress, config)
            built.rename(Path(temporary) / "old")
            new.rename(built)
        return built
    except Exception as error:
        problem = _input_error(error) or _download_error(error, source)
        if problem is None:
            raise
        raise problem from None


def _prepare(source: Source, folder: Path, progress: RowsWritten | None, config: Mapping[str, Any]) -> Path:
    tfds = _tfds()
    logging.getLogger("tfmat").warning("Building %s (%s rows) in %s", source.name, f"{source.rows:,}", folder)
    (tfds.enable_progress_bar if progress is None and sys.stderr.isatty() else tfds.disable_progress_bar)()
    try:
        builder = _builder(source, folder)
        builder.progress = progress
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS tells on stdout what it does
            builder.download_and_prepare(
                download_dir=str(tfds_directory() / "downloads"), download_config=tfds.download.DownloadConfig(**config)
            )
    finally:
        tfds.enable_progress_bar()
    return Path(builder.data_dir)


def read(source: Source, split: str) -> Table:
    """A stored split of a crystal dataset that has been built."""
    tfds = _tfds()
    with contextlib.redirect_stdout(io.StringIO()):
        order = tfds.ReadConfig(interleave_cycle_length=1)
        stored = _builder(source, tfds_directory()).as_dataset(split=split, shuffle_files=False, read_config=order)
    parts, ids, targets = [], [], {name: [] for name in source.units}  # type: ignore[var-annotated]
    for batch in stored.ragged_batch(_BATCH):
        species, coords, lattice = batch["species"], batch["frac_coords"], batch["lattice"].numpy()
        values = {"species": species.flat_values.numpy(), "frac_coords": coords.flat_values.numpy(), "lattice": lattice.reshape(-1, 3)}
        offsets = {
            "species": species.row_splits.numpy().astype(np.int64),
            "frac_coords": coords.row_splits.numpy().astype(np.int64),
            "lattice": 3 * np.arange(len(lattice) + 1, dtype=np.int64),
        }
        parts.append(Records(values, offsets))
        ids += [name.decode() for name in batch["id"].numpy()]
        for name, columns in targets.items():
            columns.append(batch[name].numpy())
    columns_ = {name: np.concatenate(columns) for name, columns in targets.items()}
    return Table(Crystals(Records.join(parts)), columns_, ids, np.arange(1, len(ids) + 1, dtype=np.int64), source.name)


def _builder(source: Source, folder: Path) -> Any:
    from tfmat.datasets import builders

    (family,) = [one for one in vars(builders).values() if isinstance(one, type) and getattr(one, "name", None) == source.builder]
    with contextlib.redirect_stdout(io.StringIO()):
        return family(config=source.config, data_dir=str(folder))


def _tfds() -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(f"TensorFlow Datasets cannot be imported ({error})", expected="pip install 'tfmat[datasets]'") from None
    return tfds


def _chain(error: BaseException | None) -> list[BaseException]:
    errors: list[BaseException] = []
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__cause__ or error.__context__
    return errors


def _input_error(error: Exception) -> InputError | None:
    """The `InputError` that was behind the one raised by TFDS."""
    return next((one for one in _chain(error) if isinstance(one, InputError)), None)


def _download_error(error: Exception, source: Source) -> InputError | None:
    """Say in one line what went wrong outside tfmat: no connection, a refused or cut download, a full disk."""
    expected = f"a connection to {source.origin}, or TFMAT_DATA_DIR set"
    for one in reversed(_chain(error)):
        kind = type(one).__module__.partition(".")[0]
        if kind in ("requests", "urllib3", "http") or type(one).__name__ in ("DownloadError", "NonMatchingChecksumError"):
            return InputError(f"{source.name} could not be downloaded ({str(one)[:200]})", expected=expected)
        if isinstance(one, OSError):
            return InputError(f"{source.name} could not be built ({one})", expected="room and permission to write")
    return None
