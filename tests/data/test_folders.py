"""Folders that are whole or not there."""

import os

import pytest

from yolospine_ultra.data.folders import new_folder


def write(out):
    with new_folder(out) as folder:
        (folder / "a").write_text("done")


def test_it_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("half")
        raise KeyError
    assert not list(tmp_path.iterdir())
    write(tmp_path / "out")
    assert [f.name for f in tmp_path.rglob("*")] == ["out", "a"]
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write(tmp_path / "out")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(there, tmp_path):
    if there:
        (tmp_path / "target").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "target", target_is_directory=True)
    write(tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "target" / "a").read_text() == "done"


def test_a_mount_point_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda p: str(p) == str(tmp_path / "data"))
    with pytest.raises(FileExistsError, match=r"data is a mount point.* such as .*data/new"):
        write(tmp_path / "data")


def test_what_is_finished_is_kept_where_somebody_took_the_name_meanwhile(tmp_path):
    with pytest.raises(FileExistsError, match=r"finished .* kept in"), new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("done")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "other").write_text("theirs")
    assert (folder / "a").read_text() == "done" and (tmp_path / "out" / "other").read_text() == "theirs"
