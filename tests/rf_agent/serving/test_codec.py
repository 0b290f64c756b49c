"""Messages: what comes back is what was sent, and what is hostile is refused before it costs anything."""

import resource

import msgpack
import numpy as np
import pytest

from rf_agent.serving.codec import CodecError, pack, unpack


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        np.arange(24.0).reshape(4, 6)[:, ::2],
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.array(3.5, np.float16),
        np.zeros((0, 7), np.float32),
        np.array([True, False]),
        np.array(["open the drawer", "öffne"]),
        np.array([b"x"]),
        np.arange(3, dtype=">i4"),
    ],
)
def test_arrays_come_back(array):
    found = unpack(pack({"a": array}))["a"]
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_everything_else_comes_back():
    message = {"text": "ä", "n": 3, "x": 0.5, "on": True, "none": None, "list": [1, "a"], "map": {"k": b"raw"}}
    assert unpack(pack(message)) == message
    scalar = unpack(pack({"n": np.int16(-3), "b": np.bool_(True), "f": np.float32(0.5)}))
    assert scalar == {"n": -3, "b": True, "f": 0.5} and scalar["n"].dtype == np.int16


def test_the_encoding_is_openpis():
    array = np.arange(3, dtype=np.uint8)
    raw = msgpack.unpackb(pack({"a": array, "s": np.float32(2)}))
    assert raw["a"] == {b"__ndarray__": True, b"data": b"\0\1\2", b"dtype": "|u1", b"shape": [3]}
    assert raw["s"] == {b"__npgeneric__": True, b"data": 2.0, b"dtype": "<f4"}


@pytest.mark.parametrize(
    "value", [np.array([None]), np.zeros(2, complex), np.zeros(2, "i4,i4"), object(), {1, 2}, 1 << 70]
)
def test_what_cannot_be_sent_is_refused(value):
    with pytest.raises(CodecError, match="cannot be sent"):
        pack({"a": value})


def scalar(data, dtype):
    return msgpack.packb({"a": {b"__npgeneric__": True, b"data": data, b"dtype": dtype}})


def array(data=b"\0" * 6, dtype="|u1", shape=(2, 3)):
    return msgpack.packb({"a": {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (b"GET / HTTP/1.1\r\n", "no msgpack"),
        (pack({"a": np.zeros(9)})[:-1], "no msgpack"),  # truncated
        (pack({"a": 1}) + b"\0", "no msgpack"),  # something follows
        (msgpack.packb({1: 2}), "no msgpack"),
        (b"\x91" * 5000, "no msgpack"),  # nested without end
        (b"\xdd\xff\xff\xff\xff", "no msgpack"),  # a list of four billion entries
        (b"\xdf\xff\xff\xff\xff", "no msgpack"),
        (msgpack.packb({"a": msgpack.ExtType(5, b"x")}), "extension of type 5"),
        (msgpack.packb({"a": [{}] * 900, "b": [{}] * 900}), "more than 1000 maps and lists"),
        (msgpack.packb({"a": [[]] * 900, "b": [[]] * 900}), "more than 1000 maps and lists"),
        (array(dtype="|O"), "dtype '|O'"),
        (array(dtype="O"), "dtype 'O'"),
        (array(dtype="|V6"), "dtype"),
        (array(dtype="<c8"), "dtype"),
        (array(dtype="f4,f4"), "dtype"),
        (array(dtype="<U4000000000"), "dtype"),
        (array(dtype=["<f4"]), "dtype"),
        (array(dtype=b"|u1"), "dtype"),
        (array(shape=(2, 4)), "has 8 bytes, but 6 were sent"),
        (array(shape=(2,)), "has 2 bytes, but 6 were sent"),
        (array(shape=(-2, -3)), "shape"),
        (array(shape=(2.0, 3)), "shape"),
        (array(shape=(True, 6)), "shape"),
        (array(shape=6), "shape"),
        (array(shape=[1] * 9), "at most 8"),
        (array(shape=(1 << 40, 1 << 40)), "shape"),
        (array(b"", shape=(1 << 30, 1 << 30, 1 << 30, 0)), "no msgpack"),
        (array(data="text"), "of type str"),
        (msgpack.packb({"a": {b"__ndarray__": True}}), "dtype"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}}), "holds a list"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}}), "holds a str"),
        (scalar(1 << 20, "|S1"), "holds a int"),  # NumPy would make a text of that size
        (scalar(1 << 20, "<U1"), "holds a int"),
        (scalar(1.5, "|S1"), "holds a float"),
        (scalar("text", "|S4"), "holds a str"),
        (scalar(b"text", "<U4"), "holds a bytes"),
        (scalar(b"1", "<i4"), "holds a bytes"),
        (array(b"", "|S0", (1 << 20, 1 << 20)), "dtype '|S0'"),  # any shape has no bytes
        (array(b"", "<U0", (3,)), "dtype '<U0'"),
        (array(b"", "<U00", (3,)), "dtype '<U00'"),
        (array(b"\xff" * 8, "<U1", (2,)), "character that Unicode does not"),
        (array(b"\0\x11\0\0", ">U1", (1,)), "character that Unicode does not"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": 300, b"dtype": "|O"}}), "dtype"),
    ],
)
def test_hostile_messages_are_refused(data, message):
    with pytest.raises(CodecError, match=message.replace("|", r"\|")):
        unpack(data)


@pytest.mark.parametrize("error", [MemoryError, SystemError, OverflowError])
def test_whatever_numpy_raises_is_said_of_the_message(monkeypatch, error):
    def fail(*_):
        raise error("too much")

    data = pack({"a": np.zeros(3)})
    monkeypatch.setattr(np, "frombuffer", fail)
    with pytest.raises(CodecError, match="no msgpack that can be read .too much"):
        unpack(data)


def test_scalars_of_text_come_back():
    assert unpack(scalar(b"ab", "|S2")) == {"a": b"ab"} and unpack(scalar("ä", "<U1")) == {"a": "ä"}


def test_claims_take_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lists = b"\xdd\x00\xff\xff\xff" * 1000 + b"\0" * (1 << 24)  # lists in lists, of 16 million entries each
    with pytest.raises(CodecError):
        unpack(lists)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_random_bytes_are_read_or_refused():
    rng = np.random.default_rng(0)
    whole = bytearray(pack({"a": np.zeros((2, 3), np.uint8), "instruction": "go", "n": np.float32(1)}))
    for _ in range(3000):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        try:
            unpack(bytes(data))
        except CodecError as error:
            assert str(error)
