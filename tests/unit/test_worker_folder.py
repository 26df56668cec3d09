"""The folder that workers share: where it is, who may clean up there, what a killed one left."""

import os
import subprocess
from pathlib import Path

import pytest

from relayd.workers.folder import Folder


def test_the_first_of_several_runtime_directories_is_used(tmp_path: Path) -> None:
    """systemd names all that RuntimeDirectory= lists, with colons."""
    folder = Folder.create(3, {"RUNTIME_DIRECTORY": f"{tmp_path}:/run/other"})
    assert folder.path.parent == tmp_path
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / "beats").read_bytes() == bytes(24)
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_parent_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    living, dead, young = (Folder(2, str(tmp_path)) for _ in range(3))
    for killed in (dead, young):
        os.close(killed._lock)
    for old in (living, dead):
        os.utime(old.path, (0, 0))
    (tmp_path / "relayd-workers-link").symlink_to(young.path)
    (tmp_path / "relayd-workers-file").touch()
    own = Folder(2, str(tmp_path))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        *(folder.path.name for folder in (living, young, own)),
        *("relayd-workers-link", "relayd-workers-file"),
    }
    for folder in (living, own):
        folder.remove()


def test_the_folder_of_workers_is_locked_so_that_systemd_tmpfiles_leaves_it_alone(
    tmp_path: Path,
) -> None:
    folder = Folder(2, str(tmp_path))
    program = ["flock", "--exclusive", "--nonblock", str(folder.path), "true"]
    assert subprocess.run(program, check=False).returncode == 1
    folder.remove()


def test_the_error_of_a_folder_that_cannot_be_created_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Folder.create(2, {"RUNTIME_DIRECTORY": str(tmp_path / "nowhere")})
    assert str(caught.value.filename).startswith(str(tmp_path / "nowhere"))
