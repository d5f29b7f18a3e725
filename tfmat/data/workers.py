"""Processes that do slow work in parallel and can be stopped when they hang.

Each is a fresh Python that is told a function and JSON arguments over a pipe and answers with JSON: nothing is forked from a process in
which TensorFlow runs threads, nothing is pickled, and a script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from tfmat.errors import InputError

_START_SECONDS = 120.0
_HEADER = struct.Struct(">I")
_Context = TypeVar("_Context")


def cores() -> int:
    """Logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Request:
    """A call in another process.

    Attributes:
        function: ``module:name``.
        arguments: its keywords, JSON-able, as is what it returns.
    """

    function: str
    arguments: Mapping[str, Any]


class Workers:
    """A pool of processes, started when first needed; a context manager.

    Args:
        number: how many processes. Default: one per core.
        seconds: limit for one call; a process that exceeds it is killed and replaced. `None`: no limit.
        memory_bytes: largest address space of a process, where the system can limit it.
        warm_up: module that a process imports before its first call, outside of the time limit.
    """

    def __init__(
        self, number: int | None = None, *, seconds: float | None = None, memory_bytes: int | None = None, warm_up: str | None = None
    ) -> None:
        if number is not None and number < 1:
            raise ValueError(f"`number` must be at least 1. Received: number={number}")
        self.number = number or cores()
        self.seconds = seconds
        self._options = {"seconds": seconds, "memory_bytes": memory_bytes, "warm_up": warm_up}
        self._executor: ThreadPoolExecutor | None = None
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all: list[_Process] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all processes."""
        for process in self._all:
            process.stop()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None
        for process in self._all:
            process.discard()
        self._all, self._idle = [], queue.SimpleQueue()

    def warm(self) -> Workers:
        """Begin to start one process, for a call to come."""
        self._pool()
        self._all[0].launch()
        return self

    def submit(self, request: Request) -> Future[Any]:
        """Run `request` as soon as a process is free. The future raises `InputError` for bad input, a time-out and a dead process."""
        return self._pool().submit(self._run, request)

    def _pool(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.number, thread_name_prefix="tfmat-workers")
            for _ in range(self.number):
                self._all.append(_Process(self._options))
                self._idle.put(self._all[-1])
        return self._executor

    def _run(self, request: Request) -> Any:
        process = self._idle.get()
        try:
            return process.call(request)
        finally:
            self._idle.put(process)

    def map(self, tasks: Iterable[tuple[_Context, Any]], ahead: int = 8) -> Iterator[tuple[_Context, Any]]:
        """Answers in the order of the tasks, which are read as needed.

        Args:
            tasks: (anything, `Request`); what is not a `Request` is passed through.
            ahead: number of tasks per process that are read before the first is answered.

        Yields:
            (the same thing, the answer or an `InputError`).
        """
        waiting: deque[tuple[_Context, Any]] = deque()
        source = iter(tasks)
        while True:
            for context, task in itertools.islice(source, max(0, ahead * self.number - len(waiting))):
                waiting.append((context, self.submit(task) if isinstance(task, Request) else task))
            if not waiting:
                return
            context, answer = waiting.popleft()
            if isinstance(answer, Future):
                try:
                    answer = answer.result()
                except InputError as error:
                    answer = error
            yield context, answer


class _Process:
    """One Python process, restarted after it was killed."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False
        self._ready = False

    def stop(self) -> None:
        """Kill it; a call that is under way ends with an error."""
        self.stopped = True
        if self.process is not None:
            self.process.kill()

    def discard(self) -> int:
        """Kill it, release what it holds, and return its exit status. Not while a call is under way."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.kill()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was not sent to a dead process cannot be flushed
                stream.close()  # type: ignore[union-attr]
        return process.wait()

    def call(self, request: Request) -> Any:
        if self.stopped:
            raise InputError("the reading was stopped")
        if self.process is None or self.process.poll() is not None:
            self.discard()
            self.launch()
        if not self._ready:
            self._await()
        answer = self._exchange({"function": request.function, "arguments": dict(request.arguments)}, self.options["seconds"])
        if "error" in answer:
            raise InputError(**answer["error"])
        if "failure" in answer:
            raise RuntimeError(answer["failure"])
        return answer["result"]

    def launch(self) -> None:
        """Start it, without waiting until it can be called."""
        code = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tfmat.data.workers import serve; serve(json.loads(sys.argv[2]))"
        )
        path = [entry or os.getcwd() for entry in sys.path]
        self._ready = False
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(path), json.dumps(dict(self.options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops the processes
        )

    def _await(self) -> None:
        if self.stopped and self.process is not None:
            self.process.kill()
        answer = self._exchange({}, _START_SECONDS)
        if "failure" in answer:
            raise RuntimeError(answer["failure"])
        self._ready = True

    def _exchange(self, message: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
        """Send and wait for the answer; whoever does not answer in time is killed."""
        process = self.process
        assert process is not None and process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end) if seconds is not None else None
        try:
            if timer is not None:
                timer.daemon = True
                timer.start()
            _send(process.stdin, message)
            answer = _receive(process.stdout)
        except (OSError, EOFError):
            status = self.discard()
            if late.is_set():
                raise InputError(f"takes longer than {seconds:g} s", expected="a file that can be parsed") from None
            raise InputError(f"the process that worked on it died (status {status})", expected="a file that can be parsed") from None
        finally:
            if timer is not None:
                timer.cancel()
        return answer


def _send(stream: IO[bytes], message: Mapping[str, Any]) -> None:
    content = json.dumps(message).encode()
    stream.write(_HEADER.pack(len(content)) + content)
    stream.flush()


def _receive(stream: IO[bytes]) -> dict[str, Any]:
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    content = stream.read(_HEADER.unpack(header)[0])
    if len(content) < _HEADER.unpack(header)[0]:
        raise EOFError
    answer: dict[str, Any] = json.loads(content)
    return answer


def serve(options: Mapping[str, Any]) -> None:
    """Answer calls until the pipe is closed: what a worker process does."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, 1)  # what a parser prints is not an answer
    _limit_memory(options.get("memory_bytes"))
    try:
        gc.disable()  # an import leaves nothing to collect
        importlib.import_module(options.get("warm_up") or "json")
        gc.freeze()
        gc.enable()
        _receive(requests)
        _send(answers, {})
        while True:
            message = _receive(requests)
            _alarm(options.get("seconds"))
            answer = _answer(message)
            _alarm(None)
            _send(answers, answer)
    except (EOFError, OSError):
        return


def _answer(message: Mapping[str, Any]) -> dict[str, Any]:
    module, _, name = message["function"].partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return {"result": function(**message["arguments"])}
    except InputError as error:
        return {"error": {key: getattr(error, key) for key in ("problem", "expected", "file", "row", "index")}}
    except MemoryError:
        return {"error": {"problem": "needs too much memory", "expected": "a smaller one"}}
    except Exception as error:
        return {"failure": f"{type(error).__name__} in {message['function']}: {error}"}


def _limit_memory(most: int | None) -> None:
    try:
        import resource

        if most:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, OSError, ValueError):
        return


def _alarm(seconds: float | None) -> None:
    """Die of a hung call even where the parent is gone. Cancelled by `None`."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 10 if seconds else 0)
