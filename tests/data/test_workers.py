"""Other processes answer in order, survive what they are given, and leave nothing behind."""

import os
import subprocess
import sys
import time

import pytest

from tfmat.data.workers import Request, Workers, cores
from tfmat.errors import InputError


def double(number):
    return 2 * number


def misbehave(how):
    if how == "hang":
        time.sleep(60)
    if how == "die":
        os._exit(3)
    if how == "print":
        print("noise")
        os.write(1, b"more noise")
    if how == "input error":
        raise InputError("bad", expected="good", index=4)
    if how == "bug":
        raise KeyError("bug")
    if how == "memory":
        return len(bytearray(4 * 2**30))
    return how


HERE = __name__


def test_answers_come_in_order_and_other_things_pass_through():
    with Workers(2) as workers:
        tasks = [(i, Request(f"{HERE}:double", {"number": i}) if i % 3 else "as it is") for i in range(20)]
        assert list(workers.map(tasks)) == [(i, 2 * i if i % 3 else "as it is") for i in range(20)]
        assert len(workers._all) == 2


def test_tasks_are_read_as_needed():
    read = []

    def tasks():
        for i in range(1000):
            read.append(i)
            yield i, i

    with Workers(1) as workers:
        assert next(workers.map(tasks(), ahead=4)) == (0, 0)
        assert len(read) == 4
        assert workers._all == []


def test_misbehaviour():
    with Workers(1, seconds=1.5, memory_bytes=2 * 2**30) as workers:
        answers = dict(
            workers.map(
                (how, Request(f"{HERE}:misbehave", {"how": how})) for how in ("hang", "die", "print", "input error", "memory", "fine")
            )
        )
        assert str(answers["hang"]) == "takes longer than 1.5 s. Expected a file that can be parsed"
        assert "died (status 3)" in str(answers["die"])
        assert answers["print"] == "print" and answers["fine"] == "fine"
        assert (answers["input error"].problem, answers["input error"].index) == ("bad", 4)
        assert "too much memory" in str(answers["memory"])
        with pytest.raises(RuntimeError, match=r"KeyError in .*misbehave: 'bug'"):
            workers.submit(Request(f"{HERE}:misbehave", {"how": "bug"})).result()


def test_a_process_starts_before_it_is_needed():
    with Workers(2) as workers:
        process = workers.warm()._all[0]
        started = process.process
        assert started is not None and workers._all[1].process is None
        assert workers.submit(Request(f"{HERE}:double", {"number": 4})).result() == 8
        assert process.process is started
    assert started.poll() is not None
    with Workers(1) as workers:
        unused = workers.warm()._all[0].process
    assert unused.poll() is not None


def test_closing_ends_what_is_under_way():
    began = time.perf_counter()
    with Workers(1) as workers:
        future = workers.submit(Request(f"{HERE}:misbehave", {"how": "hang"}))
        time.sleep(0.5)
        process = workers._all[0]
    assert time.perf_counter() - began < 20
    assert isinstance(future.exception(), InputError)
    assert process.process is None


def test_processes_end_with_their_parent(tmp_path):
    script = (
        "import os, sys, time\nfrom tfmat.data.workers import *\nw = Workers(1)\n"
        "print(w.submit(Request('os:getpid', {})).result(), flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert output.returncode == -9
    pid = int(output.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if open(f"/proc/{pid}/stat").read().split()[2] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("the worker outlived its parent")


def test_the_number_of_processes():
    assert cores() >= 1
    assert Workers().number == cores()
    with pytest.raises(ValueError, match="`number` must be at least 1"):
        Workers(0)
