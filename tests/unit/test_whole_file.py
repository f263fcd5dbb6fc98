"""Files are written whole or not at all, whatever ends the writing."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_sim import ChipSpec
from crossbar_sim.spec.device_file import device_to_yaml
from crossbar_sim.spec.whole_file import write_whole
from crossbar_sim.spec.yaml_text import write_text
from device_models.errors import StoreError

OLD = "old: whole\n"
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
CONTENTS = ["new: text\n", "", "µS\n" * 100_000, b"\x00\xff" * 100_000]


def data_of(content):
    return content.encode() if isinstance(content, str) else content


def failing(error, partly):
    """What stands in for a method that writes; `partly` of it is written first."""

    def write(path, content, **_):
        with path.open("wb") as file:
            file.write(data_of(content)[: len(content) // 2] if partly else b"")
        raise error

    return write


@pytest.mark.parametrize("content", CONTENTS, ids=["text", "empty", "long", "bytes"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_file_holds_what_was_written(tmp_path, content, exists):
    path = tmp_path / "file"
    if exists:
        path.write_text(OLD)
    write_whole(path, content)
    assert path.read_bytes() == data_of(content)
    assert list(tmp_path.iterdir()) == [path]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=50) | st.binary(max_size=50))
def test_any_text_and_any_bytes_are_written(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any"
    write_whole(str(path), content)
    assert path.read_bytes() == data_of(content)


@pytest.mark.parametrize("error", [NO_SPACE, KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize(
    ("exists", "step"),
    [(exists, step) for step in ("nothing written", "half written", "flush", "move") for exists in (True, False)]
    + [(True, "permissions")],
)
@pytest.mark.parametrize("content", ["new: text\n", b"new bytes"], ids=["text", "bytes"])
def test_a_file_stays_as_it_was_wherever_the_writing_ends(tmp_path, monkeypatch, error, step, content, exists):
    path = tmp_path / "file.yaml"
    if exists:
        path.write_text(OLD)

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        if step == "flush":
            patch.setattr(os, "fsync", fail)
        elif step == "permissions":
            patch.setattr(Path, "chmod", fail)
        elif step == "move":
            patch.setattr(os, "replace", fail)
        else:
            for name in ("write_text", "write_bytes"):
                patch.setattr(Path, name, failing(error, step == "half written"))
        with pytest.raises(StoreError if isinstance(error, OSError) else type(error)) as caught:
            write_whole(path, content)
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert [each.name for each in tmp_path.iterdir()] == (["file.yaml"] if exists else [])
    assert not exists or path.read_text() == OLD


def test_content_is_flushed_before_it_is_moved(tmp_path, monkeypatch):
    steps, flush, move = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append(os.fstat(handle).st_size), flush(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("move"), move(*paths)))
    write_whole(tmp_path / "file", "1234")
    assert steps == [4, "move"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755])
def test_a_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "file"
    path.write_text(OLD)
    path.chmod(mode)
    write_whole(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_any_other_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text(OLD)
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, how: False)  # as for anybody but root
    with pytest.raises(StoreError, match=r"file: cannot be written: Permission denied$"):
        write_whole(path, "new")
    assert path.read_text() == OLD


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    if exists:
        target.write_text(OLD)
    link.symlink_to(Path("elsewhere") / "file")
    (tmp_path / "second").symlink_to(link)
    write_whole(tmp_path / "second", "new")
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert target.read_text() == "new"
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["elsewhere", "file", "link", "second"]


def test_a_link_to_itself_and_a_folder_are_refused(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "loop", tmp_path):
        with pytest.raises(StoreError, match=r": cannot be written: "):
            write_whole(path, "new")
    assert (tmp_path / "loop").is_symlink()


def test_a_name_may_be_as_long_as_the_disk_takes(tmp_path):
    path = tmp_path / ("x" * 255)
    write_whole(path, "new")
    assert path.read_text() == "new"


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    write_whole(tmp_path / "pipe", "new")
    reader.join(20)
    assert found == ["new"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


WRITERS = {
    "text": lambda path: write_text(path, "new: text\n"),
    "chip": lambda path: ChipSpec.preset("pcm_1m").to_yaml(path),
    "device": lambda path: device_to_yaml(ChipSpec.preset("pcm_1m").device, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_yaml_is_written_whole(tmp_path, monkeypatch, writer):
    path = tmp_path / "file.yaml"
    path.write_text(OLD)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", failing(NO_SPACE, partly=True))
        with pytest.raises(StoreError, match=r"file\.yaml: cannot be written: No space left on device$"):
            WRITERS[writer](path)
    assert path.read_text() == OLD
    WRITERS[writer](path)
    assert path.read_text() != OLD
    assert list(tmp_path.iterdir()) == [path]
