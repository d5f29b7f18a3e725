"""Nothing half-written, nothing lost."""

import errno
import os

import pytest

from tfmat.atomic import new_directory, staged
from tfmat.errors import InputError


def test_a_folder_appears_when_the_block_ends(tmp_path):
    with new_directory(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
    assert os.listdir(tmp_path / "a") == ["b"]
    assert (tmp_path / "a" / "b" / "x").read_text() == "1"


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_error_leaves_nothing(tmp_path, error):
    expected = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), new_directory(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("1")
        raise error
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"model: it cannot be written: No space left on device$"), staged(tmp_path / "model"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_existing_path_is_refused_or_replaced(tmp_path):
    target = tmp_path / "a"
    target.mkdir()
    (target / "old").write_text("1")
    with pytest.raises(InputError, match="exists already"), new_directory(target):
        pass
    with pytest.raises(RuntimeError), new_directory(target, overwrite=True):
        raise RuntimeError
    assert os.listdir(target) == ["old"]
    with new_directory(target, overwrite=True) as folder:
        (folder / "new").write_text("2")
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    with pytest.raises(InputError, match="exists already"), staged(tmp_path / "f") as temporary:
        temporary.write_text("mine")
        (tmp_path / "f").write_text("theirs")
    assert (tmp_path / "f").read_text() == "theirs"
