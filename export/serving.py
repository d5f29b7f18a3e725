"""A model repository for TensorFlow Serving: a folder of models, each with numbered versions, and the server's configuration.

    repo/models.config            which models there are, rewritten by every export
    repo/batching.config          how requests are joined, if the server is started with --enable_batching
    repo/docker-compose.yaml      starts the server
    repo/<name>/<version>/        SavedModels, warm-up requests in assets.extra

A version appears at once by renaming, and the server's configuration after it, so that a server which polls never sees half of either.
Nothing here needs TensorFlow until a model is exported.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.atomic import size_of, staged
from tfmat.errors import InputError
from tfmat.export.client.arrays import with_empty_slot
from tfmat.export.client.transports import predict_request, serving_stubs
from tfmat.export.results import EXTRA_FOLDER, METADATA_FILE, ExportReport

if TYPE_CHECKING:
    from tfmat.export.interfaces.base import Interface
    from tfmat.predictor import Predictor

MODELS, BATCHING, COMPOSE = "models.config", "batching.config", "docker-compose.yaml"

IMAGE = "tensorflow/serving"
"""The container image, which listens for gRPC on port 8500 and for REST on port 8501."""
IN_CONTAINER = "/models"
"""Where the repository stands in the container."""
SERVER_FLAGS = ("--model_config_file={folder}/models.config", "--model_config_file_poll_wait_seconds=30")
BATCHING_FLAGS = ("--enable_batching", "--batching_parameters_file={folder}/batching.config")

WARM_UP = "tf_serving_warmup_requests"
"""The file of requests that the server replays before it serves a version, so that no client waits for the first, slow calls."""
MOST_REQUESTS = 1000
"""The server refuses a model with more of them."""

BATCHING_TEXT = """\
# How TensorFlow Serving joins requests: read only if it is started with --enable_batching --batching_parameters_file=.../batching.config.
# It is off in docker-compose.yaml, because one material that is refused refuses all requests that were joined with it.
# Requests of different sizes are padded with the first element of each array: so models refuse rows that do not begin with an empty slot.
max_batch_size { value: 32 }
allowed_batch_sizes: 1
allowed_batch_sizes: 2
allowed_batch_sizes: 4
allowed_batch_sizes: 8
allowed_batch_sizes: 16
allowed_batch_sizes: 32
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
pad_variable_length_inputs: true
"""

_FLAGS = "\n".join(f"      - {flag.format(folder=IN_CONTAINER)}" for flag in SERVER_FLAGS)
_BATCHING = "\n".join(f"      # - {flag.format(folder=IN_CONTAINER)}" for flag in BATCHING_FLAGS)
COMPOSE_TEXT = f"""\
# docker compose up: gRPC on port 8500, REST on port 8501. New versions and models are found while it runs.
services:
  tfmat:
    image: {IMAGE}:${{TF_SERVING_VERSION:-latest}}
    command:
{_FLAGS}
{_BATCHING}
    ports:
      - "${{TF_SERVING_GRPC_PORT:-8500}}:8500"
      - "${{TF_SERVING_REST_PORT:-8501}}:8501"
    volumes:
      - .:{IN_CONTAINER}:ro
    restart: unless-stopped
