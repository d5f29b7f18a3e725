"""The wheel: built from what git would commit, installed in a fresh environment, run from outside the checkout."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections import Counter

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MAPPED = ("zoo", "tuning", "export")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def run(*command: str | os.PathLike[str], cwd: pathlib.Path) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, env=CLEAN, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Paths that are in git or would be added: no caches, no build folders."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    return sorted(path for path in set(listed.split("\0")) - {""} if (ROOT / path).exists())


def build(tracked: list[str], folder: pathlib.Path, *, links: bool = True) -> pathlib.Path:
    """Wheel of a clean copy. Without `links` the copy is what git writes where there are no symbolic links: files with their targets."""
    source = folder / "source"
    for path in tracked:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, source / path, follow_symlinks=False)
    for name in MAPPED:
        assert os.readlink(source / "tfmat" / name) == f"../{name}"
        if not links:
            (source / "tfmat" / name).unlink()
            (source / "tfmat" / name).write_text(f"../{name}")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", source, cwd=folder)
    (wheel,) = (folder / "dist").iterdir()
    return wheel


@pytest.fixture(scope="module")
def wheel(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return build(tracked, tmp_path_factory.mktemp("wheel"))


def contents(wheel: pathlib.Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_holds_each_module_once_and_nothing_beside_tfmat(wheel: pathlib.Path, tracked: list[str]) -> None:
    inside = contents(wheel)
    version = wheel.name.split("-")[1]
    assert {path.split("/")[0] for path in inside} == {"tfmat", f"tfmat-{version}.dist-info"}

    modules = [path for path in tracked if path.endswith(".py")]
    expected = [path for path in modules if path.startswith("tfmat/")]
    expected += [f"tfmat/{path}" for path in modules if path.startswith(tuple(f"{name}/" for name in MAPPED))]
    assert Counter(path for path in inside if path.endswith(".py")) == Counter(expected)


def test_wheel_holds_the_data_files(wheel: pathlib.Path, tracked: list[str]) -> None:
    def is_data(path: str) -> bool:
        return not path.endswith(".py") and not (ROOT / path).is_symlink()

    expected = {path for path in tracked if path.startswith("tfmat/") and is_data(path)}
    expected |= {f"tfmat/{path}" for path in tracked if path.startswith(tuple(f"{name}/" for name in MAPPED)) and is_data(path)}
    assert {path for path in contents(wheel) if not path.endswith(".py") and path.startswith("tfmat/")} == expected


def test_wheel_is_the_same_without_symbolic_links(wheel: pathlib.Path, tracked: list[str], tmp_path: pathlib.Path) -> None:
    assert sorted(contents(build(tracked, tmp_path, links=False))) == sorted(contents(wheel))


def check_installed(environment: pathlib.Path, cwd: pathlib.Path) -> None:
    """The command runs, and what it runs is the installed copy, zoo and all."""
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    assert "Usage: tfmat" in run(scripts / "tfmat", "--help", cwd=cwd)
    assert "Usage:" in run(scripts / "python", "-m", "tfmat", "--help", cwd=cwd)
    names = ["tfmat", *(f"tfmat.{name}" for name in MAPPED)]
    code = f"from importlib.util import find_spec\nfor name in {names}: print(find_spec(name).origin)"
    for origin in run(scripts / "python", "-c", code, cwd=cwd).split("\n")[:-1]:
        assert pathlib.Path(origin).is_relative_to(environment)


def test_installs_in_a_clean_environment(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Dependencies come from the running interpreter, which the new environment searches after its own packages."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=tmp_path)

    site_packages = pathlib.Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "dependencies.pth").write_text("\n".join(sorted(folders)))
    check_installed(environment, tmp_path)


@pytest.mark.slow
def test_installs_with_the_dependencies_it_declares(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
    run(python, "-m", "pip", "check", cwd=tmp_path)
    check_installed(environment, tmp_path)
