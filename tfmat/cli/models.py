"""``tfmat models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tfmat.cli.progress import load_tensorflow
from tfmat.cli.tables import aligned
from tfmat.runs.listing import described_architectures, trained_models

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
    families, trained = described_architectures(load_tensorflow), trained_models(runs)
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
