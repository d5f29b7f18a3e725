"""Several processes tune together, as KerasTuner has it: a chief that gives out trials, and workers that run them.

Each process is started by the same command with three environment variables: ``KERASTUNER_TUNER_ID`` (``chief``, and a name of its own for
each worker), ``KERASTUNER_ORACLE_IP`` and ``KERASTUNER_ORACLE_PORT``, where the chief listens.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, Literal

from tfmat.errors import InputError
from tfmat.tuning.oracles import Durable

Role = Literal["alone", "chief", "worker"]

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
CHIEF_SECONDS = 120.0
"""A worker waits so long for the chief, at its start and for every answer [s]."""
GRACE = 30.0
"""The chief waits so long for workers that have no trial and do not ask for one [s]."""
_LOOK = 0.2


def role() -> Role:
    """Tell what this process is, by the environment.

    Raises:
        InputError: some of the variables are missing.
    """
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if "KERASTUNER_ORACLE_IP" in missing and "KERASTUNER_ORACLE_PORT" in missing:
        return "alone"
    if missing:
        raise InputError(f"the environment variable {missing[0]} is not set", expected=f"all of {', '.join(VARIABLES)}, or none")
    if not os.environ["KERASTUNER_ORACLE_PORT"].isdigit():
        raise InputError(f"KERASTUNER_ORACLE_PORT is {os.environ['KERASTUNER_ORACLE_PORT']!r}", expected="a number")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def address() -> str:
    """Tell where the chief listens."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


def serve(oracle: Durable, waiting: Callable[[list[str]], None] | None = None) -> None:
    """Give out trials until all have ended and every worker knows it.

    KerasTuner's own loop looks every 20 s, never ends if a worker has died, and does not tell that the disk is full.

    Args:
        oracle: knows the trials.
        waiting: called once with the running trials when there are no others any more.

    Raises:
        InputError: the address cannot be listened at.
        Exception: what was wrong with writing the state.
    """
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    logging.getLogger("grpc").setLevel(logging.CRITICAL)  # it prints tracebacks of what is raised below
    servicer = _patient(OracleServicer, oracle)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))  # KerasTuner's locks are made for one thread
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        listening = server.add_insecure_port(address())
    except RuntimeError:
        listening = 0
    if not listening:
        raise InputError(f"the chief cannot listen at {address()}", expected="an address of this machine and a free port")
    server.start()
    try:
        _until_done(oracle, servicer, waiting)
    finally:
        server.stop(grace=2.0).wait()


def _until_done(oracle: Durable, servicer: Any, waiting: Callable[[list[str]], None] | None) -> None:
    told = False
    while oracle.failure is None:
        time.sleep(_LOOK)
        if not servicer.stop_triggered:
            continue
        running = [trial.trial_id for trial in list(oracle.ongoing_trials.values())]
        if not running and (not oracle.tuner_ids or time.monotonic() - servicer.asked > GRACE):
            return
        if running and waiting is not None and not told:
            told = True
            waiting(running)
    raise oracle.failure


def _patient(base: Any, oracle: Durable) -> Any:
    """KerasTuner's servicer, which knows when it was last asked for a trial, and whose errors end the search."""

    class Servicer(base):
        """Answers the workers."""

        asked = time.monotonic()

        def CreateTrial(self, request: Any, context: Any) -> Any:
            """A worker asks for a trial."""
            self.asked = time.monotonic()
            return _kept(oracle, super().CreateTrial, request, context)

        def UpdateTrial(self, request: Any, context: Any) -> Any:
            """A worker tells the figures of a trial."""
            return _kept(oracle, super().UpdateTrial, request, context)

        def EndTrial(self, request: Any, context: Any) -> Any:
            """A worker has finished a trial."""
            return _kept(oracle, super().EndTrial, request, context)

    return Servicer(oracle)


def _kept(oracle: Durable, answer: Callable[[Any, Any], Any], request: Any, context: Any) -> Any:
    try:
        return answer(request, context)
    except Exception as error:
        oracle.failure = oracle.failure or error
        raise


def await_chief() -> None:
    """Wait until the chief answers.

    Raises:
        InputError: it does not within `CHIEF_SECONDS`.
    """
    import grpc
    from keras_tuner.src.distribute import oracle_client

    oracle_client.TIMEOUT = CHIEF_SECONDS  # an hour in KerasTuner
    channel = grpc.insecure_channel(address())
    try:
        grpc.channel_ready_future(channel).result(timeout=CHIEF_SECONDS)
    except grpc.FutureTimeoutError:
        raise InputError(
            f"no chief answers at {address()} for {CHIEF_SECONDS:.0f} s",
            expected="tfmat tune running there with KERASTUNER_TUNER_ID=chief, or its results if the search is over",
        ) from None
    finally:
        channel.close()


def is_lost_chief(error: BaseException) -> bool:
    """Tell whether an error says that the chief does not answer any more."""
    import grpc

    return isinstance(error, grpc.RpcError)


def lost_chief() -> InputError:
    """The chief does not answer any more."""
    return InputError(f"the chief at {address()} does not answer any more", expected="the chief started again, then this worker")
