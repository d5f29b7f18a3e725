"""``tfmat cecv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfmat.cli.errors import tell
from tfmat.cli.evaluate import SPLITS
from tfmat.cli.progress import SHOWN, load_tensorflow, new_folder
from tfmat.cli.tables import MODEL_HELP, aligned, names_of_models, shortened
from tfmat.errors import InputError
from tfmat.runs.data import is_path, open_dataset
from tfmat.runs.evaluate import given_or_own, own_dataset, rows_of
from tfmat.runs.folder import check_replaceable
from tfmat.runs.settings import known

if TYPE_CHECKING:
    from tfmat.analysis.cecv import CECV, Environment
    from tfmat.data.table import Table
    from tfmat.predictor import Predictor

CLUSTERINGS = ("leader", "legacy")


def cecv(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help=MODEL_HELP)],
    data: Annotated[
        str | None, typer.Option(metavar="NAME|FILE|FOLDER", help="Compounds. Default: what the first model was trained on.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="|".join(SPLITS), help="Default: test; all of a file that is not the first model's.")
    ] = None,
    element: Annotated[str, typer.Option(metavar="SYMBOL", help="The probe element.")] = "Si",
    layer: Annotated[
        str, typer.Option(metavar="NAME", help="Layer with features of each element; readout: what the head reads, as in the paper.")
    ] = "readout",
    clustering: Annotated[str, typer.Option(metavar="|".join(CLUSTERINGS), help="legacy: as the published scripts count.")] = "leader",
    compound: Annotated[
        str | None, typer.Option(metavar="FORMULA", help="For the heat map. Default: the first of those with most elements.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write tables and plots to this new folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier --out.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Compounds at a time.")] = 256,
) -> None:
    """Count how many chemical environments of an element a model tells apart (CECV).

    Of every compound of 3 to 7 elements with the probe element, the features of its elements are correlated with each other, and the
    correlation matrices are clustered at tolerances from 0.05 to 0.40: many clusters mean a local model, few a global one. Variants lstm
    and dcnn_k1 among the models are drawn as the global and the local reference.

    \b
    Examples:
      tfmat cecv runs/lgdcnn --data aflow__Egap --element Si
      tfmat cecv runs/lstm runs/dcnn_k1 runs/lgdcnn --element O --out cecv/
      tfmat cecv runs/lgdcnn --data compounds.csv --element O --layer block3_conv2
    """  # noqa: D301
    known("clustering", clustering, CLUSTERINGS)
    if split is not None:
        known("split", split, SPLITS)
    if out is not None:
        check_replaceable(out, overwrite, "cecv.csv")
    load_tensorflow()
    from tfmat.analysis.cecv import cecv as count
    from tfmat.analysis.cecv import environment
    from tfmat.analysis.cecv.results import example_compound, write_results

    predictors = _loaded(models)
    table, source = _compounds(predictors, models[0], data, split)
    maps: dict[str, Environment] = {}
    if out is not None:
        (first, *_) = predictors.values()
        compound = compound or example_compound(first, table, element)
        maps = {name: environment(predictor, compound, layer) for name, predictor in predictors.items()}
    found: dict[str, CECV] = {}
    for name, predictor in predictors.items():
        with SHOWN.rows(f"environments of {name}") as report:
            found[name] = count(
                predictor, table.materials, element, layer=layer, clustering=clustering, batch_size=batch_size, report=report,  # type: ignore[arg-type]
            )  # fmt: skip
    found_roles = {name: predictor.architecture.reference_role(predictor.keywords) for name, predictor in predictors.items()}
    roles = {name: role for name, role in found_roles.items() if role is not None}
    _print(found, roles, source)
    if out is not None:
        with new_folder(out, overwrite) as folder:
            write_results(folder, found, roles, maps, str(compound))
        tell(f"written to {out}")


def _loaded(models: Sequence[Path]) -> dict[str, Predictor]:
    """Load the models and name them by their folders, or by their whole paths where folders have the same name."""
    from tfmat.analysis.cecv.environments import check_composition_model
    from tfmat.predictor import Predictor

    names = names_of_models(models)
    if len(set(names)) < len(names):
        raise InputError(f"{names[0]} is given twice" if len(names) == 2 else "a model is given twice", expected="each model once")
    predictors = {}
    for name, path in zip(names, models, strict=True):
        predictors[name] = Predictor.load(path)
        check_composition_model(predictors[name])
    return predictors


def _compounds(predictors: Mapping[str, Predictor], model: Path, data: str | None, split: str | None) -> tuple[Table, str]:
    """Read the compounds; the second value is what they are called."""
    from tfmat.data.read.user_data import read_user_data
    from tfmat.model_directory.files import model_folder

    (predictor, *_) = predictors.values()
    names, same = given_or_own(predictor, data)
    data = " + ".join(names)
    if not same and is_path(data):
        if split not in (None, "all"):
            raise InputError(f"{data} has no split that the models know", expected="no --split, which takes all rows")
        with SHOWN.rows(f"reading {data}") as report:
            found = read_user_data(data, material="composition", require_targets=False, report=report)
        if found.rejections:
            tell(f"{len(found.rejections):,} of {found.read:,} rows cannot be read and are left out; the first is {found.rejections[0]}")
        return found.table, data
    dataset = own_dataset(predictor, model_folder(model), names, None, SHOWN) if same else open_dataset(names, None, progress=SHOWN)
    split = split or "test"
    return rows_of(dataset, split), f"{data}, {split}"


def _print(found: Mapping[str, CECV], roles: Mapping[str, str], source: str) -> None:
    from tfmat.analysis.cecv import TOLERANCES

    (first, *_) = found.values()
    counts = ", ".join(f"{number:,} of {size} elements" for size, number in first.compounds.items() if number)
    print(f"{source}: {sum(first.compounds.values()):,} compounds with {first.element} ({counts})")
    print(f"layer {first.layer}, clustering {first.clustering}\n")
    header = ["clusters at tolerance", *(f"{tolerance:.2f}" for tolerance in TOLERANCES)]
    rows = [[shortened(_labelled(name, roles)), *map(str, one.vector.tolist())] for name, one in found.items()]
    print(aligned(header, rows, right=range(1, len(header))))
    header[0] = "retention rate"
    rows = [[shortened(_labelled(name, roles)), *(f"{rate:.3f}" for rate in one.retention)] for name, one in found.items()]
    print(f"\n{aligned(header, rows, right=range(1, len(header)))}")


def _labelled(name: str, roles: Mapping[str, str]) -> str:
    return f"{name} ({roles[name]})" if name in roles else name
