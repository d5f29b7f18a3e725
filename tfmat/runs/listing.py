"""What there is: architectures with their presets, and the trained models in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tfmat
from tfmat.errors import InputError
from tfmat.runs.folder import SUFFIX, TrainingFolder


def described_architectures(load: Callable[[], None]) -> list[dict[str, Any]]:
    """Describe the architectures. Models must be built for that, so the description is kept as long as their code stays as it is.

    Args:
        load: imports Keras, if it is needed.
    """
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
    load()
    found = _described()
    with contextlib.suppress(InputError), staged(file, overwrite=True) as temporary:
        temporary.write_text(json.dumps({"state": state, "architectures": found}), encoding="utf-8")
    return found


def _state() -> str:
    """Make a key of the code of all models: its version, and names, sizes and times of its files."""
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


def trained_models(runs: Path) -> list[dict[str, str]]:
    """List finished and unfinished models directly below `runs`: path, targets, validation score, data and date of each."""
    return [_entry(folder) for folder in sorted(runs.iterdir()) if _is_model(folder)] if runs.is_dir() else []


def _is_model(folder: Path) -> bool:
    if folder.name.startswith("."):
        return False
    return (folder / "config.json").is_file() or (folder.name.endswith(SUFFIX) and (folder / "run.json").is_file())


def _entry(folder: Path) -> dict[str, str]:
    from tfmat.model_directory.files import read_config

    try:
        if folder.name.endswith(SUFFIX):
            run = TrainingFolder(folder.with_name(folder.name.removesuffix(SUFFIX)))
            settings = run.settings()
            data = settings.label if isinstance(settings.label, str) else " + ".join(settings.label)
            note = f"unfinished: tfmat train --resume {run.out}"
            return {"path": str(run.out), "targets": _named(settings.targets), "validation": note, "data": data, "date": ""}
        config = read_config(folder)
        info, targets = config["info"], config["targets"]
        scores = [_main_score(info.get("validation", {}).get(target["name"], {}), target["unit"]) for target in targets]
        data = (info.get("dataset") or {}).get("name", "")
        return {
            "path": str(folder),
            "targets": _named(targets),
            "validation": ", ".join(scores),
            "data": data,
            "date": info.get("date", ""),
        }
    except (InputError, KeyError, TypeError, AttributeError) as error:
        return {"path": str(folder), "targets": "cannot be read", "validation": str(error), "data": "", "date": ""}


def _named(targets: list[dict[str, Any]]) -> str:
    return ", ".join(f"{target['name']} [{target['unit']}]" if target["unit"] else target["name"] for target in targets)


def _main_score(scores: dict[str, float], unit: str) -> str:
    from tfmat.model_directory.card import format_score

    name = next((name for name in ("MAE", "ROC-AUC", "accuracy") if name in scores), None)
    return f"{name} {format_score(name, scores[name], unit)}" if name else ""
