"""scnas.files: whole or not at all, whatever fails and whenever; and read as data."""

import json
import os
import stat

import pytest

from scnas import files
from scnas.files import read_json, write_whole


def test_content_arrives_byte_by_byte(tmp_path):
    for content in ("", "é\n", "a\r\nb", b"\x00\xff\r\n", "x" * 100_000):
        write_whole(tmp_path / "file", content)
        expected = content.encode() if isinstance(content, str) else content
        assert (tmp_path / "file").read_bytes() == expected
    assert os.listdir(tmp_path) == ["file"]


def test_others_may_read_it(tmp_path):
    write_whole(str(tmp_path / "file"), "x")  # a str is a path, too
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
@pytest.mark.parametrize("where", ["fdopen", "fsync", "chmod", "replace"])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error, where, before):
    if before is not None:
        (tmp_path / "file").write_text(before)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(files.os, where, fail)
    with pytest.raises(type(error)):
        write_whole(tmp_path / "file", "new")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ([] if before is None else ["file"])
    if before is not None:
        assert (tmp_path / "file").read_text() == before


def test_the_new_file_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    """Until the rename, a reader sees the old file; at the rename, the new one is complete."""
    (tmp_path / "file").write_text("old")
    seen, events = [], []
    replace, fsync = os.replace, os.fsync

    def spied_replace(source, target):
        events.append("replace")
        with open(source) as new:
            seen.append((new.read(), (tmp_path / "file").read_text()))
        replace(source, target)

    def spied_fsync(handle):
        events.append("fsync")
        fsync(handle)

    monkeypatch.setattr(files.os, "replace", spied_replace)
    monkeypatch.setattr(files.os, "fsync", spied_fsync)
    write_whole(tmp_path / "file", "new")
    assert seen == [("new", "old")] and events == ["fsync", "replace"]


def test_no_folder_no_file(tmp_path):
    with pytest.raises(OSError):
        write_whole(tmp_path / "missing" / "file", "x")
    assert os.listdir(tmp_path) == []


def test_json_round_trip(tmp_path):
    content = {"a": [1, -2.5, "é", None, True], "b": {}}
    write_whole(tmp_path / "file.json", json.dumps(content))
    assert read_json(tmp_path / "file.json") == content


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b'{"a": 1}}', b"[1,]", b"{'a': 1}", b"\xff\xfe", b'"\x00"', b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000, b"[NaN]", b"[Infinity]", b"[-Infinity]", b"[1e400]", b"[-1e400]",
        b"1" * 5000, b"cos\nsystem\n", b'{"a": 1,\n"b": }',
    ],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_what_is_not_json_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(ValueError) as refusal:
        read_json(tmp_path / "file.json")
    assert str(refusal.value).startswith(f"{tmp_path / 'file.json'}: not a JSON file (")
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300 + len(str(tmp_path))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(ValueError) as refusal:
            read_json(path)
        assert str(refusal.value) == f"{path}: no such file"


def test_a_monster_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 10)
    (tmp_path / "file.json").write_text("[" + " " * 20 + "]")
    with pytest.raises(ValueError, match="file.json: 22 bytes, at most 10 are read$"):
        read_json(tmp_path / "file.json")


def test_a_locked_file_is_refused(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file.json").write_text("{}")
    monkeypatch.setattr(files.Path, "read_bytes", refuse)  # root reads everything, whatever its mode
    with pytest.raises(ValueError) as refusal:
        read_json(tmp_path / "file.json")
    assert str(refusal.value) == f"{tmp_path / 'file.json'}: cannot be read (Permission denied)"
