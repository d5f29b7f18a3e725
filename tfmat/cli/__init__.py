"""The command ``tfmat``: results go to stdout, everything else to stderr; bad input is one line and exit code 2.

Nothing heavy is imported here: ``tfmat --help`` needs neither NumPy nor TensorFlow. Each command imports what it uses.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, NoReturn

import typer

from tfmat import __version__
from tfmat.cli import cache, convert, datasets
from tfmat.cli.cecv import cecv
from tfmat.cli.errors import describe_error, tell
from tfmat.cli.evaluate import evaluate
from tfmat.cli.explain import explain
from tfmat.cli.export import export
from tfmat.cli.inspect import inspect
from tfmat.cli.models import models
from tfmat.cli.predict import predict
from tfmat.cli.report import report
from tfmat.cli.serve import serve
from tfmat.cli.train import train
from tfmat.cli.tune import tune
from tfmat.memory import keep_memory
from tfmat.runs.settings import known
from tfmat.signals import handled_by, raising

LEVELS = ("debug", "info", "warning", "error")
_BROKEN_PIPE = 141
_Usage = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(name="tfmat", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
for _command in (train, tune, predict, evaluate, report, explain, cecv, export, inspect, serve, models):
    app.command()(_command)
app.add_typer(datasets.app, name="datasets")
app.add_typer(cache.app, name="cache")
app.add_typer(convert.app, name="convert")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tfmat {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")] = False,
    log_level: Annotated[str, typer.Option(metavar="|".join(LEVELS), help="What is told on stderr; debug shows tracebacks.")] = "warning",
) -> None:
    """Predict properties of materials with Keras models: a formula goes in, a number with its unit comes out.

    \b
    Examples:
      tfmat train lgdcnn
      tfmat predict runs/lgdcnn-exp_formation_enthalpy Fe2O3 NaCl
      tfmat evaluate runs/lgdcnn-exp_formation_enthalpy
      tfmat report runs/lgdcnn-exp_formation_enthalpy
      tfmat explain runs/lgdcnn-exp_formation_enthalpy Fe2O3
      tfmat export runs/lgdcnn-exp_formation_enthalpy --format savedmodel
      tfmat inspect lgdcnn-exp_formation_enthalpy.savedmodel
    """  # noqa: D301
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("tfmat").setLevel(known("log level", log_level, LEVELS).upper())
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: default: those of the process.
    """
    keep_memory()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    with _logging(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(?!tfmat)")
        try:
            with handled_by(raising):
                code = app(args=list(arguments), prog_name="tfmat", standalone_mode=False)
                sys.stdout.flush()
        except BrokenPipeError:
            return _nobody_reads()
        except BaseException as error:
            return _failed(error)
    if code == 130:  # typer turns KeyboardInterrupt into this code
        tell("interrupted")
    return code if isinstance(code, int) else 0


def _failed(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        raise error
    if logging.getLogger("tfmat").level == logging.DEBUG:
        traceback.print_exception(error)
    if isinstance(error, typer.Abort):
        error = KeyboardInterrupt()
    if isinstance(error, _Usage):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "tfmat"
        text = str(getattr(error, "format_message", error.__str__)())
        tell(" ".join(text.split()) + f" (see {command} --help)")
        return 2
    message, code = describe_error(error)
    tell(message)
    return code


def _nobody_reads() -> int:
    """End quietly where nobody reads stdout any more, as after ``tfmat datasets | head -1``."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BROKEN_PIPE


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Write log records to stderr, one line each, for as long as the block runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("tfmat: %(message)s"))
    root, own = logging.getLogger(), logging.getLogger("tfmat")
    levels = root.level, own.level
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        own.setLevel(levels[1])
