"""The model card: what a model predicts, how well, from which data, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmat.architecture import get
from tfmat.elements import SYMBOLS


def format_score(name: str, value: float, unit: str) -> str:
    """A score with its unit: errors carry the target's unit, ratios none."""
    if name == "n":
        return f"{int(value):,}"
    text = f"{value:.4g}"
    return f"{text} {unit}".rstrip() if name in ("MAE", "RMSE") else text


def score_lines(values: Mapping[str, float], unit: str) -> list[tuple[str, str]]:
    """Name and formatted value of each score: the main one (MAE or ROC-AUC) first, the number of rows last."""
    first = ("MAE", "ROC-AUC", "accuracy")
    names = sorted(values, key=lambda name: (name == "n", first.index(name) if name in first else len(first)))
    return [("rows" if name == "n" else name, format_score(name, values[name], unit)) for name in names]


def model_card(config: Mapping[str, Any], *, parameters: int, title: str, uncertain: bool) -> str:
    """Markdown from the config of a model directory.

    Args:
        config: see `Predictor.to_config`.
        parameters: of the model.
        title: one line about the architecture.
        uncertain: whether the model predicts its uncertainty.
    """
    info, targets = config["info"], config["targets"]
    names = ", ".join(f"{t['name']} [{t['unit'] or 'no unit'}]" for t in targets)
    lines = [
        f"# {config['architecture']}: {', '.join(t['name'] for t in targets)}",
        "",
        f"Predicts **{names}**.",
        "",
        f"{title}; {parameters:,} parameters.",
        "",
    ]
    if caveat := get(config["architecture"]).depends_on_cell(config["keywords"]):
        lines += [f"**{caveat}**", ""]
    lines += _scores(info, {t["name"]: t["unit"] for t in targets}, uncertain)
    if "converted" in info:
        lines += _converted(config)
    if "recipe" in info or "converted" not in info:
        lines += _data(info) + _training(config)
    lines += _USE if get(config["architecture"]).material == "composition" else _USE_CRYSTALS
    return "\n".join([*lines, "", *(_ABOUT_UNCERTAINTY if uncertain else []), _ABOUT_DOMAIN])


_USE = """## Use

```python
from tfmat import Predictor

Predictor.load("THIS_FOLDER").predict(["Fe2O3", "NaCl"])
```
""".splitlines()

_USE_CRYSTALS = """## Use

```python
from pymatgen.core import Structure
from tfmat import Predictor

Predictor.load("THIS_FOLDER").predict([Structure.from_file("NaCl.cif")])
```
""".splitlines()

_ABOUT_UNCERTAINTY = """\
The uncertainty is the standard deviation of a Laplace distribution that the model predicts along with the value (aleatoric only),
scaled to the validation errors.
""".splitlines()

_ABOUT_DOMAIN = "Materials with elements outside the training set have `in_domain` false."

_ABOUT_COVERAGE = """\
`coverage` is the share of errors within the predicted uncertainty; a perfectly calibrated Laplace model has 0.757. The uncertainty
is scaled by one factor so that it has that coverage on these rows; what the network itself gave is the coverage before scaling.
""".splitlines()

_ABOUT_SCORES = """\
`MAD/MAE` compares with predicting the mean. Scores on the test split are computed by `tfmat evaluate` and lie in `evaluations/`.
""".splitlines()


def _scores(info: Mapping[str, Any], units: Mapping[str, str], uncertain: bool) -> list[str]:
    if "validation" not in info:
        return []
    lines = ["## Accuracy on the validation split", "", "| target | score | value |", "|---|---|---|"]
    for target, scores in info["validation"].items():
        lines += [f"| {target} | {name} | {format_score(name, value, units[target])} |" for name, value in scores.items()]
    return [*lines, "", *(_ABOUT_COVERAGE if uncertain else []), *_ABOUT_SCORES, ""]


