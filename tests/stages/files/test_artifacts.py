from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from stages import __version__
from stages.errors import InputError, UnverifiedWarning
from stages.files.artifact_record import FORMAT
from stages.files.artifacts import Artifact, from_bytes, read, to_bytes, write
from tests.where import GOLDEN

examples = settings(deadline=None, max_examples=100)


def small_artifact(tool: str = "0.1.0") -> Artifact:
    """What tests/golden/anchors.st holds."""
    return Artifact(
        "anchors",
        {"vectors": np.eye(2, 3, dtype=np.float32), "expansion.centre": np.array([0.6, 0.8, 0.0])},
        {"classes": ["apple", "pêche"], "groups": {"novel": [1], "seen": [0], "val": []}, "expansion": {"theta_max": 0.5}},
        {"anchors": {"inputs": {}, "kind": "anchors", "sha256": "0" * 64}},
        tool,
    )


def file_with(record: Any = None, metadata: dict[str, str] | None = None) -> bytes:
    """A sound safetensors file with another record in it."""
    if metadata is None:
        metadata = {"laat": record if isinstance(record, str) else json.dumps(record)}
    return save({"vectors": np.eye(2, dtype=np.float32)}, metadata=metadata)


def record(**changes: Any) -> dict[str, Any]:
    """Of format 1, which has no digest."""
    return {"format": 1, "inputs": {}, "kind": "anchors", "params": {}, "tool": "1", **changes}


def test_golden_bytes() -> None:
    golden = (GOLDEN / "anchors.st").read_bytes()
    assert to_bytes(small_artifact()) == golden
    found = from_bytes(golden, where="golden")
    assert (found.kind, found.params, found.inputs) == ("anchors", small_artifact().params, small_artifact().inputs)
    np.testing.assert_array_equal(found.tensors["vectors"], np.eye(2, 3))


def test_a_file_of_format_1_opens_and_is_said_to_be_unverified() -> None:
    old = (GOLDEN / "anchors_format_1.st").read_bytes()
    with pytest.warns(UnverifiedWarning, match=r"'old\.st' was written by an older laat without a digest"):
        found = from_bytes(old, where="'old.st'")
    assert (found.format, found.verified, found.params) == (1, False, small_artifact().params)
    np.testing.assert_array_equal(found.tensors["vectors"], np.eye(2, 3))
    again = from_bytes(to_bytes(found), where="it")
    assert (again.format, again.verified) == (2, True)


def test_every_flipped_bit_is_found() -> None:
    whole = to_bytes(small_artifact())
    for at in range(len(whole)):
        for bit in range(8):
            with pytest.raises(InputError):
                from_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :], where="it")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"\"format\":2", rb"\"format\":1"),
        (rb"{\"digest\":", rb"{\"digesT\":"),
        (rb"{\"digest\":", rb"{\"Digest\":"),
        (rb"apple", rb"maple"),
    ],
)
def test_an_edited_record_is_refused(old: bytes, new: bytes) -> None:
    whole = to_bytes(small_artifact())
    assert whole.count(old) == 1
    edits = [whole.replace(old, new)]
    edits.append(edits[0].replace(rb"\"format\":2", rb"\"format\":1"))
    for edited in edits:
        with pytest.raises(InputError, match=r"its digest differs|damaged laat record"):
            from_bytes(edited, where="it")


def test_json_is_told_from_artifacts() -> None:
    with pytest.raises(InputError, match=r"'report\.json' is JSON, not an artifact; to show a report, `laat report FILE`"):
        from_bytes(b'{"schema_version": 4, "results": []}', where="'report.json'")


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02"])
def test_a_pickle_of_torch_names_the_command_that_reads_it(start: bytes) -> None:
    with pytest.raises(InputError, match=r"of another program, not an artifact; .*`laat import FILE --as …`"):
        from_bytes(start + bytes(range(256)), where="'model.pt'")


def test_the_order_of_keys_does_not_reach_the_bytes() -> None:
    one = small_artifact()
    two = Artifact(
        one.kind,
        dict(reversed(one.tensors.items())),
        dict(reversed(one.params.items())),
        dict(reversed(one.inputs.items())),
        one.tool,
    )
    assert to_bytes(one) == to_bytes(two)


def test_a_file_written_twice_is_the_same_and_reads_back(tmp_path: Path) -> None:
    one, two = write(small_artifact(), tmp_path / "one.st"), write(small_artifact(), tmp_path / "deep" / "er" / "two.st")
    assert (tmp_path / "one.st").read_bytes() == (tmp_path / "deep" / "er" / "two.st").read_bytes()
    assert one.sha256 == two.sha256
    back = read(tmp_path / "one.st", "anchors")
    assert back.sha256 == one.sha256
    assert back.lineage() == {"kind": "anchors", "sha256": one.sha256, "inputs": small_artifact().inputs}


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_every_dtype_shape_and_layout_survives(kind: type) -> None:
    values = {
        "matrix": np.arange(6).reshape(2, 3).astype(kind).T,  # not C-contiguous
        "scalar": np.array(1).astype(kind),
        "empty": np.zeros((0, 3)).astype(kind),
    }
    back = from_bytes(to_bytes(replace(small_artifact(), tensors=values)), where="it").tensors
    for name, value in values.items():
        assert back[name].dtype == value.dtype
        assert back[name].shape == value.shape
        np.testing.assert_array_equal(back[name], value)


