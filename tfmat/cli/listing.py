"""``tfmat models``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import tfmat
from tfmat.cli.quiet import load_tensorflow
from tfmat.cli.runs import SUFFIX, TrainingFolder
from tfmat.cli.tables import aligned, with_unit
from tfmat.errors import InputError

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def models(
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where trained models are looked for.")] = Path("runs"),
    as_json: _Json = False,
) -> None:
    """List the architectures with their presets (published weights, obtained when first used), and the trained models in ./runs.

    \b
    Examples:
      tfmat models
      tfmat models --json
    """  # noqa: D301
    families, trained = _architectures(), _trained(runs)
    if as_json:
        print(json.dumps({"architectures": families, "models": trained}, indent=2))
        return
    for family in families:
        print(f"{family['name']}: {family['title']}")
        print(f"  takes a {family['material']}; {family['parameters']:,} parameters by default")
        names = [f"{name} (default)" if name == family["default"] else name for name in family["variants"]]
        print(f"  variants: {', '.join(names) or 'none'}")
        print(f"  recipes: {', '.join(family['recipes'])}")
        for label in ("parts", "presets"):
            if family[label]:
                print(f"  {label}: {', '.join(family[label])}")
    print()
    if trained:
        rows = [[entry["path"], entry["targets"], entry["validation"], entry["data"], entry["date"]] for entry in trained]
        print(aligned(["trained model", "predicts", "validation", "data", "date"], rows))
    else:
        print(f"no trained models in {runs}; to train one: tfmat train {families[0]['name']}")


def _architectures() -> list[dict[str, Any]]:
    """What the registry holds. Models must be built to be described, so the description is kept as long as their code stays as it is."""
    if "keras" in sys.modules:
        return _described()
    from tfmat.atomic import staged
    from tfmat.datasets.fetch import cache_root

    file, state = cache_root() / "models" / "listing.json", _state()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["state"] == state:
            found: list[dict[str, Any]] = kept["architectures"]
            return found
    load_tensorflow()
    found = _described()
    with contextlib.suppress(InputError), staged(file, overwrite=True) as temporary:
        temporary.write_text(json.dumps({"state": state, "architectures": found}), encoding="utf-8")
    return found


def _state() -> str:
    """Of the code of all models: its version, and names, sizes and times of its files."""
    package = Path(tfmat.__file__).parent
    files = [*package.glob("*.py"), *package.glob("layers/*.py"), *package.glob("zoo/*.py"), *package.glob("zoo/conversion/*.py")]
    stats = sorted((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(repr((tfmat.__version__, stats)).encode()).hexdigest()


def _described() -> list[dict[str, Any]]:
    from tfmat.architecture import architectures

    return [
        {
            "name": family.name,
            "title": family.title,
            "material": family.material,
            "parameters": int(family.builder(**family.variant()).count_params()),
            "variants": list(family.variants),
            "default": family.default,
            "recipes": list(family.recipes),
            "parts": list(family.parts),
            "presets": list(family.presets),
        }
        for family in architectures().values()
    ]


def _trained(runs: Path) -> list[dict[str, str]]:
    """Finished and unfinished models directly below `runs`."""
    return [_entry(folder) for folder in sorted(runs.iterdir()) if _is_model(folder)] if runs.is_dir() else []


def _is_model(folder: Path) -> bool:
    if folder.name.startswith("."):
        return False
    return (folder / "config.json").is_file() or (folder.name.endswith(SUFFIX) and (folder / "run.json").is_file())


def _entry(folder: Path) -> dict[str, str]:
    from tfmat.model_directory.files import read_config

    try:
        if folder.name.endswith(SUFFIX):
            return _unfinished(folder)
        config = read_config(folder)
        info, targets = config["info"], config["targets"]
        named = ", ".join(with_unit(target["name"], target["unit"]) for target in targets)
        scores = [_main_score(info.get("validation", {}).get(target["name"], {}), target["unit"]) for target in targets]
        data = (info.get("dataset") or {}).get("name", "")
        return {"path": str(folder), "targets": named, "validation": ", ".join(scores), "data": data, "date": info.get("date", "")}
    except (InputError, KeyError, TypeError, AttributeError) as error:
        return {"path": str(folder), "targets": "cannot be read", "validation": str(error), "data": "", "date": ""}


def _unfinished(folder: Path) -> dict[str, str]:
    run = TrainingFolder(folder.with_name(folder.name.removesuffix(SUFFIX)))
    settings = run.settings()
    named = ", ".join(with_unit(target["name"], target["unit"]) for target in settings.targets)
    note = f"unfinished: tfmat train --resume {run.out}"
    return {"path": str(run.out), "targets": named, "validation": note, "data": settings.label, "date": ""}


def _main_score(scores: dict[str, float], unit: str) -> str:
    from tfmat.model_directory.card import format_score

    name = next((name for name in ("MAE", "ROC-AUC", "accuracy") if name in scores), None)
    return f"{name} {format_score(name, scores[name], unit)}" if name else ""
