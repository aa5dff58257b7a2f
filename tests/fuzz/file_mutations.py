"""Mutations of the files of laat, most of them with digests made anew, so that not the digest alone is tested."""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from stages.files.artifact_record import NO_DIGEST, with_digest
from stages.files.records import json_digest
from tests.fuzz.json_mutations import mutated_bytes, mutated_json

Mutation = Callable[[bytes, random.Random], bytes]
NUMBERS = (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e30, 1e-30, 2**31, -(2**31), 255, 1e-45, 0.5)
_DTYPES = (np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_, np.int8, np.uint64)


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _whole(header: str, body: bytes) -> bytes:
    text = header.encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text + body
    with contextlib.suppress(ValueError):  # the digest is gone
        return with_digest(data)
    return data


def _sealed(record: Any) -> dict[str, str]:
    return {"laat": json.dumps({**record, "digest": NO_DIGEST}, sort_keys=True, separators=(",", ":"))}


def artifact_record(data: bytes, draw: random.Random) -> bytes:
    """Mutate the record in the header."""
    header, body = _parts(data)
    record = json.loads(header["__metadata__"]["laat"])
    part = draw.choice((None, "params", "params", "params", "inputs", "deep"))
    if part == "deep":
        text = mutated_json(record["params"].get("origin") or record["params"].get("training") or {}, draw)
        name = "origin" if "origin" in record["params"] else "training"
        text = json.dumps({**record, "digest": NO_DIGEST, "params": {**record["params"], name: "@@"}}, sort_keys=True).replace(
            '"@@"', text
        )
    elif part is None:
        text = mutated_json({**record, "digest": NO_DIGEST}, draw, often=2)
    else:
        text = mutated_json(record[part], draw, often=3)
        text = json.dumps({**record, "digest": NO_DIGEST, part: "@@"}, sort_keys=True).replace('"@@"', text)
    header["__metadata__"]["laat"] = text.replace('"digest": "', '"digest":"', 1)
    return _whole(json.dumps(header, ensure_ascii=False, separators=(",", ":")), body)


def artifact_header(data: bytes, draw: random.Random) -> bytes:
    """Mutate the header of safetensors."""
    header, body = _parts(data)
    header["__metadata__"] = _sealed(json.loads(header["__metadata__"]["laat"]))
    if draw.random() < 0.2:
        body = mutated_bytes(body, draw)
    return _whole(mutated_json(header, draw, often=2), body)


def tensors(data: bytes, draw: random.Random) -> bytes:
    """Mutate the tensors of an artifact, or of another safetensors file."""
    header, _ = _parts(data)
    found = {name: np.array(value) for name, value in load(data).items()}
    for _ in range(draw.choice((1, 1, 2))):
        name = draw.choice([one for one in found for _ in range(1 if one.startswith("weights.") else 8)] or [""])
        if name:
            _mutate_tensor(found, name, draw)
    metadata = header.get("__metadata__")
    if metadata is None:
        return save(found)
    return with_digest(save(found, metadata=_sealed(json.loads(metadata["laat"]))))


def _mutate_tensor(found: dict[str, np.ndarray], name: str, draw: random.Random) -> None:
    value, how = found[name], draw.randrange(9)
    with np.errstate(all="ignore"):
        if how <= 2 and value.size:
            for _ in range(draw.choice((1, 3))):
                value.reshape(-1)[draw.randrange(value.size)] = np.float64(draw.choice(NUMBERS)).astype(value.dtype)
        elif how == 3:
            value = np.full_like(value, np.float64(draw.choice(NUMBERS)).astype(value.dtype))
        elif how == 4:
            value = value.astype(draw.choice(_DTYPES))
        elif how == 5:
            value = (
                draw.choice((value[None], value.reshape(-1), value.T, value[:0], value[..., :1], value[1:]))
                if value.ndim
                else value[None]
            )
        elif how == 6 and value.ndim:
            value = np.concatenate([value, value])
    found[name] = value
    if how == 7:
        del found[name]
    elif how == 8:
        found[draw.choice(("odd", "weights.odd", "images.trained", "expansion.centre", "source_keys"))] = found.pop(name)


