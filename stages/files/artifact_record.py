"""The JSON record in the header of an artifact, read strictly and checked against the digest in it.

The digest is the SHA-256 of the file with zeros in place of the digest's own 64 characters. It covers every byte: the record,
the tensors and the padding between them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from stages.errors import InputError, note_unverified
from stages.files.strict_json import parse_json, parse_json_object
from stages.version import __version__

FORMAT = 3  # the newest that is read
# kind -> what writes one
KINDS = {
    "anchors": "`laat anchors`, `laat merge` and `laat expand` write one",
    "model": "`laat train` writes one as run/model.st",
    "adversarial": "`laat attack` writes one",
    "training-state": "`laat train` writes one",
}
METADATA_KEY = "laat"
REMAKE = "make it again with the command that wrote it"
NO_DIGEST = "0" * 64
# how a record with a digest begins in the header: its keys are sorted
_BEFORE_DIGEST = rb"{\"digest\":\""
_ENTRIES = {"format", "inputs", "kind", "params", "tool"}
# how files of torch.save begin: a zip archive, before torch 1.6 a pickle
_PICKLES = (b"PK\x03\x04", b"\x80\x02")
# safetensors refuses longer headers
_MAX_HEADER = 100_000_000
_BLOCK = 2**24


def format_of(params: Mapping[str, Any]) -> int:
    """The oldest format for parameters: 3 with a map of anchors other than the published one, or merged anchors, which earlier
    versions would ignore; else 2."""
    newer = (("expansion", "method"), ("origin", "parts"))
    return 3 if any(isinstance(params.get(name), Mapping) and params[name].get(key) for name, key in newer) else 2


def with_digest(data: bytes) -> bytes:
    """The file `data`, whose record has `NO_DIGEST`, with its digest."""
    at = data.index(_BEFORE_DIGEST) + len(_BEFORE_DIGEST)
    return b"".join((data[:at], _digest(data, at).encode(), memoryview(data)[at + len(NO_DIGEST) :]))


def _digest(data: bytes, at: int) -> str:
    """SHA-256 of `data` with zeros in place of the 64 characters at `at`."""
    found = hashlib.sha256(data[:at] + NO_DIGEST.encode())
    found.update(memoryview(data)[at + len(NO_DIGEST) :])
    return found.hexdigest()


def read_record(data: bytes, where: str) -> dict[str, Any]:
    """The record of the artifact with the bytes `data`.

    Raises InputError if they are no artifact, of a newer format or an unknown kind, or were changed since they were written.
    Warns with `UnverifiedWarning` about an artifact of format 1, which has no digest.
    """
    length = _header_length(data, where)
    try:
        header = parse_json(data[8 : 8 + length])
        text = header["__metadata__"][METADATA_KEY]
    except ValueError as error:
        raise InputError(f"{where} is not a safetensors file: in its header, {error}", "give a file that laat wrote") from None
    except (KeyError, TypeError):
        raise InputError(
            f"{where} is a safetensors file, but not one of laat's: it has no laat record",
            "to use text features of your own, `laat anchors --classes FILE --features FILE`",
        ) from None
    record = _parsed(text, where)
    if record["format"] == 1:
        note_unverified(where)
        return record
    at = data.find(_BEFORE_DIGEST, 8, 8 + length) + len(_BEFORE_DIGEST)
    if _digest(data, at) != record["digest"]:
        raise InputError(
            f"{where} was damaged or edited after it was written: its digest differs",
            f"take an intact copy, or {REMAKE}",
        )
    return record


def read_stream(stream: BinaryIO) -> bytes:
    """The bytes of an artifact from a pipe without an end: as many as its header claims, and one more."""
    start = stream.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > _MAX_HEADER:
        return start
    header = stream.read(length)
    try:
        ends = [int(about["data_offsets"][1]) for name, about in parse_json(header).items() if name != "__metadata__"]
        left = max((0, *ends)) + 1
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return start + header
    blocks = [start, header]
    while left and (block := stream.read(min(left, _BLOCK))):  # a claim alone allocates nothing
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)


def _header_length(data: bytes, where: str) -> int:
    if not data:
        raise InputError(f"{where} is empty", REMAKE)
    length: int = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if len(data) < 8 or length > min(len(data) - 8, _MAX_HEADER):
        if data[:1] in b"{[":
            raise InputError(f"{where} is JSON, not an artifact", "to show a report, `laat report FILE`")
        if data.startswith(_PICKLES):
            raise InputError(
                f"{where} is a checkpoint or archive of another program, not an artifact",
                "published checkpoints of LAAT, TeCoA, FARE and open_clip are converted by `laat import FILE --as …`",
            )
        claim = f"its header claims {length:,} bytes and the file has {len(data):,}" if len(data) >= 8 else "8 bytes are needed"
        raise InputError(f"{where} is truncated or not a safetensors file: {claim}", "give a file that laat wrote")
    return length


def _parsed(text: Any, where: str) -> dict[str, Any]:
    try:
        record = parse_json_object(text)
        kind, version, params, inputs, tool = (record[k] for k in ("kind", "format", "params", "inputs", "tool"))
        sound = type(version) is int and isinstance(params, dict) and isinstance(inputs, dict) and isinstance(tool, str)
        reason = "" if sound else "an entry is of another type"
    except KeyError as error:
        reason = f"it lacks {error}"
    except ValueError as error:
        reason = str(error)
    if not reason and version <= FORMAT:
        # exactly these: without its digest, a file of format 2 does not pass for one of format 1
        whole = version >= 1 and record.keys() == (_ENTRIES if version == 1 else _ENTRIES | {"digest"})
        reason = "" if whole else "it does not have the entries of its format"
    if reason:
        raise InputError(f"{where} has a damaged laat record: {reason}", REMAKE)
    if version > FORMAT:
        raise InputError(
            f"{where} has format {version}, this laat ({__version__}) reads up to {FORMAT}", "upgrade laat: pip install -U laat"
        )
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{where} has the unknown kind '{kind}'", f"known kinds: {', '.join(KINDS)}")
    return record
