"""``tfmat datasets``: the list, ``info`` and ``build``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmat.cli.errors import tell
from tfmat.cli.pack import pack
from tfmat.cli.progress import SHOWN, load_tensorflow, rows_done, task
from tfmat.cli.tables import aligned, number, with_unit
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.datasets import Dataset, Listing, Statistics

app = typer.Typer(rich_markup_mode=None, add_completion=False, invoke_without_command=True)
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HINT = """
What is not here is downloaded on first use: composition sets and elastic_tensor_2015 from PyPI (with pip, checked against a SHA-256),
crystal sets from their publishers. Set TFMAT_DATA_DIR to a folder that holds them and nothing is downloaded; sets without a size may need
it. `tfmat datasets info NAME` opens one, and says what is missing if it cannot."""


@app.callback()
def datasets(ctx: typer.Context, as_json: _Json = False) -> None:
    """List the datasets, whether or not they are on this machine.

    \b
    Examples:
      tfmat datasets
      tfmat datasets info exp_formation_enthalpy
      tfmat datasets info my_cifs/ --plot gaps.png
      tfmat datasets build mp2018_subset
      tfmat datasets pack mp2018_subset --for crysformer
      tfmat train lgdcnn --data exp_formation_enthalpy
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return
    from tfmat.datasets import describe

    listings = describe()
    if as_json:
        print(json.dumps([dataclasses.asdict(listing) for listing in listings], indent=2))
        return
    header = ["dataset", "material", "rows", "train/validation/test", "targets", "size", "here", "licence"]
    print(aligned(header, [_line(entry) for entry in listings], right=[2, 5]))
    if not all(entry.present for entry in listings):
        print(_HINT)


def _line(entry: Listing) -> list[str]:
    from tfmat.datasets import DEFAULT

    targets = ", ".join(with_unit(name, unit) for name, unit in entry.units.items())
    here = "default" if entry.name == DEFAULT else "yes" if entry.present else "no"
    parts = "/".join(f"{entry.splits[name]:,}" for name in ("train", "validation", "test") if name in entry.splits)
    folds = f"/fold0-{entry.folds - 1}" if entry.folds else ""
    splits = " or ".join(text for text in (parts, folds) if text)
    return [entry.name, entry.material, f"{entry.rows:,}", splits, targets, size(entry.size), here, entry.licence]


def size(count: int | None) -> str:
    """Write a number of bytes as ``46.6 MB``; unknown ones are empty."""
    if count is None:
        return ""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count} B"


@app.command()
def info(
    data: Annotated[str, typer.Argument(metavar="NAME|FILE|FOLDER", help="A dataset, or a file or folder as for `tfmat train --data`.")],
    target: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of a file: which columns; repeatable.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Where the histogram goes. Default: NAME-histogram.png here.")
    ] = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw nothing.")] = False,
    as_json: _Json = False,
) -> None:
    """Statistics of a dataset, or of your own file, and a histogram of its targets.

    \b
    Examples:
      tfmat datasets info exp_formation_enthalpy
      tfmat datasets info my.csv --target band_gap --plot gaps.png
    """  # noqa: D301
    if plot is not None and (plot.suffix.lower() != ".png" or plot.is_dir()):
        raise InputError(f"--plot {str(plot)!r} is no PNG file", expected="a name ending in .png")
    from tfmat.data.cache import RecordCache
    from tfmat.datasets.statistics import statistics
    from tfmat.runs.data import open_dataset

    dataset = open_dataset(data, target, progress=SHOWN, cache=RecordCache())
    if summary := getattr(dataset, "summary", ""):
        tell(summary)
    with task(f"counting the elements of {data}"):
        found = statistics(dataset)
    if as_json:
        print(json.dumps(dataclasses.asdict(found) | {"rows": found.rows}, indent=2))
    else:
        print(_text(found, dataset))
    if not no_plot:
        _draw(dataset, data, plot, as_json)


def _text(found: Statistics, dataset: Dataset) -> str:
    splits = ", ".join(f"{split} {rows:,}" for split, rows in found.splits.items())
    kind = "published" if dataset.official_split else "by tfmat"
    low, middle, high = found.components
    rows = [
        ["material", found.material],
        ["rows", f"{found.rows:,}"],
        ["splits", f"{splits} ({kind})"],
        ["formulas", f"{found.formulas:,} different"],
        ["elements", f"{len(found.elements)}, most often {_frequent(found)}"],
        ["in a material", f"{low} to {high} elements, median {middle:g}"],
    ]
    if found.sites is not None:
        rows.append(["sites", f"{found.sites[0]:,} to {found.sites[2]:,}, median {found.sites[1]:g}"])
    rows += [[name, text] for name, text in (("licence", dataset.licence), ("from", dataset.url)) if text]
    header = ["target", "values", "missing", "min", "max", "mean", "MAD"]
    targets = [
        [with_unit(name, v.unit), f"{v.count:,}", f"{v.missing:,}", *(number(x) for x in (v.min, v.max, v.mean, v.mad))]
        for name, v in found.targets.items()
    ]
    table = aligned(header, targets, right=range(1, len(header)))
    return f"{aligned([found.name, found.title], rows)}\n\n{table}\nMAD: mean absolute deviation, the error of always predicting the mean"


def _frequent(found: Statistics, most: int = 8) -> str:
    listed: Sequence[tuple[str, int]] = list(found.elements.items())[:most]
    return ", ".join(f"{symbol} ({count:,})" for symbol, count in listed)


def _draw(dataset: Dataset, data: str, plot: Path | None, quietly: bool) -> None:
    from tfmat.analysis import figures
    from tfmat.runs.folder import stem

    if not figures.can_plot():
        return
    from tfmat.analysis.plots import dataset_histogram
    from tfmat.atomic import staged

    path = plot or Path(f"{stem(data)}-histogram.png")
    with task(f"drawing {path}"), staged(path, overwrite=True) as temporary:
        dataset_histogram(dataset, temporary)
    (tell if quietly else print)(f"histogram written to {path}")


app.command()(pack)


@app.command()
def build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `tfmat datasets`.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Build it again where it has been built.")] = False,
) -> None:
    """Download a dataset and build it for `tfds.load`, in TFDS_DATA_DIR (~/tensorflow_datasets).

    \b
    Examples:
      tfmat datasets build exp_formation_enthalpy
      tfmat datasets build mp2018_subset --overwrite
    """  # noqa: D301
    from tfmat.datasets import check_name
    from tfmat.datasets.registry import find, prepared_directory

    check_name(name)
    found = find(name)
    if found is None:
        raise InputError(f"{name!r} is a file", expected="the name of a dataset; files are read as they are")
    source = found[0]
    ready = prepared_directory(source) is not None and not overwrite
    load_tensorflow()
    folder = _built(name, overwrite)
    print(f"{source.name}: {source.rows:,} rows {'were built already' if ready else 'built'} in {folder}")
    print(f'  in Python: import tfmat.datasets, tensorflow_datasets as tfds; tfds.load("{source.tfds_name}")')


def _built(name: str, overwrite: bool) -> Path:
    """Build the dataset, with a progress line or bar per split."""
    from tfmat import datasets as library

    shown: dict[str, Callable[[int, int], Any]] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(task(f"getting the files of {name}"))

        def progress(split: str, done: int, total: int) -> None:
            if split not in shown:
                stack.close()
                shown[split] = stack.enter_context(rows_done(f"building {name}, {split}"))
            shown[split](done, total)

        return library.build(name, overwrite=overwrite, progress=progress)
