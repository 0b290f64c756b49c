"""Pickled .npy files: plain data is read, a pickle that would run something runs nothing."""

import builtins
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from rf_agent.demos.files import DemoError
from rf_agent.demos.unpickling import load_plain

PLAIN = {
    "language": {"ann": ["open it"], "task": ["open_drawer"], "emb": np.ones((1, 1, 384), np.float32)},
    "info": {"episodes": [], "indx": [(1, 65), (np.int64(3), np.int32(9))]},
    "values": [None, True, 1, 2.5, 10**30, "text", b"bytes", {1, 2}, frozenset({3}), np.float64(0.5), np.bool_(True)],
    "arrays": [np.array(["a", "bc"]), np.arange(3, dtype=">i4"), np.asfortranarray(np.ones((2, 3))), np.zeros((0, 2))],
    "objects": np.array([1, "x", None], object),
}


def write(path, content, protocol=4):
    """A .npy file whose pickle is `content`, or that of an object array around it."""
    if not isinstance(content, bytes):
        array = np.empty((), object)
        array[()] = content
        content = pickle.dumps(array, protocol)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(content)
    return path


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_plain_data_of_both_numpys_is_read(tmp_path, core, protocol):
    content = pickle.dumps(np.array(PLAIN, object), protocol)
    if protocol == 3:  # names stand in lines there, so that another NumPy's are easily put in their place
        content = content.replace(b"numpy._core.", f"{core}.".encode()).replace(b"numpy.core.", f"{core}.".encode())
        assert f"{core}.multiarray".encode() in content
    assert same(PLAIN, load_plain(write(tmp_path / "a.npy", content)))


def test_what_numpy_saves_is_read(tmp_path):
    np.save(tmp_path / "a.npy", PLAIN, allow_pickle=True)
    assert same(PLAIN, load_plain(tmp_path / "a.npy"))
    for array in (np.arange(6).reshape(2, 3), np.float32(3), np.array([[1, "a"], [None, 2.5]], object), np.ones(0)):
        np.save(tmp_path / "b.npy", array, allow_pickle=True)
        assert same(np.asarray(array), load_plain(tmp_path / "b.npy"))


class Call:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def harm(tmp_path):
    """Ways to write the file `ran`, were one of them run."""
    target = str(tmp_path / "ran")
    code = f"open({target!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch {target}"),
        "builtins.eval": Call(builtins.eval, code),
        "builtins.exec": Call(builtins.exec, code),
        "builtins.open": Call(open, target, "w"),
        "builtins.getattr": Call(getattr, "x", "format"),
        "builtins.__import__": Call(builtins.__import__, "os"),
        "nested": Call(set, (Call(builtins.eval, f"[{code}]"),)),
        "in a state": Call(set, (), state={"a": Call(builtins.eval, code)}),
        "deep": {"language": [({"ann": [Call(os.system, f"touch {target}")]},)]},
        "numpy.load": Call(np.load, target),
        "numpy.save": Call(np.save, target, np.zeros(2)),
        "numpy.fromfile": Call(np.fromfile, target),
        "numpy.memmap": Call(np.memmap, target, "u1", "w+", 0, (4,)),
        "numpy.array": Call(np.array, [1]),
        "numpy.vectorize": Call(np.vectorize, eval),
        "type": Call(type, "X", (), {}),
        "path": tmp_path,
    }


@pytest.mark.parametrize("name", sorted(harm(Path("x"))))
def test_a_pickle_that_calls_something_runs_nothing(tmp_path, name):
    path = write(tmp_path / "a.npy", harm(tmp_path)[name])
    with pytest.raises(DemoError, match=r"a.npy is refused, because it is not plain data: its pickle calls \w+[\w.]+"):
        load_plain(path)
    assert [child.name for child in tmp_path.iterdir()] == ["a.npy"]


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def name(module, attribute):
    return text(module) + text(attribute) + b"\x93"


NDARRAY, DTYPE = name("numpy", "ndarray"), name("numpy", "dtype")
RECONSTRUCT, SCALAR = name("numpy.core.multiarray", "_reconstruct"), name("numpy.core.multiarray", "scalar")
F8 = DTYPE + text("f8") + b"K\x00K\x01\x87R"
OBJECT = DTYPE + text("O8") + b"K\x00K\x01\x87R"


@pytest.mark.parametrize(
    "program",
    {
        "names with dots": name("numpy", "ndarray.tofile"),
        "another module": name("numpy.lib.npyio", "load"),
        "memory without content": RECONSTRUCT + NDARRAY + b"J\xff\xff\xff\x7f\x85" + b"C\x01b\x87R",
        "an array of nothing": NDARRAY + b"J\xff\xff\xff\x7f\x85\x85R",
        "another class": RECONSTRUCT + name("builtins", "set") + b"K\x00\x85C\x01b\x87R",
        "pointers from bytes": SCALAR + OBJECT + b"C\x08AAAAAAAA\x86R",
        "an array of pointers": RECONSTRUCT
        + NDARRAY
        + b"K\x00\x85C\x01b\x87R(K\x01K\x01\x85"
        + OBJECT
        + b"\x89C\x08AAAAAAAAtb",
        "too few bytes": RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R(K\x01K\x64\x85" + F8 + b"\x89C\x08AAAAAAAAtb",
        "too large a scalar": SCALAR + DTYPE + text("S900000000") + b"K\x00K\x01\x87RC\x08AAAAAAAA\x86R",
        "a structured dtype": DTYPE + text("i4,O") + b"K\x00K\x01\x87R",
        "an odd state of a dtype": F8 + b"(K\x03" + text("|") + b"N)}J\xff\xff\xff\x7fK\x01K\x00tb",
        "changing what is called": RECONSTRUCT + b"}" + text("_called") + DTYPE + b"sb",
        "changing by slots": RECONSTRUCT + b"N}" + text("_called") + DTYPE + b"s\x86b",
        "a persistent object": text("x") + b"Q",
        "nothing": b"",
        "a list": b"]",
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_pickle_written_by_hand_is_refused(tmp_path, program):
    content = b"\x80\x04" + program[1] + b"."
    path = write(tmp_path / "a.npy", content)
    before = load_plain(write(tmp_path / "b.npy", PLAIN))
    with pytest.raises(DemoError, match="a.npy is (refused|damaged)"):
        load_plain(path)
    assert same(before, load_plain(tmp_path / "b.npy"))  # and nothing is changed for the next file


def test_a_program_like_these_with_nothing_wrong_is_read(tmp_path):
    begin, content = RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R", b"C\x08" + struct.pack("<d", 2.5)
    array = begin + b"(K\x01K\x01\x85" + F8 + b"\x89" + content + b"tb"
    assert load_plain(write(tmp_path / "a.npy", b"\x80\x04" + array + b".")) == 2.5
    scalar = begin + b"(K\x01K\x01\x85" + OBJECT + b"\x89]" + SCALAR + F8 + content + b"\x86Ratb"
    assert load_plain(write(tmp_path / "a.npy", b"\x80\x04" + scalar + b".")) == 2.5


def test_damaged_files_are_refused(tmp_path):
    path = write(tmp_path / "a.npy", PLAIN)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(DemoError, match="a.npy is damaged or not a .npy file: copy it again"):
            load_plain(path)
    path.write_bytes(pickle.dumps(PLAIN))  # a pickle alone
    with pytest.raises(DemoError, match="not a .npy file"):
        load_plain(path)
    with pytest.raises(FileNotFoundError, match="none.npy does not exist"):
        load_plain(tmp_path / "none.npy")
