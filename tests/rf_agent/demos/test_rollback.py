"""A store whose writer was killed is what it was before, whenever that happened."""

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from io import FileIO

import h5py
import numpy as np
import pytest
from demo_files import CALVIN, make_demo, make_store

from rf_agent.demos import rollback
from rf_agent.demos.atomic_file import PAGE, AtomicFile
from rf_agent.demos.checks import check_demos
from rf_agent.demos.files import DemoError, DiskFullError, FileInUseError, open_hdf5
from rf_agent.demos.rollback import journal_of
from rf_agent.demos.store import append_demos, create_store, demo_names, iterate_demos

DEMO = make_demo(9, 1, "turn_on_led", 77, 16)


class Trace:
    """All that is done to the disk, in order: (function, name of the file, arguments)."""

    def __init__(self, monkeypatch):
        self.steps = []
        for name in ("create", "write", "truncate", "sync", "remove"):
            monkeypatch.setattr(rollback, name, self.tracing(name, getattr(rollback, name)))

    def tracing(self, name, real):
        def traced(target, *arguments):
            path = str(target.name if isinstance(target, FileIO) else target)
            self.steps.append((name, path, *(a if isinstance(a, int) else bytes(a) for a in arguments)))
            return real(target, *arguments)

        return traced


def replay(steps):
    """Do some steps of a trace again, as if all the rest had not happened."""
    for name, path, *arguments in steps:
        if name == "create":
            open(path, "xb").close()
        elif name == "remove":
            os.unlink(path)
        elif name != "sync":
            with open(path, "r+b") as file:
                if name == "truncate":
                    file.truncate(*arguments)
                else:
                    file.seek(arguments[0])
                    file.write(arguments[1])


def clean(path, before):
    """Put a store back to what it was, under the same inode."""
    journal_of(path).unlink(missing_ok=True)
    path.write_bytes(before)


@pytest.fixture
def traced(tmp_path, monkeypatch):
    """A store, its content before and after an append, and the steps of the append."""
    path = make_store(tmp_path / "d.hdf5", demos=4, size=16)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        trace = Trace(patched)
        append_demos(path, [DEMO], CALVIN)
    after = path.read_bytes()
    journal = str(journal_of(path))  # the store itself is open by number, without a name
    steps = [(name, journal if file == journal else str(path), *rest) for name, file, *rest in trace.steps]
    return path, before, after, steps


