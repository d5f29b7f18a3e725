"""``tfmat explain``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfmat.cli.errors import tell
from tfmat.cli.predict import load_and_collect
from tfmat.cli.progress import SHOWN, new_folder
from tfmat.cli.tables import MODEL_HELP, aligned, number
from tfmat.errors import InputError
from tfmat.runs.folder import check_replaceable

if TYPE_CHECKING:
    import pandas as pd

    from tfmat.analysis.explain import Contributions, Explanation
    from tfmat.predictor import Predictor

PRINTED = 60
"""Most sites that are printed one by one; of larger crystals the sums over the sites of each element are printed."""


def explain(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    materials: Annotated[
        list[str], typer.Argument(metavar="MATERIAL...", help="Formulas, structure files, folders, CSV or JSON lines files.")
    ],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write tables with all digits and plots to this new folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier --out.")] = False,
) -> None:
    """Tell which elements of a formula, or sites of a crystal, a prediction comes from.

    The contributions are in the target's unit: with the base, which is the mean of the training values, their sum is the prediction. They
    are exact where the output is a mean over elements or sites, as in L-G-DCNN. Otherwise they are integrated gradients of the part of the
    network that makes one vector of all sites; that is an approximation, and the table says so. The attention that elements or sites get
    is listed where the network has such weights.

    \b
    Examples:
      tfmat explain runs/lgdcnn-exp_formation_enthalpy Fe2O3
      tfmat explain runs/megnet NaCl.cif --out explained/
      tfmat explain mp-2018.6.1/formation_energy POSCAR
    """  # noqa: D301
    if out is not None:
        check_replaceable(out, overwrite, "contributions.csv")
    predictor, wanted = load_and_collect(model, materials, [])
    from tfmat.analysis.explain import Explainer
    from tfmat.analysis.explain.results import write_results

    explainer = Explainer(predictor)
    found: list[tuple[str, Explanation]] = []
    failed = 0
    with SHOWN.rows("explaining") as report:
        for done, material in enumerate(wanted, 1):
            try:
                if material.error is not None:
                    raise InputError(material.error)
                explanation = explainer(material.value)
                found.append((material.identifier or explanation.material, explanation))
            except InputError as error:
                failed += 1
                tell(f"{material.place}{InputError(error.problem, expected=error.expected)}")
            report(done, len(wanted))
    _warn(predictor, found)
    if found:
        print("\n\n".join(_text(name, explanation) for name, explanation in found))
    if out is not None and found:
        with new_folder(out, overwrite) as folder:
            write_results(folder, found)
        tell(f"written to {out}")
    if failed:
        raise typer.Exit(2)


def _warn(predictor: Predictor, found: Sequence[tuple[str, Explanation]]) -> None:
    """Warn of elements that the model has not learnt, and of integrals that did not converge."""
    from tfmat.elements import SYMBOLS

    known = predictor.info.get("elements")
    for name, explanation in found:
        unseen = [] if known is None else sorted({int(z) for z in explanation.species} - set(known))
        if unseen:
            tell(f"warning: {name} holds elements that did not occur in training: {', '.join(SYMBOLS[z] for z in unseen)}")
        for part in explanation.targets.values():
            if part.error > 0.01 * abs(part.prediction - part.base):
                text = f"the integral for {part.target.name} is {number(part.error)} {part.unit} off"
                tell(f"warning: {name}: {text.rstrip()}; equal parts of that are in every contribution")


def _text(name: str, explanation: Explanation) -> str:
    """Write what is printed of one material."""
    lines = [name if name == explanation.material else f"{name} ({explanation.material})"]
    for part in explanation.targets.values():
        rest = f"{_plus(part.rest)} (whole crystal)" if part.rest else ""
        value = f"{number(part.prediction)} {part.unit}".rstrip()
        lines.append(f"{part.target.name} = {value} = {number(part.base)} (base){_plus(part.sites.sum())} (sum of contributions){rest}")
        lines.append(_method(part, explanation))
    frame = explanation.frame()
    if explanation.crystal is not None and len(frame) > PRINTED:
        sums = [column for column in frame if "_contribution" in str(column)]
        frame = frame.groupby("element", sort=False).agg({"site": "count"} | dict.fromkeys(sums, "sum")).reset_index()
        frame = frame.rename(columns={"site": "sites"})
    if len(explanation.targets) == 1:  # its name stands above
        (target,) = explanation.targets
        frame = frame.rename(columns={column: str(column).removeprefix(f"{target}_") for column in frame})
    return "\n".join([*lines, _table(frame)])


def _plus(value: float) -> str:
    return f" {'-' if value < 0 else '+'} {number(abs(value))}"


def _method(part: Contributions, explanation: Explanation) -> str:
    kind = "elements" if explanation.crystal is None else "sites"
    if part.method == "exact":
        line = f"  exact: the output is the mean of what the head gives for the single {kind} (before_mean)"
    else:
        line = f"  integrated gradients of the readout: an approximation of what the {kind} add, not a property of these {kind} alone"
    if part.target.task == "regression" and part.target.transform == "none":
        return line
    scale = "logit" if part.target.task == "binary" else "log10"
    return f"{line}; the output is a {scale}, of which contributions have the same parts as of the prediction"


def _table(frame: pd.DataFrame) -> str:
    texts = [[value if isinstance(value, str) else number(float(value)) for value in row] for row in frame.itertuples(index=False)]
    header = [str(name) for name in frame]
    return aligned(header, texts, right=[i for i, name in enumerate(header) if name != "element"])
