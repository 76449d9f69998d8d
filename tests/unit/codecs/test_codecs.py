"""Bodies that are no JSON: arrays, frames, msgpack, and codecs of a program's own. What one end sends the other reads."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cbw
from cbw import codec
from cbw.codecs.npy import Npy
from cbw.contract.signature import Signature
from cbw.errors import BadAnswer, BadRequest, HandlerFailed, NotEncodable, UsageError
from cbw.testing import System

DTYPES = ["?", "i1", "<i4", ">i4", "<u8", "<f2", "<f8", ">f8", "<c16", "S3", "<U2", "<M8[s]", "<m8[ns]", "i4,(2,)f8"]


@st.composite
def arrays(draw: st.DrawFn) -> npt.NDArray[Any]:
    """Of any shape, also empty or without dimensions, and in either order of memory."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape))
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    if dtype.kind == "U":  # of what UTF-32 allows
        raw = "".join(draw(st.lists(st.sampled_from("aé\0"), min_size=2 * count, max_size=2 * count))).encode(
            "utf-32-le"
        )
    flat = np.frombuffer(raw, dtype, count) if count else np.empty(0, dtype)
    made = flat.reshape(shape, order=draw(st.sampled_from("CF")))
    is_reversed: bool = draw(st.booleans())
    return made[::-1] if shape and is_reversed else made


def same(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())


@given(arrays())
def test_an_array_comes_back(array: npt.NDArray[Any]) -> None:
    assert same(codec.decode(codec.encode(array), np.ndarray), array)
    assert same(codec.decode(memoryview(b"12345" + codec.encode_as(array, np.ndarray))[5:], np.ndarray), array)


@given(st.binary() | st.binary().map(lambda tail: codec.encode(np.arange(3))[:80] + tail))
def test_any_bytes_are_an_array_or_an_error(body: bytes) -> None:
    with contextlib.suppress(ValueError, EOFError):
        assert isinstance(codec.decode(body, np.ndarray), np.ndarray)


def test_an_array_is_the_body_itself() -> None:
    body = codec.encode(np.arange(1000.0))
    found = codec.decode(body, npt.NDArray[np.float64])
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))
    assert not found.flags.writeable and found.copy().flags.writeable


def test_an_array_of_objects_is_neither_sent_nor_read() -> None:
    with pytest.raises(NotEncodable, match="objects have no form"):
        codec.encode(np.array([{}], dtype=object))
    header = codec.encode(np.zeros(1))[:128].replace(b"'<f8'", b"'|O' ")
    with pytest.raises(ValueError, match="objects"):
        codec.decode(header + pickle.dumps([1]), np.ndarray)
    assert "objects" in codec.why_unusable(npt.NDArray[np.object_])


def test_what_is_no_plain_array_is_no_array() -> None:
    for value in ([1.0], np.ma.masked_array([1], [True])):
        with pytest.raises(NotEncodable, match="cannot be sent as an array"):
            codec.encode_as(value, np.ndarray)
    with pytest.raises(ValueError, match="an array of int64 is no array of float64"):
        codec.decode(codec.encode(np.arange(3, dtype=np.int64)), npt.NDArray[np.float64])
    with pytest.raises(ValueError, match="has 24 bytes"):
        codec.decode(codec.encode(np.arange(3, dtype=np.int64))[:-1], np.ndarray)
    with pytest.raises(ValueError, match=r"version 9"):
        codec.decode(b"\x93NUMPY\x09\x00" + bytes(80), np.ndarray)


COLUMNS: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.datetimes(pd.Timestamp(1900, 1, 1).to_pydatetime(), pd.Timestamp(2100, 1, 1).to_pydatetime()),
]


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(0, 5))
    names = draw(st.lists(st.text("abcé", min_size=1), unique=True, max_size=4))
    columns = {name: draw(st.lists(draw(st.sampled_from(COLUMNS)), min_size=rows, max_size=rows)) for name in names}
    index = draw(st.none() | st.lists(st.integers(0, 99), min_size=rows, max_size=rows))
    return pd.DataFrame(columns, index=range(rows) if index is None else index)


