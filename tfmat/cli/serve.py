"""``tfmat serve``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tfmat.cli.errors import CommandError, tell
from tfmat.cli.export import REPOSITORY, export_to_repository

SERVER = "tensorflow_model_server"


def serve(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL|REPO", help="A repository written by `tfmat export --format serving`, a run or a preset.")
    ],
    out: Annotated[Path, typer.Option(metavar="REPO", help="Repository that a run or a preset is exported to first.")] = Path(REPOSITORY),
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run or preset on the server (default: its own).")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Of REST.")] = 8501,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Of gRPC.")] = 8500,
    batching: Annotated[
        bool,
        typer.Option("--batching/--no-batching", help="Join requests as batching.config says; one refused refuses those joined with it."),
    ] = False,
) -> None:
    """Serve models with TensorFlow Serving, until it is stopped.

    Starts tensorflow_model_server if it is on the PATH. Otherwise prints the docker command that serves the same, and ends with exit
    code 0.

    \b
    Examples:
      tfmat serve serving/
      tfmat serve runs/gap --out serving/ --port 8080
      $(tfmat serve serving/)                         runs the docker command
    """  # noqa: D301
    if port == grpc_port:
        raise CommandError(f"REST and gRPC cannot both have port {port}")
    from tfmat.export.serving import MODELS

    repository = model
    if not (model / MODELS).is_file():
        if model.is_dir() and not (model / "config.json").is_file():
            raise CommandError(f"{model}: neither a model repository (no {MODELS}) nor a model (no config.json)")
        print(export_to_repository([model], out, name), file=sys.stderr)
        repository = out
    elif name is not None:
        raise CommandError(f"{model} is a repository already: --name has no meaning")
    binary = shutil.which(SERVER)
    if binary is None:
        tell(f"{SERVER} is not on the PATH; this serves the same:")
        print(docker_command(repository, port, grpc_port, batching))
        return
    code = _run(binary, repository, port, grpc_port, batching)
    if code:
        raise CommandError(f"{SERVER} ended with exit code {code}", code=1)


def docker_command(repository: Path, port: int, grpc_port: int, batching: bool) -> str:
    """Write the command that runs the same server in a container, as one line for a shell."""
    from tfmat.export.serving import IMAGE, IN_CONTAINER

    ports = ["-p", f"{port}:8501", "-p", f"{grpc_port}:8500"]
    volume = ["-v", f"{repository.resolve()}:{IN_CONTAINER}:ro"]
    return shlex.join(["docker", "run", "--rm", *ports, *volume, IMAGE, *_flags(IN_CONTAINER, IN_CONTAINER, batching)])


def _flags(configuration: str, repository: str, batching: bool) -> list[str]:
    from tfmat.export.serving import BATCHING_FLAGS, SERVER_FLAGS

    flags = [flag.format(folder=configuration) for flag in SERVER_FLAGS]
    return flags + [flag.format(folder=repository) for flag in BATCHING_FLAGS] if batching else flags


def _run(binary: str, repository: Path, port: int, grpc_port: int, batching: bool) -> int:
    """Run the server with the folders as they are called outside a container; returns its exit code."""
    from tfmat.export.serving import MODELS, models_config, served_models

    root = repository.resolve()
    with tempfile.TemporaryDirectory(prefix="tfmat-serve-") as folder:
        text = models_config({name: str(root / name) for name in served_models(root)})
        (Path(folder) / MODELS).write_text(text, encoding="utf-8")
        command = [binary, f"--port={grpc_port}", f"--rest_api_port={port}", *_flags(folder, str(root), batching)]
        tell(f"serving {root}: REST on port {port}, gRPC on port {grpc_port}")
        process = subprocess.Popen(command)
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