def test_it_is_an_ordinary_safetensors_file() -> None:
    np.testing.assert_array_equal(load(to_bytes(small_artifact()))["vectors"], np.eye(2, 3))


def test_a_number_that_json_does_not_know_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_bytes(Artifact("anchors", {}, {"theta_max": float("nan")}))


def test_the_tools_version_is_recorded() -> None:
    assert Artifact("model", {}, {}).tool == __version__
    assert from_bytes(to_bytes(small_artifact("7")), where="it").tool == "7"


def test_every_truncation_is_refused() -> None:
    whole = to_bytes(small_artifact())
    for length in range(len(whole)):
        with pytest.raises(InputError):
            from_bytes(whole[:length], where="it")


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(InputError, match="was damaged or edited after it was written"):
        from_bytes(to_bytes(small_artifact()) + b"\0", where="it")


@examples
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        from_bytes(data, where="it")


@examples
@given(st.binary(max_size=200))
def test_random_headers_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        from_bytes(struct.pack("<Q", len(data)) + data, where="it")


@examples
@given(st.integers(0, len(to_bytes(small_artifact())) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(at: int, change: int) -> None:
    data = bytearray(to_bytes(small_artifact()))
    data[at] ^= change
    with pytest.raises(InputError):
        from_bytes(bytes(data), where="it")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@examples
@given(json_values)
def test_any_other_json_as_the_record_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="damaged laat record"):
        from_bytes(file_with(value), where="it")


@pytest.mark.parametrize("key", ["format", "inputs", "kind", "params", "tool"])
def test_a_record_with_a_part_missing_or_odd_is_refused(key: str) -> None:
    whole = record()
    del whole[key]
    for value in (whole, record(**{key: [["odd"]]})):
        with pytest.raises(InputError, match=r"damaged laat record|unknown kind"):
            from_bytes(file_with(value), where="it")


HUGE = "1" * 10_000  # Python refuses to read a number of so many digits


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"1234567", "8 bytes are needed"),
        (struct.pack("<Q", 10**15) + b"{}", "header claims 1,000,000,000,000,000 bytes and the file has 10"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "truncated or not a safetensors file"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc", "in its header, it is not JSON"),
        (struct.pack("<Q", 3) + b"abc", "in its header, it is not JSON"),
        (struct.pack("<Q", 50_000) + b"[" * 50_000, "not a safetensors file|no laat record"),
        (struct.pack("<Q", len(HUGE)) + HUGE.encode(), "in its header, the integer 1111"),
        (struct.pack("<Q", 2) + b"[]", "no laat record"),
        (struct.pack("<Q", 2) + b"{}", "no laat record"),
        (save({"x": np.ones(2)}), "no laat record"),
        (file_with(metadata={"other": "1"}), "no laat record"),
        (file_with(HUGE), "damaged laat record"),
        (file_with("not json"), "damaged laat record"),
        (file_with("[" * 50_000), "damaged laat record"),
        (file_with(record(kind="recipe")), "unknown kind 'recipe'"),
        (file_with(record(format=FORMAT + 1)), f"has format {FORMAT + 1}, this laat .* reads up to {FORMAT}"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        from_bytes(data, where="'x.st'")
    assert "'x.st'" in caught.value.what
    assert caught.value.fix


@pytest.mark.filterwarnings("ignore::stages.errors.UnverifiedWarning")
def test_a_tensor_that_claims_10_to_the_15_bytes_is_refused() -> None:
    tensor = {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}
    header = json.dumps({"__metadata__": {"laat": json.dumps(record())}, "vectors": tensor}).encode()
    with pytest.raises(InputError, match="damaged"):
        from_bytes(struct.pack("<Q", len(header)) + header, where="it")


def test_the_wrong_kind_names_both_sides() -> None:
    with pytest.raises(InputError, match=r"is an artifact of kind anchors, expected model; .*laat train"):
        from_bytes(to_bytes(small_artifact()), where="it", kind="model")


def test_missing_and_misshapen_tensors() -> None:
    artifact = small_artifact()
    np.testing.assert_array_equal(artifact.tensor("vectors", (None, 3)), np.eye(2, 3))
    with pytest.raises(InputError, match="no tensor 'weights'"):
        artifact.tensor("weights", (None,))
    for shape in ((2, 4), (None,), (None, None, None)):
        with pytest.raises(InputError, match=r"has shape \(2, 3\), expected"):
            artifact.tensor("vectors", shape)
