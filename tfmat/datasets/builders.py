"""The datasets as builders of TensorFlow Datasets (TFDS).

Importing this module registers them, so that ``tfds.load("composition_benchmark/aflow__Egap")`` works; ``import tfmat.datasets`` does the
same as soon as ``tensorflow_datasets`` is imported. Neither imports TensorFlow. On the command line:
``tfds build --imports tfmat.datasets.builders matbench_phonons``.

A crystal is stored as ``species`` int32 (A,), ``lattice`` float64 (3, 3) [Å] and ``frac_coords`` float64 (A, 3), a composition as
``formula``; the targets are float64 scalars, NaN where a value is missing. Examples are stored in the order of their source.
"""

from __future__ import annotations

import dataclasses
import itertools
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfmat.atomic import sha256_of
from tfmat.datasets.registry import FAMILIES, SOURCES
from tfmat.datasets.source import Absent, Files, RowsWritten, Source, StoredRow
from tfmat.errors import InputError

BEAM_PARTS = 64
"""Number of parts that a split is divided into under Apache Beam."""


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """One dataset of a builder."""

    source: Source | None = None


def _configs(family: Any) -> list[Config]:
    return [Config(name=source.config, description=f"{source.title}. {source.notes}".strip(), source=source) for source in family.SOURCES]


def features(source: Source) -> Any:
    """The TFDS features of a row, with units in their documentation."""
    # Bytes, because TFDS would otherwise store float64 with the precision of float32.
    exact = {"dtype": np.float64, "encoding": tfds.features.Encoding.BYTES}
    columns: dict[str, Any] = {"id": tfds.features.Text(doc="identifier in the source")}
    if source.material == "crystal":
        columns |= {
            "species": tfds.features.Tensor(shape=(None,), dtype=np.int32, doc="atomic numbers of the A sites"),
            "lattice": tfds.features.Tensor(shape=(3, 3), doc="lattice vectors as rows [Å]", **exact),
            "frac_coords": tfds.features.Tensor(shape=(None, 3), doc="fractional coordinates of the A sites", **exact),
        }
    else:
        columns["formula"] = tfds.features.Text(doc="chemical formula")
    for target, unit in source.units.items():
        missing = "; NaN where it is unknown"
        meaning = source.meaning(target) + (f" [{unit}]" if unit else "")
        kind = "0 or 1" if source.task(target) == "binary" else f"[{unit}]" if unit else "dimensionless"
        columns[target] = tfds.features.Tensor(shape=(), doc=tfds.features.Documentation(desc=meaning + missing, value_range=kind), **exact)
    return tfds.features.FeaturesDict(columns)


def _supervised(source: Source) -> Any:
    """Input and output of ``as_supervised=True``, for the datasets with one target."""
    if len(source.units) > 1:
        return None
    inputs = "formula" if source.material == "composition" else {name: name for name in ("species", "lattice", "frac_coords")}
    return inputs, next(iter(source.units))


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """What the builders share: the work is done by the `Source` of the configuration."""

    FAMILY: Any
    VERSION = tfds.core.Version("1.0.0")
    progress: RowsWritten | None = None
    _beam = False

    @property
    def source(self) -> Source:
        """What is known of the dataset of this configuration."""
        return self.builder_config.source

    def _info(self) -> Any:
        source = self.source
        return self.dataset_info_from_configs(
            description=f"{self.FAMILY.DESCRIPTION} {source.title}. {source.notes}".strip(),
            features=features(source),
            homepage=source.url,
            citation=source.citation,
            license=source.licence,
            supervised_keys=_supervised(source),
            disable_shuffling=True,
        )

    def _generate_splits(self, dl_manager: Any, download_config: Any) -> Any:
        self._beam = bool(download_config.beam_options or download_config.beam_runner)
        return super()._generate_splits(dl_manager, download_config)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        def download(url: str, sha256: str | None = None) -> Path:
            if not downloaded(url, Path(dl_manager.download_dir)):
                reach(url)
            return check(Path(dl_manager.download(url)), url, sha256)

        files = self.source.files(download)
        return {split: self._generate_examples(files, split) for split in self.source.splits}

    def _generate_examples(self, files: Files, split: str) -> Any:
        if not self._beam:
            return enumerate(self._counted(files, split))
        import apache_beam as beam  # installed by those who want it: pip install apache-beam

        parts = beam.Create(range(BEAM_PARTS))
        return parts | beam.Reshuffle() | beam.FlatMap(_part, name=self.source.name, files=dict(files), split=split)

    def _counted(self, files: Files, split: str) -> Iterator[StoredRow]:
        total, last = self.source.splits[split], 0.0
        for count, example in enumerate(self.source.checked(files, split), start=1):
            if self.progress is not None and (count == total or time.monotonic() - last >= 0.1):
                self.progress(split, count, total)
                last = time.monotonic()
            yield example


def _part(part: int, *, name: str, files: Files, split: str) -> Iterator[tuple[int, StoredRow]]:
    """Every `BEAM_PARTS`-th row. Each worker reads the file, which is little work, and encodes and writes its own rows, which is much."""
    return itertools.islice(enumerate(SOURCES[name].checked(files, split)), part, None, BEAM_PARTS)


def downloaded(url: str, folder: Path) -> bool:
    """Tell whether TFDS has a file of this URL in its folder of downloads."""
    return any(f'"{url}"' in path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*.INFO"))


def reach(url: str) -> None:
    """An `InputError` at once where the host cannot be reached: TFDS would try for minutes. With a proxy this is not checked."""
    parts = urllib.parse.urlsplit(url)
    if urllib.request.getproxies().get(parts.scheme) is not None:
        return
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=30).close()
    except OSError as error:
        expected = "a connection, or the file in a folder that TFMAT_DATA_DIR names"
        raise Absent(f"{url} cannot be reached ({error})", expected=expected) from None


def check(path: Path, url: str, sha256: str | None) -> Path:
    """`path`, whose SHA-256 is the expected one; otherwise the file is deleted, so that the next try downloads it again."""
    digest = None if sha256 is None else sha256_of(path)
    if digest != sha256:
        path.unlink()
        raise InputError(f"{url} is damaged or another file: its SHA-256 is {digest}", expected=sha256)
    return path


def _register(family: Any) -> None:
    """Make the builder class of a module of datasets, which registers it with TFDS: ``mp_elasticity`` gets ``MpElasticity``."""
    name = "".join(part.capitalize() for part in family.BUILDER.split("_"))
    globals()[name] = type(
        name,
        (_Builder,),
        {
            "__module__": __name__,
            "__doc__": family.DESCRIPTION,
            "name": family.BUILDER,
            "FAMILY": family,
            "VERSION": tfds.core.Version(family.VERSION),
            "RELEASE_NOTES": family.RELEASE_NOTES,
            "BUILDER_CONFIGS": _configs(family),
        },
    )


for _family in FAMILIES:
    _register(_family)
