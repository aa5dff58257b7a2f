"""The base of typed records: strict, immutable pydantic models. Importing it takes 0.1 s or more, so import it when needed."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.files.strict_json import parse_json_object

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
Share = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """A record of known entries: no conversion of types, no unknown entries, finite numbers."""

    model_config = ConfigDict(**STRICT, frozen=True)

    def to_record(self) -> dict[str, Any]:
        """As JSON values, without the entries that were not set."""
        return self.model_dump(mode="json", exclude_unset=True)


Kind = TypeVar("Kind", bound=Record)


def parse_record(kind: type[Kind], data: bytes | str) -> Kind:
    """The record of a JSON text. Raises ValueError with the first fault of the text or of the record, in one line."""
    try:
        parse_json_object(data)
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None


def json_digest(text: str | bytes) -> str:
    """SHA-256 of a JSON object without its entry 'digest'.

    The layout and the order of keys do not count, so that a report may be indented anew. Every digit of a number does.
    """
    record = json.loads(text, parse_float=repr, parse_int=repr)
    record.pop("digest", None)
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def first_fault(error: ValidationError) -> str:
    """The first fault in one line that names its place: "results[0].clean.low is 1.5: input should be …"."""
    fault = error.errors(include_url=False)[0]
    *parents, name = fault["loc"] or ("",)
    if fault["type"] == "missing":
        return f"{_path(parents)} lacks '{name}'"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{_path(parents)} has the unknown entry '{name}'"
    where, message = _path(fault["loc"]), fault["msg"]
    if fault["type"] == "value_error":
        return f"{f'{where}: ' if fault['loc'] else ''}{message.removeprefix('Value error, ')}"
    return f"{where} is {json.dumps(fault['input'], ensure_ascii=False, default=str)[:40]}: {message[:1].lower()}{message[1:]}"


def _path(parts: Any) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".") or "it"
