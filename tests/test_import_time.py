"""`import tfmat` and `tfmat --help` are quick: they load neither TensorFlow nor Keras. Each is timed in fresh interpreters."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LIMIT = 0.3  # [s]
RUNS = 5  # the best of these is taken, as a busy machine makes single ones slow

IMPORT = "import tfmat"
HELP = """
sys.argv = ["tfmat", "--help"]
try:
    import tfmat.cli
    tfmat.cli.main()
except SystemExit as exit:
    assert exit.code in (None, 0), exit.code
"""
TIMED = """
import json, sys, time
start = time.perf_counter()
{code}
print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]), file=sys.stderr)
"""


def timed(code: str) -> tuple[float, set[str]]:
    """Seconds that the code takes in a new interpreter, without the interpreter's own start, and the modules it loads."""
    run = subprocess.run([sys.executable, "-c", TIMED.format(code=code)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    seconds, modules = json.loads(run.stderr.splitlines()[-1])
    return seconds, set(modules)


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import tfmat", "tfmat --help"])
def test_quick_and_without_tensorflow(code: str) -> None:
    best = LIMIT
    for _ in range(RUNS):
        seconds, modules = timed(code)
        assert not modules & {"tensorflow", "keras", "pymatgen", "pandas"}
        best = min(best, seconds)
        if best < LIMIT:
            return
    pytest.fail(f"the best of {RUNS} runs took {LIMIT} s or more")


def test_import_alone_loads_no_numpy() -> None:
    assert "numpy" not in timed(IMPORT)[1]


def test_names_are_imported_on_first_use() -> None:
    import tfmat
    from tfmat.errors import InputError

    assert tfmat.InputError is InputError
    assert set(tfmat.__all__) <= set(dir(tfmat))
    with pytest.raises(AttributeError, match="no attribute 'Predictr'"):
        _ = tfmat.Predictr
