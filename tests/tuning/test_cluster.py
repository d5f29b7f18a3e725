"""A chief and its workers: the roles, the server, and what happens when one of them is missing."""

import socket
import threading
import time

import pytest
from tuning_cases import TARGETS, space, tables

pytest.importorskip("keras_tuner")

import keras_tuner

from tfmat.errors import InputError
from tfmat.tuning import cluster, search
from tfmat.tuning.oracles import ERROR, oracle_for


@pytest.fixture
def address(monkeypatch):
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(port))
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")


def oracle(folder, trials=8):
    hp = keras_tuner.HyperParameters()
    space(hp)
    found = oracle_for("random", hp, trials=trials, epochs=2, seed=0)
    found.open(folder)
    return found


class Worker(threading.Thread):
    """Asks for trials over the network as a worker's tuner does, and takes a moment for each."""

    def __init__(self, name, stop_after=None):
        super().__init__(daemon=True)
        self.id, self.stop_after, self.ran, self.ended = name, stop_after, [], False

    def run(self):
        from keras_tuner.src.distribute import oracle_client

        client = oracle_client.OracleClient(None)
        while self.stop_after is None or len(self.ran) < self.stop_after:
            trial = client.create_trial(self.id)
            if trial.status == "STOPPED":
                self.ended = True
                return
            if trial.status != "IDLE":
                self.ran.append(trial.trial_id)
                time.sleep(0.05)
                self.finish(client, trial)

    def finish(self, client, trial):
        trial.hyperparameters.values["learning_rate"] += 1e-9  # as rounded by the message
        if trial.trial_id == "2":
            trial.status = "FAILED"
            trial.hyperparameters.values[ERROR] = "it went wrong"
        else:
            client.update_trial(trial.trial_id, {"objective": 1.0 + int(trial.trial_id)})
            trial.status = "COMPLETED"
        client.end_trial(trial)


def served(oracle, **options):
    """The chief's loop in a thread of its own, and what it raised."""
    raised = []

    def serve():
        try:
            cluster.serve(oracle, **options)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread, raised


def test_trials_are_shared_and_none_runs_twice(address, tmp_path):
    chief = oracle(tmp_path)
    values = {}
    chief.began = lambda trial: values.setdefault(trial.trial_id, dict(trial.hyperparameters.values))
    thread, raised = served(chief)
    workers = [Worker("worker0"), Worker("worker1")]
    for worker in workers:
        worker.start()
    thread.join(timeout=30)
    for worker in workers:
        worker.join(timeout=5)
    assert not thread.is_alive() and not raised and all(worker.ended for worker in workers)
    first, second = (set(worker.ran) for worker in workers)
    assert first and second and not first & second and len(first | second) == 8 == sum(len(worker.ran) for worker in workers)
    assert chief.workers == {name: worker.id for worker in workers for name in worker.ran}
    assert [chief.trials[str(i)].status for i in range(8)] == ["FAILED" if i == 2 else "COMPLETED" for i in range(8)]
    assert chief.trials["2"].message == "it went wrong" and chief.trials["7"].score == 8.0
    assert {name: trial.hyperparameters.values for name, trial in chief.trials.items()} == values
    again = oracle(tmp_path)
    assert again.workers == chief.workers and again.trials["2"].message == "it went wrong"


def test_the_chief_does_not_wait_for_a_worker_that_has_died(address, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "GRACE", 0.5)
    chief, waited = oracle(tmp_path, trials=4), []
    thread, raised = served(chief, waiting=waited.append)
    dead = Worker("worker0", stop_after=1)
    dead.start()
    dead.join(timeout=20)
    Worker("worker1").start()
    thread.join(timeout=30)
    assert not thread.is_alive() and not raised and len(chief.end_order) == 4 and chief.tuner_ids == {"worker0"}


def test_a_disk_that_is_full_ends_the_chief(address, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    chief = oracle(tmp_path)
    chief.ended = full
    thread, raised = served(chief)
    worker = Worker("worker0")
    worker.run_ = worker.run
    errors = []

    def run():
        try:
            worker.run_()
        except Exception as error:
            errors.append(error)

    monkeypatch.setattr(worker, "run", run)
    worker.start()
    thread.join(timeout=30)
    worker.join(timeout=5)
    assert [str(error) for error in raised] == ["[Errno 28] No space left on device"]
    assert len(errors) == 1 and cluster.is_lost_chief(errors[0])


def test_a_port_that_is_taken(address, tmp_path):
    import os

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(os.environ["KERASTUNER_ORACLE_PORT"])))
        taken.listen()
        with pytest.raises(InputError, match=r"the chief cannot listen at 127.0.0.1:\d+"):
            cluster.serve(oracle(tmp_path))


def test_a_worker_without_a_chief(address, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    monkeypatch.setattr(cluster, "CHIEF_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"no chief answers at 127.0.0.1:\d+ for 0 s. Expected tfmat tune running there"):
        search("tiny", TARGETS, *tables(), tmp_path / "s", tuner="random", trials=2, epochs=1, space=space)
    assert time.monotonic() - began < 60 and not (tmp_path / "s").exists()


def test_a_worker_must_see_the_folder_of_the_chief(address, tmp_path, monkeypatch):
    chief = oracle(tmp_path, trials=1)
    thread, _ = served(chief)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    with pytest.raises(InputError, match="Expected the folder of the chief, which all workers must see"):
        search("tiny", TARGETS, *tables(), tmp_path / "s", tuner="random", trials=2, epochs=1, space=space)
    Worker("worker0").start()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_roles(monkeypatch):
    assert cluster.role() == "alone"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    assert cluster.role() == "alone"
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(InputError, match="KERASTUNER_ORACLE_PORT is not set"):
        cluster.role()
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "http")
    with pytest.raises(InputError, match=r"KERASTUNER_ORACLE_PORT is 'http'. Expected a number"):
        cluster.role()
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    assert cluster.role() == "worker" and cluster.address() == "127.0.0.1:8000"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert cluster.role() == "chief"
