"""What `keep_memory` does to a process: far fewer page faults, no higher peak, and nothing where malloc is not glibc's to set up."""

import json
import os
import subprocess
import sys
import types

import pytest

from tfmat import memory

WORK = """
import json, resource
{call}
def work():
    return [b"x" * (size << 20) for size in (10, 40, 25, 60, 15)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([usage.ru_minflt - before, usage.ru_maxrss]))
"""
KEEP = "from tfmat.memory import keep_memory; assert keep_memory() is {expected}"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")


def faults_and_peak(call: str = "", **environment: str) -> tuple[int, int]:
    """Page faults of five passes over 150 MB of arrays, and the peak [KiB], in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "TFMAT_KEEP"))}
    command = [sys.executable, "-c", WORK.format(call=call)]
    run = subprocess.run(command, env=clean | environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return tuple(json.loads(run.stdout))


@linux
def test_pages_are_kept_and_the_peak_stays():
    given_back, peak = faults_and_peak()
    kept, kept_peak = faults_and_peak(KEEP.format(expected=True))
    assert given_back > 5 * 20_000
    assert kept < given_back / 100
    assert kept_peak < 1.2 * peak


@linux
@pytest.mark.parametrize(
    "environment",
    [{"TFMAT_KEEP_MEMORY": "0"}, {"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}],
    ids=["switched off", "MALLOC_*", "GLIBC_TUNABLES"],
)
def test_what_was_set_up_already_stays(environment):
    assert faults_and_peak(KEEP.format(expected=False), **environment)[0] > 5 * 20_000


@pytest.fixture
def calls(monkeypatch):
    """Calls of mallopt, which does nothing."""
    found = []
    library = types.SimpleNamespace(gnu_get_libc_version=None, malloc=1, mallopt=lambda *arguments: found.append(arguments) or 1)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(memory, "_address", lambda function: function)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES", "TFMAT_KEEP"))]:
        monkeypatch.delenv(name)
    found.append(library)
    return found


def test_glibc_is_set_up(calls):
    assert memory.keep_memory()
    assert (-4, 0) in calls and (-1, -1) in calls


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(calls, platform, monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", platform)
    assert not memory.keep_memory() and len(calls) == 1


def test_other_libraries_are_left_alone(calls, monkeypatch):
    del calls[0].gnu_get_libc_version  # musl
    assert not memory.keep_memory() and len(calls) == 1


def test_another_malloc_is_left_alone(calls, monkeypatch):
    other = types.SimpleNamespace(malloc=2)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: calls[0] if name else other)
    assert not memory.keep_memory() and len(calls) == 1
