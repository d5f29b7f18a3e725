"""The folder beside a model that is being trained: everything that is needed to go on after an interruption."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmat.atomic import missing, remove_empty
from tfmat.errors import InputError
from tfmat.runs.config import Settings
from tfmat.runs.progress import SILENT, Progress

SUFFIX = ".training"
SETTINGS, CHECKPOINT, HISTORY = "run.json", "checkpoint.h5", "history.csv"
FORMAT = 2
"""Raised when an older tfmat could not continue what a newer one began, or the other way round."""


class TrainingFolder:
    """``<out>.training``, which exists from the start of a run until its model is written.

    Args:
        out: path of the model directory to be.
    """

    def __init__(self, out: Path) -> None:
        self.out = out if out.name not in ("", "..") else Path(os.path.abspath(out))
        self.path = self.out.with_name(self.out.name + SUFFIX)
        self._made: list[Path] = []

    @property
    def checkpoint(self) -> Path:
        """State of the last epoch that was written."""
        return self.path / CHECKPOINT

    @property
    def finished_epochs(self) -> list[dict[str, float]]:
        """The history of the epochs in the checkpoint."""
        from tfmat.training.checkpoint import Checkpoint

        return Checkpoint.read(self.checkpoint).history if self.checkpoint.exists() else []

    @property
    def unfinished(self) -> bool:
        """Whether there is a run to continue."""
        return (self.path / SETTINGS).is_file()

    def create(self, settings: Settings, *, overwrite: bool) -> None:
        """Begin a run.

        Raises:
            InputError: one is there already and `overwrite` is not set, or the folder cannot be made.
        """
        if overwrite and self.unfinished:
            shutil.rmtree(self.path)
        self._made = missing(self.path.parent)
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            raise InputError(
                f"{self.path} holds an unfinished run", expected="--resume to continue it or --overwrite to replace it"
            ) from None
        except OSError as error:
            raise InputError(
                f"a folder cannot be created there ({error.strerror})", file=str(self.path), expected="--out with another path"
            ) from None
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(settings)}, indent=2)
        (self.path / SETTINGS).write_text(text + "\n", encoding="utf-8")

    def settings(self) -> Settings:
        """Read the settings of the run in the folder."""
        path = self.path / SETTINGS
        if not path.is_file():
            if (self.out / "config.json").is_file():
                raise InputError("the training is finished, there is nothing to continue", file=str(self.out))
            raise InputError(
                f"no unfinished run: {path} is missing", file=str(self.out), expected="the --out of an interrupted tfmat train"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise InputError("begun by another version of tfmat", file=str(path), expected="that version, or a new run")
            return Settings(**content)
        except InputError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"it cannot be read ({error})", file=str(path), expected="a file written by tfmat train") from None

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace the history by that of the checkpoint from which the run goes on."""
        (self.path / HISTORY).unlink(missing_ok=True)
        for row in rows:
            self.append_history(row)

    def append_history(self, row: Mapping[str, float]) -> None:
        """Add a finished epoch to the history."""
        path = self.path / HISTORY
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(row)
            writer.writerow(row.values())

    def discard(self) -> None:
        """Remove the folder, and the parents that `create` made if they are empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        remove_empty(self._made)


def opened(path: Path) -> TrainingFolder:
    """Open the folder for ``--resume``, which may be given as ``runs/x`` or as ``runs/x.training``."""
    return TrainingFolder(path.with_name(path.name.removesuffix(SUFFIX)) if path.name.endswith(SUFFIX) else path)


def check_replaceable(out: Path, overwrite: bool, table: str | None = None) -> None:
    """Refuse a path at which a model cannot be written: a taken one, or with `overwrite` one that holds no model.

    Of a folder of results, `table` is the file in it by which it is known.
    """
    if out.exists() and not overwrite:
        raise InputError("it exists already", file=str(out), expected="a new --out, or --overwrite")
    if out.exists() and not (out / (table or "config.json")).is_file():
        what = "it is no model" if table is None else f"it holds no {table}"
        expected = "a model's folder or a new path" if table is None else "an earlier --out of this command"
        raise InputError(f"{what}, so it is not overwritten", file=str(out), expected=expected)


def stem(data: str | Sequence[str]) -> str:
    """Turn a dataset's name, or a file's without folder and endings, into a part of a file name; several are joined by ``-``."""
    if not isinstance(data, str):
        return "-".join(map(stem, data))
    name = data if "/fold" in data else Path(data).name
    name = re.sub(r"\.(csv|jsonl)(\.gz)?$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "data"


def default_out(architecture: str, data: str | Sequence[str], progress: Progress = SILENT) -> Path:
    """Find the first free path of ``runs/<architecture>-<data>``, ``...-2``, ``...-3``; unfinished runs on the way are told."""
    base = f"{architecture}-{stem(data)}"
    number = 1
    while True:
        folder = TrainingFolder(Path("runs", base if number == 1 else f"{base}-{number}"))
        if not folder.out.exists():
            if not folder.path.exists():
                return folder.out
            progress.tell(f"{folder.path} is unfinished; to continue it: tfmat train --resume {shlex.quote(str(folder.out))}")
        number += 1