def _data(info: Mapping[str, Any]) -> list[str]:
    data = info.get("dataset")
    elements = ", ".join(SYMBOLS[z] for z in info.get("elements", []))
    lines = ["## Data", ""]
    if data:
        sizes = " / ".join(f"{rows:,} {split}" for split, rows in data["rows"].items())
        kind = "official split" if data["official_split"] else "split by tfmat, not official"
        lines += [f"- {data['title']} (`{data['name']}`, version {data['version']}), {sizes} rows, {kind}"]
        lines += [
            f"- {label}: {data[key]}" for label, key in (("Licence", "licence"), ("Cite", "citation"), ("Source", "url")) if data.get(key)
        ]
        lines += [f"- SHA-256 of the training rows: `{data['train_sha256']}`"]
    else:
        lines += [f"- {info.get('training_rows', 0):,} training rows"]
    return [*lines, f"- {len(info.get('elements', []))} elements: {elements}", ""]


def _converted(config: Mapping[str, Any]) -> list[str]:
    """Lines about a model whose weights were read from another package's files."""
    info = config["info"]
    converted, elements = info["converted"], ", ".join(SYMBOLS[z] for z in info.get("elements", []))
    lines = ["## Origin", "", f"- {info.get('title', config['architecture'])}, trained by its authors, converted by tfmat"]
    lines += [f"- Weights: `{converted['file']}` ({converted['format']}), SHA-256 `{converted['sha256']}`"]
    keys = {"Reported error": "reported_error", "Training set": "training_set", "Licence": "licence", "Cite": "citation", "Source": "url"}
    lines += [f"- {label}: {info[key]}" for label, key in keys.items() if info.get(key)]
    if "training_set" not in info and "description" in converted:
        lines += [f"- Its authors say: {converted['description']}"]
    if info.get("fidelities"):
        state = config["featurizer"]["config"].get("state")
        chosen = f"; without one a crystal is taken as {int(state[0])}" if state else ""
        lines += [f"- Fidelities, the `state` of a crystal: {', '.join(f'{i} {x}' for i, x in enumerate(info['fidelities']))}{chosen}"]
    lines += [f"- Assumed: {note}" for note in info.get("notes", [])]
    keywords = ", ".join(f"{key}={value}" for key, value in config["keywords"].items()) or "defaults"
    return [*lines, f"- Builder keywords: {keywords}", f"- {len(info.get('elements', []))} elements: {elements}", ""]


def _training(config: Mapping[str, Any]) -> list[str]:
    info = config["info"]
    recipe = ", ".join(f"{key} {value}" for key, value in info.get("recipe", {}).items() if value is not None and value not in ((), []))
    keywords = ", ".join(f"{key}={value}" for key, value in config["keywords"].items()) or "defaults"
    versions = ", ".join(f"{package} {version}" for package, version in info.get("versions", {}).items())
    if "recipe" not in info:
        own = "- Trained with Keras' own `fit`, or not at all"
        return ["## Training", "", f"- Builder keywords: {keywords}", own, *_transfer(info), f"- Versions: {versions}", ""]
    date = f", {info['date']}" if "date" in info else ""
    seconds = f"{info.get('training_seconds')} s on {info.get('hardware')}{date}"
    strategy = f", {info['strategy']}" if "strategy" in info else ""
    best = f", of which the weights of epoch {info['best_epoch']} are kept" if "best_epoch" in info else ""
    return [
        "## Training",
        "",
        f"- Builder keywords: {keywords}",
        f"- Recipe: {recipe}",
        *_transfer(info),
        f"- {info.get('epochs', 0)} epochs{best} at batch size {info.get('batch_size')}, seed {info.get('seed')}{strategy}, {seconds}",
        f"- Versions: {versions}",
        "",
    ]


def _transfer(info: Mapping[str, Any]) -> list[str]:
    lines = []
    if "init" in info:
        init = info["init"]
        new = ", ".join([*init["replaced"], *init["missing"], *init["different_shape"]]) or "none"
        source = f"`{init['source']}`, a {init['architecture']} of {', '.join(init['targets'])}"
        lines += [f"- Initial weights: {init['loaded']} from {source} (SHA-256 of its weights `{init['weights_sha256']}`); new: {new}"]
    if "frozen" in info:
        lines += [f"- Layers that were not trained: {', '.join(info['frozen'])}"]
    return lines