@given(frames())
def test_a_frame_comes_back(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(codec.decode(codec.encode(frame), pd.DataFrame), frame, check_column_type=False)


def test_a_frame_keeps_categories_time_zones_and_gaps() -> None:
    frame = pd.DataFrame(
        {
            "kind": pd.Categorical(["tea", "coffee"], ordered=True),
            "at": pd.to_datetime(["2026-01-01", "2026-07-01"]).tz_localize("Europe/Madrid"),
            "count": pd.array([1, None], dtype="Int64"),
        },
        index=pd.Index(["a", "b"], name="key"),
    )
    pd.testing.assert_frame_equal(codec.decode(codec.encode(frame), pd.DataFrame), frame)


def test_numbers_of_a_frame_are_not_copied() -> None:
    body = codec.encode(pd.DataFrame({"x": np.arange(1000.0)}))
    numbers = codec.decode(body, pd.DataFrame)["x"].to_numpy()
    assert np.shares_memory(numbers, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("value", [np.float32(1.5), np.int64(3), np.bool_(True), [np.bool_(False)]])
def test_single_values_of_numpy_are_json(value: Any) -> None:
    assert codec.decode(codec.encode(value), Any) == value


def test_what_is_no_frame_is_an_error() -> None:
    for value, why in (([1], "as a frame"), (pd.DataFrame({"x": [object()]}), "a frame cannot be sent")):
        with pytest.raises(NotEncodable, match=why):
            codec.encode_as(value, pd.DataFrame)
    with pytest.raises(ValueError, match="no frame of Arrow"):
        codec.decode(b"tea", pd.DataFrame)


def test_the_extra_is_named_where_pyarrow_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError) as missing:
        codec.encode(pd.DataFrame({"x": [1]}))
    assert missing.value.advice == "Install it: pip install 'cbw[pandas]'"

    def describe(frame: pd.DataFrame) -> str:
        return ""

    with pytest.raises(UsageError, match=r"parameter frame is DataFrame.*cbw\[pandas\]"):
        Signature(describe)


# --- tasks


class Upper(cbw.Codec):
    """Texts that are loud on the way."""

    def encode(self, value: Any, kind: Any) -> bytes:
        return str(value).upper().encode()

    def decode(self, body: bytes | memoryview, kind: Any) -> Any:
        return bytes(body).decode().lower()

    def why_unusable(self, kind: Any) -> str:
        return "" if kind in (str, Any) else "only texts can be loud"


@dataclasses.dataclass
class Picture:
    name: str
    pixels: npt.NDArray[np.uint8]


lab = cbw.Service("lab")
packed = cbw.Service("packed", codec=cbw.Msgpack())


@lab.task()
def double(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return numbers * 2


@lab.task()
def totals(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sum().to_frame("total")


@lab.task()
def nothing(numbers: np.ndarray | None) -> np.ndarray | None:
    return numbers


@lab.task()
def rows(numbers: np.ndarray) -> Iterator[Annotated[str, Upper()]]:
    yield from map(str, numbers)


@lab.task(codec=Upper())
def loud(text: str) -> str:
    assert text == "tea"
    return text


@packed.task()
def scale(picture: Picture, factor: float = 2.0) -> Picture:
    return Picture(picture.name, (picture.pixels * factor).astype(np.uint8))


@packed.task()
def raw(body: bytes) -> bytes:
    return body[::-1]


@packed.task()
def endless(anything: Any) -> float:
    return float("inf")


@packed.task()
def ping() -> None:
    pass


@packed.task(batch=4)
def halves(numbers: list[float]) -> list[float]:
    return [number / 2 for number in numbers]


@pytest.fixture
def system() -> Iterator[System]:
    with System() as one:
        one.worker(lab)
        one.worker(packed)
        yield one


def test_tasks_take_and_return_them(system: System) -> None:
    assert system.call(double, np.array([1.0, 2.0])).tolist() == [2.0, 4.0]
    assert system.call(totals, pd.DataFrame({"a": [1, 2]}))["total"].tolist() == [3]
    assert system.call(nothing, None) is None
    assert system.call(nothing, np.zeros(1)).tolist() == [0]
    assert system.call(loud, "tea") == "tea"
    assert system.call("TEA", "lab.loud") == b"TEA"
    found = system.call(scale, Picture("a", np.arange(3, dtype=np.uint8)), factor=3)
    assert found.name == "a" and found.pixels.tolist() == [0, 3, 6]
    assert system.call(raw, b"\0abc") == b"cba\0"
    assert system.call(endless, {"deep": [float("nan"), b"bytes"]}) == float("inf")
    assert system.call(ping) is None
    assert system.call(halves, 3.0) == 1.5


def test_without_a_task_the_types_say_it(system: System) -> None:
    ones = np.ones(2)
    assert system.call(ones, "lab.double", returns=np.ndarray).tolist() == [2, 2]
    body = msgspec.msgpack.encode({"picture": {"name": "a", "pixels": codec.encode(np.ones(1, np.uint8))}})
    found = system.call(body, "packed.scale", returns=Annotated[Picture, cbw.Msgpack()])
    assert found.pixels.tolist() == [2]


def test_a_body_that_does_not_fit_is_the_clients(system: System) -> None:
    for body, service in ((b"tea", "lab.double"), (b"{}", "packed.scale"), (b"\x81\xa1x\x01", "packed.scale")):
        with pytest.raises(BadRequest, match="the body does not fit"):
            system.call(body, service)
    with pytest.raises(BadAnswer, match="the answer cannot be read as ndarray"):
        system.call(b"TEA", "lab.loud", returns=np.ndarray)
    with pytest.raises(NotEncodable):
        system.call(scale, object())


def test_a_result_without_a_form_is_the_handlers(system: System) -> None:
    other = cbw.Service("other")

    @other.task()
    def objects() -> np.ndarray:
        return np.array([object()])

    system.worker(other)
    with pytest.raises(HandlerFailed, match="objects have no form"):
        system.call(objects)


def test_signatures_that_no_codec_can_serve() -> None:
    def blur(picture: np.ndarray, radius: int = 1) -> bytes:
        return b""

    with pytest.raises(UsageError, match="parameter picture is ndarray") as refused:
        Signature(blur)
    assert refused.value.advice == "Make it the only parameter, or give the task codec=cbw.Msgpack()."
    Signature(blur, cbw.Msgpack())

    def count(number: int) -> int:
        return number

    with pytest.raises(UsageError, match="only texts can be loud"):
        Signature(count, Upper())
    with pytest.raises(UsageError, match=r"codec is <class .*Msgpack'>; it must be a cbw.Codec"):
        cbw.Service("wrong", codec=cbw.Msgpack)  # type: ignore[arg-type]


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=10,
)


@given(NESTED.filter(lambda value: "\ud800" not in repr(value)), st.lists(arrays(), max_size=3))
def test_msgpack_holds_anything_at_any_depth(value: Any, several: list[npt.NDArray[Any]]) -> None:
    own = cbw.Msgpack()
    assert own.decode(own.encode(value, Any), Any) == value
    body = own.encode({"all": several}, dict[str, list[np.ndarray]])
    back = own.decode(memoryview(body), dict[str, list[np.ndarray]])["all"]
    assert all(map(same, back, several)) and len(back) == len(several)


def test_an_array_among_values_is_bytes() -> None:
    with pytest.raises(msgspec.ValidationError):
        codec.decode(b"\x93\x01\x02\x03", Annotated[list[np.ndarray], cbw.Msgpack()])
    assert Npy().why_unusable(np.ndarray) == ""