"""


def models_config(folders: Mapping[str, str]) -> str:
    """The text of ``models.config``; `folders` holds for each name of a model its folder, as the server sees it."""
    entries = [
        f'  config {{\n    name: {json.dumps(name)}\n    base_path: {json.dumps(folder)}\n    model_platform: "tensorflow"\n  }}\n'
        for name, folder in folders.items()
    ]
    return "# Written by tfmat export: the newest version of each model is served.\nmodel_config_list {\n" + "".join(entries) + "}\n"


def versions(repository: Path, name: str) -> list[int]:
    """The numbers of the versions of the model `name` in a `repository`, ascending."""
    folders = (repository / name).glob("*/saved_model.pb")
    return sorted(int(file.parent.name) for file in folders if re.fullmatch(r"[0-9]{1,18}", file.parent.name))


def served_models(repository: Path) -> dict[str, list[int]]:
    """The versions of all models in a repository, by name."""
    found = {folder.name: versions(repository, folder.name) for folder in sorted(repository.iterdir()) if folder.is_dir()}
    return {name: numbers for name, numbers in found.items() if numbers}


def model_name(name: str) -> str:
    """A name that may stand in URLs and folders: other characters than letters, digits, ``_``, ``-`` and ``.`` become ``_``.

    Raises:
        InputError: nothing is left.
    """
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".")
    if not clean.strip("_"):
        raise InputError(f"{name[:60]!r} gives no name for a model", expected="letters or digits")
    if clean in (MODELS, BATCHING, COMPOSE):
        raise InputError(f"a model cannot be called {clean!r}, which is a file of the repository", expected="another name")
    return clean


def check_repository(repository: Path) -> None:
    """Refuse a path that is neither free, nor an empty folder, nor a model repository."""
    if repository.is_dir():
        if any(repository.iterdir()) and not (repository / MODELS).is_file():
            raise InputError("it is no model repository", file=str(repository), expected=f"a new folder, or one that holds {MODELS}")
    elif repository.exists() or repository.is_symlink():
        raise InputError("it is no folder", file=str(repository), expected="a new or existing model repository")


def export_to_repository(
    predictor: Predictor, repository: str | Path, name: str, examples: Sequence[Any] | None = None
) -> tuple[ExportReport, int]:
    """Add the next version of a model to a repository, which is made if it is missing.

    Args:
        predictor: the model.
        repository: folder of the repository.
        name: name of the model on the server, see `model_name`.
        examples: formulas or crystals on which the result is compared with the Keras model, and which the server replays when it loads
            the model; built-in ones if None.

    Returns:
        The report of the export, whose path is that of the version, and the number of warm-up requests.

    Raises:
        InputError: the path is no repository, the name is taken by a model with other targets or inputs, or cannot be written.
        ExportError: see `tfmat.export.formats.saved_model.export_saved_model`.
    """
    from tfmat.export.formats.saved_model import export_saved_model
    from tfmat.export.interfaces import interface_of

    root = Path(repository)
    check_repository(root)
    serving_stubs()
    if model_name(name) != name:
        raise InputError(f"{name[:60]!r} is no name for a model", expected=f"such as {model_name(name)!r}")
    present = versions(root, name)
    if present:
        _check_same(predictor, root / name / str(present[-1]), name)
    interface = interface_of(predictor)
    materials, _ = interface.featurize(examples, {})
    version = 1 + max(present, default=0)
    with staged(root / name / str(version)) as temporary:
        report = export_saved_model(predictor, temporary, materials, for_server=True)
        warm_up = write_warm_up(temporary / EXTRA_FOLDER / WARM_UP, name, interface, materials)
        size = size_of(temporary)
    write_configuration(root)
    return dataclasses.replace(report, path=root / name / str(version), format="serving", size_bytes=size), warm_up


def write_configuration(repository: Path) -> None:
    """Write what the server of `repository` reads at its start: ``models.config`` anew, and what users may edit if it is missing."""
    text = models_config({name: f"{IN_CONTAINER}/{name}" for name in served_models(repository)})
    for file, content, keep in ((MODELS, text, False), (BATCHING, BATCHING_TEXT, True), (COMPOSE, COMPOSE_TEXT, True)):
        if not (keep and (repository / file).exists()):
            with staged(repository / file, overwrite=True) as temporary:
                temporary.write_text(content, encoding="utf-8")


def _check_same(predictor: Predictor, version: Path, name: str) -> None:
    """Refuse to put a model behind another one's name: its clients would break, or believe another quantity."""
    from tfmat.export.interfaces import interface_of
    from tfmat.export.interfaces.base import SERVING

    def facts(targets: Sequence[Any], inputs: Iterable[str]) -> dict[str, str]:
        units = ", ".join(f"{target['name']} [{target['unit'] or '1'}]" for target in targets)
        return {"serves": units, "takes": ", ".join(sorted(inputs))}

    try:
        content = json.loads((version / EXTRA_FOLDER / METADATA_FILE).read_text(encoding="utf-8"))
        old = facts(content["targets"], content["signatures"][SERVING]["inputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"it was not written by `tfmat export`, so {name!r} is taken"
        raise InputError(problem, file=str(version), expected="another name") from error
    new = facts([target.to_config() for target in predictor.targets], interface_of(predictor).signatures()[SERVING].inputs)
    for verb, said in old.items():
        if said != new[verb]:
            raise InputError(f"{name!r} {verb} {said} already, not {new[verb]}", file=str(version.parent), expected="another name")


def write_warm_up(file: Path, name: str, interface: Interface, materials: Sequence[Any]) -> int:
    """Write the requests that the server replays: each material by itself, and all together, to every signature that takes materials.

    Args:
        file: path of the TFRecord file of ``PredictionLog`` to write.
        name: name of the model on the server.
        interface: the interface of the model, which was exported for a server.
        materials: formulas or crystals.

    Returns:
        The number of requests.
    """
    import tensorflow as tf

    from tfmat.export.interfaces.base import SERVING

    logs = serving_stubs().prediction_log_pb2
    entries = {key: entry for key, entry in interface.signatures().items() if key in (SERVING, *interface.entries())}
    groups = [*([material] for material in materials[: MOST_REQUESTS // len(entries) - 1]), list(materials)]
    count = 0
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, entry in entries.items():
            for group in groups:
                request = predict_request(name, signature, with_empty_slot(entry.encode(group)))
                log = logs.PredictionLog(predict_log=logs.PredictLog(request=request))
                writer.write(log.SerializeToString())
                count += 1
    return count
