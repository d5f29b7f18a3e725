"""``tfmat inspect``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmat.cli.progress import load_tensorflow, silent_stderr
from tfmat.cli.tables import aligned, with_unit
from tfmat.errors import InputError
from tfmat.runs.progress import shortened_list

if TYPE_CHECKING:
    from tfmat.export.inspect import Inspected


def inspect(
    path: Annotated[str, typer.Argument(metavar="DIR_OR_FILE", help="What `tfmat export` or `tfmat train` wrote, or a preset.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: signatures, and all that the model says about itself.")] = False,
) -> None:
    """Tell what an exported model takes and gives, in which units, and where it comes from.

    SavedModels, LiteRT and ONNX files, folders of trained models and presets. Of models that tfmat has not made: their
    signatures. Nothing is run.

    \b
    Examples:
      tfmat inspect serving/gap/1
      tfmat inspect megnet.tflite
      tfmat inspect runs/gap
      tfmat inspect mp-2018.6.1/formation_energy --json
    """  # noqa: D301
    found = _found(path)
    print(json.dumps(found.to_config(), indent=2) if as_json else _page(found))


def _found(path: str) -> Inspected:
    """Look at the file or folder; Keras is loaded, quietly, only for what needs it."""
    from pathlib import Path

    from tfmat.export.inspect import inspect as inspect_file

    quiet = Path(path).is_file() or (Path(path) / "assets.extra" / "tfmat.json").is_file()
    if not quiet:
        load_tensorflow()
    with silent_stderr():
        return inspect_file(path)


def _page(found: Inspected) -> str:
    size = f"{found.size_bytes / 1e6:.1f} MB"
    parts = [f"{found.path}: {found.kind}, {size}" + ("" if found.model else ", not made by tfmat: what its numbers mean is not told")]
    try:
        if found.model and not found.signatures:
            parts.append(_predicts(found.model))
        for name, signature in found.signatures.items():
            parts.append(_signature(name, signature))
        if found.model:
            parts.append(aligned(["provenance", ""], provenance(found.model)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"what it says about itself cannot be read ({error!r})", file=found.path) from None
    return "\n\n".join(parts)


def _signature(name: str, signature: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    rows = []
    for kind, key in (("takes", "inputs"), ("gives", "outputs")):
        for position, (tensor, about) in enumerate(signature[key].items()):
            shape = "(" + ", ".join(map(str, about["shape"])) + ")"
            named = with_unit(tensor, about.get("unit", ""))
            rows.append(["" if position else kind, named, about["dtype"], shape, about.get("meaning", "")])
    return f"signature {name}\n" + aligned(["", "name [unit]", "type", "shape", "meaning"], rows)


def _predicts(model: Mapping[str, Any]) -> str:
    material = "formulas" if model["featurizer"]["name"] == "CompositionFeaturizer" else "crystals"
    rows = [["takes", material, ""]]
    for position, target in enumerate(model["targets"]):
        meaning = "probability of class 1" if target["task"] == "binary" else "predicted value"
        rows.append(["" if position else "gives", with_unit(target["name"], target["unit"]), meaning])
    return aligned(["", "name [unit]", "meaning"], rows)


def provenance(model: Mapping[str, Any]) -> list[list[str]]:
    """Make the rows of a table: what the model is, its data with their licence, its training, its scores, and the versions.

    Args:
        model: content of ``tfmat.json`` or ``config.json``.
    """
    from tfmat.elements import SYMBOLS

    info, featurizer = model["info"], model["featurizer"]
    keywords = ", ".join(f"{key}={value}" for key, value in model["keywords"].items()) or "defaults"
    elements = [SYMBOLS[z] for z in info.get("elements") or []]
    rows = [
        ["architecture", f"{model['architecture']}, {keywords}"],
        ["featurizer", f"{featurizer['name']}, version {featurizer['version']}"],
        *_data(info),
        *([["elements", f"{len(elements)}: {shortened_list(elements, 20)}"]] if elements else []),
        *_training(info),
        *_scores(model),
    ]
    if "precision" in model:
        rows.append(["weights", model["precision"]])
    for loss in model.get("loss", []):
        lost = f"{loss['mae']:.2g} {loss['unit']}".rstrip()
        rows.append(["loss", f"{loss['target']}: mean {lost} on {loss['rows']} {loss['source']}"])
    for label, key in (("trained with", info.get("versions")), ("exported with", model.get("exported_with"))):
        if key:
            rows.append([label, ", ".join(f"{package} {version}" for package, version in key.items())])
    return rows


def _data(info: Mapping[str, Any]) -> list[list[str]]:
    """Tell data set, licence and citation, of tfmat's own runs and of converted weights."""
    data = info.get("dataset")
    rows = []
    if data:
        sizes = " / ".join(f"{count:,} {split}" for split, count in data["rows"].items())
        rows.append(["data", f"{data['name']}, version {data['version']}, {sizes} rows"])
    elif info.get("training_set"):
        rows.append(["data", info["training_set"]])
    about = data or info
    labels = (("licence", "licence"), ("cite", "citation"), ("source", "url"))
    rows += [[label, str(about[key])] for label, key in labels if about.get(key)]
    if not about.get("licence"):
        rows.append(["licence", "of the data: not told"])
    if "converted" in info:
        rows.append(["weights from", f"{info['converted']['file']}, SHA-256 {info['converted']['sha256']}"])
    return rows


def _training(info: Mapping[str, Any]) -> list[list[str]]:
    if "epochs" not in info:
        return []
    date = f"{info['date']}, " if info.get("date") else ""
    return [["trained", f"{date}{info['epochs']} epochs, seed {info.get('seed')}, on {info.get('hardware')}"]]


def _scores(model: Mapping[str, Any]) -> list[list[str]]:
    from tfmat.model_directory.card import score_lines

    info, units = model["info"], {target["name"]: target["unit"] for target in model["targets"]}
    rows = [["reported error", info["reported_error"]]] if info.get("reported_error") else []
    for target, scores in (info.get("validation") or {}).items():
        given = {name: value for name, value in scores.items() if value is not None}
        told = ", ".join(f"{name} {text}" for name, text in score_lines(given, units.get(target, "")))
        rows.append(["validation", f"{target}: {told}"])
    return rows