def test_an_append_that_is_cut_off_anywhere_never_happened(traced):
    path, before, after, steps = traced
    assert len(steps) > 20 and {step[0] for step in steps} >= {"create", "write", "sync", "remove"}
    for count in range(len(steps) + 1):
        halves = [0]
        if count < len(steps) and steps[count][0] == "write":
            halves += [len(steps[count][3]) // 2]
        for half in halves:  # the last write may have come half way
            clean(path, before)
            replay(steps[:count])
            if half:
                name, file, offset, data = steps[count]
                replay([(name, file, offset, data[:half])])
            names = list(dict(iterate_demos(path)))
            assert path.read_bytes() == (after if count == len(steps) else before), count
            assert len(names) == (5 if count == len(steps) else 4)
            assert not journal_of(path).exists()
    assert not dict(iterate_demos(path))["demo_4"].problems(CALVIN)


def test_a_power_cut_that_loses_unsynced_writes_does_not_matter(traced):
    path, before, after, steps = traced
    rng = random.Random(0)
    for count in rng.sample(range(len(steps)), min(40, len(steps))):
        kept = []
        for index, step in enumerate(steps[:count]):
            synced = any(later[:2] == ("sync", step[1]) for later in steps[index:count])
            if step[0] in ("create", "remove", "sync") or synced or rng.random() < 0.5:
                kept.append(step)
        clean(path, before)
        replay(kept)
        with open_hdf5(path, "r+"):
            pass
        assert path.read_bytes() == before and not journal_of(path).exists()


def test_a_rollback_that_is_cut_off_is_done_again(traced, monkeypatch):
    path, before, _, steps = traced
    last = max(index for index, step in enumerate(steps) if step[:2] == ("write", str(path)))
    for stop in range(1, 6):
        clean(path, before)
        replay(steps[: last + 1])
        with monkeypatch.context() as patched:
            Trace(patched)
            left = [stop]

            def counted(name, real, left=left):
                def step(*arguments):
                    left[0] -= 1
                    if left[0] == 0:
                        raise OSError(errno.EIO, "killed")
                    return real(*arguments)

                return step

            for name in ("write", "truncate", "sync", "remove"):
                patched.setattr(rollback, name, counted(name, getattr(rollback, name)))
            with pytest.raises(DemoError, match="cannot be restored from d.hdf5.journal"):
                open_hdf5(path)
        check_demos(path)
        assert path.read_bytes() == before


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from demo_files import CALVIN, make_demo
from rf_agent.demos.store import append_demos
print("ready", flush=True)
for seed in range(1000):
    append_demos(Path(sys.argv[1]), [make_demo(12, 1, "open_drawer", 100 + seed, 24)], CALVIN)
    print(seed, flush=True)
"""


def test_a_store_outlives_killed_writers(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=2, size=16)
    first, rng, total = path.read_bytes(), random.Random(1), 0
    for _ in range(3):
        held = len(list(iterate_demos(path)))
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), *sys.path], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.05, 0.4))
            writer.send_signal(signal.SIGKILL)
            written = writer.stdout.read().count("\n")
        demos = list(iterate_demos(path))
        assert len(demos) - held in (written, written + 1)  # the last one may have been whole, but not printed
        assert all(not demo.problems(CALVIN) for _, demo in demos)
        total += written
    assert total and len(path.read_bytes()) > len(first)


class Full:
    """A disk that is full after some writes."""

    def __init__(self, monkeypatch, writes):
        real = rollback.write

        def write(file, offset, data):
            nonlocal writes
            writes -= 1
            if writes < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(file, offset, data)

        monkeypatch.setattr(rollback, "write", write)


def test_a_disk_that_fills_up_in_the_middle_changes_nothing(tmp_path, monkeypatch):
    path = make_store(tmp_path / "d.hdf5", demos=2, size=16)
    before, failures = path.read_bytes(), 0
    for writes in range(0, 400, 5):
        with monkeypatch.context() as patched:
            Full(patched, writes)
            try:
                append_demos(path, [DEMO], CALVIN)
                break
            except DiskFullError as error:
                failures += 1
                assert "could not be written (No space left on device): what was written before is kept" in str(error)
        # rolling back needs no space: here it failed, as the patched write fails for it too, and is done on opening
        assert len(list(iterate_demos(path))) == 2 and path.read_bytes() == before
    assert failures > 5 and len(list(iterate_demos(path))) == 3
    with monkeypatch.context() as patched:
        Full(patched, 3)
        with pytest.raises(DiskFullError):
            create_store(tmp_path / "new.hdf5", CALVIN, {})
    assert sorted(child.name for child in tmp_path.iterdir()) == ["d.hdf5"]


def test_an_exception_while_writing_changes_nothing(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=2, size=16)
    before = path.read_bytes()
    for kind in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(kind), open_hdf5(path, "r+") as file:
            file.create_dataset("large", data=np.random.default_rng(0).random(100_000))
            file["data"].attrs["total"] = -1
            del file["data/demo_0"]
            raise kind
        assert path.read_bytes() == before
    with pytest.raises(RuntimeError), open_hdf5(tmp_path / "new.hdf5", "a") as file:
        file["x"] = 1
        raise RuntimeError
    assert [child.name for child in tmp_path.iterdir()] == ["d.hdf5"]
    with open_hdf5(path, "r+") as file:
        assert "data/demo_0" in file
    assert path.read_bytes() == before  # nothing was changed, so nothing is written


def test_an_interrupt_waits_until_the_file_is_written(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, it may be ignored
    try:
        interrupts_wait(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def interrupts_wait(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=1, size=16)
    with pytest.raises(KeyboardInterrupt):
        with open_hdf5(path, "r+") as file:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C
            file["x"] = np.arange(1000)
    with open_hdf5(path) as file:
        assert file["x"][999] == 999
    with pytest.raises(KeyboardInterrupt):
        with open_hdf5(path, "r+") as file:
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError
    file = open_hdf5(path, "r+")
    del file  # forgotten, not closed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_smaller_file_is_cut(tmp_path):
    path = tmp_path / "d.hdf5"
    with open_hdf5(path, "a") as file:
        file["small"] = np.arange(10)
        file["large"] = np.arange(100_000)
    size = path.stat().st_size
    with open_hdf5(path, "r+") as file:
        del file["large"]
    assert path.stat().st_size < size / 2
    with h5py.File(path) as file:
        assert list(file) == ["small"] and file["small"][9] == 9
    with open_hdf5(path, "w") as file:
        file["other"] = np.arange(3)
    with open_hdf5(path) as file:
        assert list(file) == ["other"]


def test_reads_see_what_was_written(tmp_path):
    path, rng = tmp_path / "raw", random.Random(2)
    content = bytearray(rng.randbytes(3 * PAGE + 100))
    path.write_bytes(content)
    file = AtomicFile(path)
    for _ in range(300):
        offset, data = rng.randrange(4 * PAGE), rng.randbytes(rng.randrange(1, 2 * PAGE))
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data
        file.seek(offset)
        file.write(data)
        first, size = rng.randrange(4 * PAGE), rng.randrange(2 * PAGE)
        file.seek(first)
        expected = bytes(content[first : first + size])
        assert file.read(size) == expected + bytes(size - len(expected))
    file.commit()
    assert path.read_bytes() == content


def test_two_writers_and_readers_are_kept_apart(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=1, size=16)
    with open_hdf5(path, "r+") as file:
        file["more"] = np.zeros(100_000)  # so that there is a journal
        file.flush()
        assert journal_of(path).exists()
        for mode in ("r", "r+", "a"):
            with pytest.raises(DemoError, match="d.hdf5 is in use by another process, .*: wait for it, or stop it"):
                open_hdf5(path, mode)
    with open_hdf5(path) as reader:
        assert demo_names(reader) == ["demo_0"]
        with pytest.raises(DemoError, match="another process"):
            open_hdf5(path, "r+")
        with open_hdf5(path) as second:
            assert "more" in second


def test_a_writer_waits_for_a_reader_as_long_as_it_is_told(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=1, size=16)
    reader = open_hdf5(path)
    leaves = threading.Timer(0.4, reader.close)
    leaves.start()
    with open_hdf5(path, "r+", patience=60.0) as file:
        file["more"] = np.zeros(3)
    leaves.join()
    with open_hdf5(path) as reader:
        assert "more" in reader
        started = time.monotonic()
        with pytest.raises(FileInUseError, match="in use by another process"):
            append_demos(path, [DEMO], CALVIN, patience=0.3)
        assert time.monotonic() - started >= 0.3


def test_a_journal_that_does_not_belong_to_the_file(traced, tmp_path, monkeypatch):
    path, before, _, steps = traced
    clean(path, before)
    replay(steps[:-3])
    assert journal_of(path).exists()
    (tmp_path / "other").write_bytes(before)
    os.replace(tmp_path / "other", path)
    with pytest.raises(DemoError, match="journal was written for another file than .*: if the file was replaced, del"):
        open_hdf5(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        open_hdf5(path)
    make_store(path, demos=1)  # a journal without its file is of no use
    assert not journal_of(path).exists()


def test_a_file_that_may_not_be_written_is_not_read_half_done(traced, monkeypatch):
    path, before, _, steps = traced
    clean(path, before)
    replay(steps[:-3])

    def read_only(path, mode="r"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(rollback, "FileIO", read_only)
        with pytest.raises(DemoError, match=r"was stopped, and cannot be restored .* \(Read-only file system\): open"):
            open_hdf5(path)
    assert len(list(iterate_demos(path))) == 4


def test_a_link_to_a_store_has_the_same_journal(traced, tmp_path):
    path, before, _, steps = traced
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.hdf5"
    link.symlink_to(path)
    clean(path, before)
    replay(steps[:-3])
    assert len(list(iterate_demos(link))) == 4 and path.read_bytes() == before


@pytest.fixture
def without_locks(monkeypatch):
    """A file system such as Lustre's without the option `flock`."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")


def test_without_locks_a_file_that_is_being_written_is_left_alone(tmp_path, without_locks):
    path = make_store(tmp_path / "d.hdf5", demos=2, size=16)
    with open_hdf5(path, "r+") as file:
        file["data"].create_dataset("large", data=np.zeros(100_000))
        assert journal_of(path).exists()
        with pytest.raises(FileInUseError):
            open_hdf5(path)
    with open_hdf5(path) as file:
        assert "large" in file["data"]


@pytest.mark.parametrize("kind", ["ended", "elsewhere", "old"])
def test_without_locks_what_a_killed_process_left_is_undone(traced, without_locks, monkeypatch, kind):
    path, before, _, steps = traced
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    clean(path, before)
    replay([step for step in steps[:-1] if step[0] != "remove"])
    content, (size, inode) = journal_of(path).read_bytes(), (len(before), path.stat().st_ino)
    records = content[rollback.HEADER.size :]
    if kind == "old":  # of a version that did not say who writes
        fields = (rollback.OLD_MAGIC, size, inode)
        header = rollback.OLD_HEADER.pack(*fields, zlib.crc32(rollback.OLD_HEADER.pack(*fields, 0)))
    else:
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: ended.pid)
            if kind == "elsewhere":
                patched.setattr(socket, "gethostname", lambda: "other-machine")
            header = rollback.header(size, inode)
    journal_of(path).write_bytes(header + records)
    if kind == "elsewhere":  # nobody here knows whether that process is alive
        with pytest.raises(DemoError, match="is being written on other-machine, or was when its process was stopped"):
            open_hdf5(path)
        monkeypatch.setenv("RF_RECOVER", "1")
    with open_hdf5(path):
        pass
    assert path.read_bytes() == before and not journal_of(path).exists()
