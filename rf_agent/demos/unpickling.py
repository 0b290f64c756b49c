"""Reading pickled `.npy` files without running what they say.

A pickle is a program: loading one of unknown origin with `numpy.load(allow_pickle=True)` may do anything. CALVIN keeps
its annotations in such files. Here a pickle can build arrays and plain values, and nothing else: every name in it that
is not on the list below is refused, and those on the list lead to functions of this module, never to NumPy's own.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.files import DemoError


def load_plain(path: str | Path) -> Any:
    """The content of a `.npy` file: arrays, numbers, texts, and dictionaries, lists, tuples and sets of these.

    Args:
        path: of NumPy 1 or 2, with or without pickled objects.

    Returns:
        An array; or the one object that was saved, such as a dictionary.

    Raises:
        FileNotFoundError: there is no such file.
        DemoError: it is damaged, no `.npy` file, or holds anything else. Nothing of it was run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a .npy file")
    try:
        with path.open("rb") as file:
            array = _read(file, path)
    except DemoError:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as there are bytes
        raise DemoError(f"{path} is damaged or not a .npy file: copy it again") from error
    return array.item() if array.dtype.hasobject and array.ndim == 0 else array


def _read(file: BinaryIO, path: Path) -> NDArray[Any]:
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(file)
    if not dtype.hasobject:
        file.seek(0)
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    array = _PlainUnpickler(file, path).load()
    if not isinstance(array, np.ndarray):
        raise DemoError(f"{path} is damaged: its pickle holds a {type(array).__name__}, expected an array")
    return array.view(np.ndarray).reshape(shape)


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows the names of `_ALLOWED` alone."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise DemoError(
                f"{self._path} is refused, because it is not plain data: its pickle calls {module}.{name}, which was "
                "not run; get the file from its publisher again"
            ) from None


class _Dtype:
    """Stands for a dtype while a pickle is read. The real one could be given inconsistent sizes and flags."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[?]|O8?|[biufcSU]\d{1,9}", code):
            raise pickle.UnpicklingError(f"a dtype {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, subtype, names, fields = state[1:5]
        if order not in ("<", ">", "|", "=") or (subtype, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("a structured dtype")
        self.order = order

    def real(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array(np.ndarray):
    """An array while a pickle is read: its state is checked before NumPy gets it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:  # type: ignore[override]
        version, shape, stand_in, fortran, content = state
        dtype = stand_in.real()
        if not isinstance(content, list if dtype.hasobject else bytes):
            raise pickle.UnpicklingError("the content of an array does not fit its dtype")
        super().__setstate__((version, shape, dtype, bool(fortran), content))  # type: ignore[arg-type]


def _reconstruct(kind: Any, shape: Any, code: Any) -> NDArray[Any]:
    """The empty array that `__setstate__` fills; sizes given here would reserve memory without content."""
    if kind is not _NDARRAY or shape != (0,) or code not in (b"b", "b"):
        raise pickle.UnpicklingError("an array that is begun in an unknown way")
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _scalar(stand_in: _Dtype, content: bytes) -> Any:
    (value,) = np.frombuffer(content, stand_in.real())  # refuses objects and a wrong number of bytes
    return value


def _frombuffer(content: Any, stand_in: _Dtype, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    return np.frombuffer(content, stand_in.real()).reshape(shape, order="F" if order == "F" else "C")


class _Function:
    """What a pickle may call. Not a plain function, whose attributes a pickle could overwrite for later calls."""

    __slots__ = ("_called",)
    _called: Callable[..., Any]

    def __init__(self, called: Callable[..., Any]) -> None:
        object.__setattr__(self, "_called", called)

    def __call__(self, *arguments: Any) -> Any:
        return self._called(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a pickle that changes what it calls")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a pickle that changes what it calls")


_NDARRAY = _Function(lambda *_: None)  # only ever an argument of `_reconstruct`
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Function(_Dtype),
    ("builtins", "set"): _Function(set),
    ("builtins", "frozenset"): _Function(frozenset),
}
for _core in ("numpy.core", "numpy._core"):  # of NumPy 1 and 2
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _Function(_reconstruct)
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _Function(_scalar)
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _Function(_frombuffer)
