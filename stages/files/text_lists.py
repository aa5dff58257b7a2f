"""Lists in text files: class names or templates, one per line."""

from __future__ import annotations

import re
from pathlib import Path

from stages.errors import InputError
from stages.files.reading import read_file
from stages.text import decode_text

MAX_BYTES = 64 * 2**20
_COMMENT = re.compile(r"#+(\s.*)?", re.DOTALL)
# only these end a line: str.splitlines also splits at U+2028, U+0085 and other characters that names can contain
_LINE_END = re.compile(r"\r\n|\n|\r")
_TABLES = {".csv": "CSV", ".tsv": "TSV", ".json": "JSON", ".jsonl": "JSON", ".yaml": "YAML", ".yml": "YAML", ".xml": "XML"}


def read_list(path: Path | str, what: str, entry: str) -> list[tuple[int, str]]:
    """The entries of a text file, one per line, with their line numbers from 1, without the white space around them.

    Blank lines are skipped, and comments: a line of `#` alone, or of `#` and white space before other text. `#1 dad mug` is an
    entry.

    Args:
        path: the file; see `decode_text` for its encoding.
        what: the file is, for messages: 'class file'.
        entry: what an entry is: 'class name'.

    Raises InputError if the file is missing, not text, larger than 64 MiB, or has more than one column.
    """
    write = f"write a text file with one {entry} per line"
    table = _TABLES.get(Path(path).suffix.casefold())
    if table is not None:
        raise InputError(f"{what} '{path}' is {table} by its name, not a list", f"{write}, and name it .txt")
    text = decode_text(read_file(path, most=MAX_BYTES), what, path)
    # the byte order mark of a file that was appended to another
    lines = ((number, line.replace("\ufeff", "").strip()) for number, line in enumerate(_LINE_END.split(text), 1))
    found = [(number, line) for number, line in lines if line and not _COMMENT.fullmatch(line)]
    tab = next((number for number, line in found if "\t" in line), None)
    if tab is not None:
        raise InputError(f"line {tab} of the {what} '{path}' has several columns, separated by a tab", write)
    return found