def report(data: bytes, draw: random.Random) -> bytes:
    """Mutate report.json."""
    text = mutated_json(json.loads(data), draw, often=3)
    with contextlib.suppress(ValueError, AttributeError, RecursionError, KeyError, TypeError):
        text = text.replace(json.loads(data)["digest"], json_digest(text))
    return text.encode("utf-8", "surrogatepass")


def json_file(data: bytes, draw: random.Random) -> bytes:
    """Mutate any JSON file."""
    return mutated_json(json.loads(data), draw, often=2).encode("utf-8", "surrogatepass")


def json_lines(data: bytes, draw: random.Random) -> bytes:
    """Mutate one line of JSON, or their order."""
    lines = data.decode().splitlines()
    at = draw.randrange(len(lines))
    lines[at] = mutated_json(json.loads(lines[at]), draw, often=2)
    how = draw.randrange(8)
    if how == 0:
        lines.insert(at, lines[-1])
    elif how == 1:
        lines.reverse()
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def toml(data: bytes, draw: random.Random) -> bytes:
    """Mutate a value of TOML."""
    lines = data.decode().splitlines()
    at = draw.choice([number for number, line in enumerate(lines) if "=" in line])
    numbers = ("nan", "inf", "-inf", "1e999", "9" * 5000, "1" * 30, "-1", "0", "0.5", "0x7fffffffffffffffff", "2147483648")
    texts = ("\\u0000", "a\\u0000b", "\\u001b[31m", "", "[/]", "/dev/zero", "8/0", "x" * 5000, "nan")
    others = ("true", "[]", "[1]", '["a"]', "{}", "1979-05-27", "[" * 3000, "{a.b.c = 1}", "'''")
    values = (*numbers, *(f'"{one}"' for one in texts), *others)
    lines[at] = f"{lines[at].split('=')[0]} = {draw.choice(values)}"
    if draw.random() < 0.1:
        lines.insert(at, lines[at])
    if draw.random() < 0.1:
        lines.insert(0, "a." * draw.choice((2, 5000)) + "b = 1")
    return "\n".join(lines).encode()


def text(data: bytes, draw: random.Random) -> bytes:
    """Mutate a list of names."""
    lines = data.decode().splitlines()
    odd = ("", "\0", "#", "a\0b", "\u2028", "\u200b", "\ufeff", "x" * 5000, "é", "\x1b]0;x\x07", "[/]", "{}", "=1+1", "..")
    new = draw.choice((*odd, lines[0], "a/b", "\U0001f34e", "\t", "\u0301"))
    lines[draw.randrange(len(lines))] = new
    ending = draw.choice(("\n", "\r\n", "\r", "\v", ""))
    return ending.join(lines).encode(draw.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig", "latin-1")), "replace")


def npy(data: bytes, draw: random.Random) -> bytes:
    """Mutate the header or the numbers of a .npy array."""
    stream = io.BytesIO(data)
    value = np.load(stream)
    if draw.random() < 0.5:
        found = {"x": value}
        _mutate_tensor(found, "x", draw)
        stream = io.BytesIO()
        np.save(stream, next(iter(found.values())) if found else value)
        return stream.getvalue()
    header = draw.choice(
        (
            "(9999999999, 99999)",
            "(-1, 2)",
            "(2**70, 1)",
            f"({2**70}, 1)",
            "()",
            "(3,)",
            "(" * 500,
            "None",
            "(1.5, 2)",
            "(True, 4)",
        )
    )
    dtype = draw.choice(("<f8", "|O", "|V8", "<c16", "|S5", "<M8[s]", ">f4", "|b1", "<f16", "O8", "[('a', '<f4')]"))
    text = f"{{'descr': '{dtype}', 'fortran_order': {draw.choice(('False', 'True', '7'))}, 'shape': {header}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data[128:]
