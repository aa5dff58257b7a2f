from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from stages.anchors.features import read_features
from stages.errors import InputError, LaatError, UsageError

VALUES = np.arange(6, dtype=np.float32).reshape(3, 2)


def npy(path: Path, values: np.ndarray) -> str:
    np.save(path, values, allow_pickle=True)
    return str(path)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int32, ">f4"])
def test_npy(kind: Any, tmp_path: Path) -> None:
    values, tensor, digest, _ = read_features(npy(tmp_path / "f.npy", VALUES.astype(kind)))
    np.testing.assert_array_equal(values, VALUES)
    assert (values.dtype, tensor) == (np.dtype(kind), "")
    assert digest == hashlib.sha256((tmp_path / "f.npy").read_bytes()).hexdigest()


def test_fortran_order(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_features(npy(tmp_path / "f.npy", np.asfortranarray(VALUES)))[0], VALUES)


def test_safetensors_with_one_tensor(tmp_path: Path) -> None:
    save_file({"text_features": VALUES}, tmp_path / "f.safetensors")
    values, tensor, _, classes = read_features(str(tmp_path / "f.safetensors"))
    assert classes is None
    np.testing.assert_array_equal(values, VALUES)
    assert tensor == "text_features"


@pytest.mark.parametrize(
    "kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16", "float64", "int8", "int64", "uint8", "uint16", "uint64"]
)
def test_safetensors_of_all_kinds_of_numbers(tmp_path: Path, kind: str) -> None:
    tensors = {"text": torch.from_numpy(VALUES).to(getattr(torch, kind)), "mask": torch.ones(3, dtype=torch.bool)}
    save_torch(tensors, tmp_path / "f.safetensors")
    np.testing.assert_array_equal(read_features(f"{tmp_path}/f.safetensors:text")[0], VALUES)
    with pytest.raises(InputError, match=r"type bool, expected numbers \(C, D\)"):
        read_features(f"{tmp_path}/f.safetensors:mask")


@pytest.mark.parametrize("kind", ["complex64", "float8_e8m0fnu"])
def test_safetensors_of_what_is_no_number_is_refused_by_its_type(tmp_path: Path, kind: str) -> None:
    save_torch({"text": torch.ones(3, 2).to(getattr(torch, kind))}, tmp_path / "f.safetensors")
    with pytest.raises(InputError, match=r"tensor 'text' .* has the type (C64|F8_E8M0), expected numbers .*float32"):
        read_features(f"{tmp_path}/f.safetensors")


def test_safetensors_with_several_tensors(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    save_file({"text": VALUES, "image": 2 * VALUES}, path)
    np.testing.assert_array_equal(read_features(f"{path}:image")[0], 2 * VALUES)
    with pytest.raises(UsageError, match=r"has 2 tensors; name one as --features .*:NAME; it has: .*'text'"):
        read_features(str(path))
    with pytest.raises(InputError, match="no tensor 'txt'; it has: 'text'"):
        read_features(f"{path}:txt")


def test_a_colon_in_the_name_of_a_file_that_exists(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_features(npy(tmp_path / "a:b.npy", VALUES))[0], VALUES)


class Touch:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_npy_is_refused_and_not_run(tmp_path: Path) -> None:
    path = npy(tmp_path / "f.npy", np.array([[Touch(tmp_path / "was run")]], dtype=object))
    with pytest.raises(InputError, match=r"not a plain \.npy array"):
        read_features(path)
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    "values",
    [np.ones(3), np.ones((2, 3, 4)), np.ones((0, 4)), np.ones((4, 0)), np.array([["a", "b"]]), np.ones((2, 2), bool)],
    ids=["vector", "cube", "no rows", "no columns", "text", "bool"],
)
def test_anything_but_numbers_in_rows_is_refused(values: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected numbers \(C, D\)"):
        read_features(npy(tmp_path / "f.npy", values))


@pytest.mark.parametrize("data", [b"", b"rubbish", struct.pack("<Q", 10**15) + b"{}", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x02"])
def test_damaged_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "f.npy").write_bytes(data)
    with pytest.raises(InputError, match=r"f\.npy"):
        read_features(str(tmp_path / "f.npy"))


def test_a_header_that_claims_10_to_the_15_rows_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 4), }\n"
    (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(InputError, match=r"not a plain \.npy array"):
        read_features(str(tmp_path / "f.npy"))


@pytest.mark.parametrize("shape", ["(1.5, 4)", f"({2**70}, 4)", "(-1, 4)", "(" * 500, "None", "(True, 4)"])
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(InputError, match=r"not a plain \.npy array|expected numbers"):
        read_features(str(tmp_path / "f.npy"))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x10\x00"]), st.binary(max_size=100))
def test_random_bytes_are_refused(tmp_path: Path, start: bytes, rest: bytes) -> None:
    (tmp_path / "f").write_bytes(start + rest)
    with pytest.raises(LaatError):
        read_features(str(tmp_path / "f"))


def test_a_missing_file(tmp_path: Path) -> None:
    for name in ("none.npy", "none.safetensors:text"):
        with pytest.raises(InputError, match="does not exist"):
            read_features(str(tmp_path / name))


def test_a_file_without_tensors(tmp_path: Path) -> None:
    save_file({}, tmp_path / "none.safetensors")
    for spec in ("none.safetensors", "none.safetensors:it"):
        with pytest.raises(InputError, match="has no tensors; export the features again"):
            read_features(str(tmp_path / spec))
