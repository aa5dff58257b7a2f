"""Damaged and hostile files: a command succeeds or ends with a typed error of one line, and never leaves half a file.

A case is a kind of file and a number, which seeds the choice of a mutation and a command. `make soak` runs 100,000 cases.
`LAAT_FUZZ_KEEP=DIR` keeps the mutated files of failing cases.
"""

from __future__ import annotations

import os
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.commands import Ended, fault, little_memory, run
from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.workplace import Workplace, build, rows_digest

# `make soak` asks for 100,000
CASES = int(os.environ.get("LAAT_FUZZ_CASES", "400"))
_SHARES = sum(target.share for target in TARGETS.values())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("fuzz") / "here"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch, little_memory():
        patch.chdir(folder)
        build(folder)
        for name in ("report", "episodes", "gzsl"):
            shutil.copy(f"{name}.json", f"other-{name}.json")
        yield Workplace(folder)


def attempt(workplace: Workplace, target: Target, number: int) -> tuple[tuple[object, ...], Ended, list[str], bytes]:
    """Case `number` of a kind: its command, how it ended, which other files changed, and the mutated file."""
    draw = random.Random(f"{target.file} {number}")
    sound = workplace.sound.get(target.file) or workplace.sound["options.toml"]
    data = draw.choice(target.mutations)(sound, draw)
    path = workplace.folder / target.file
    path.write_bytes(data)
    if target.report is not None:
        rows_digest(workplace.folder, target.report[0], target.file, target.report[1])
    command = draw.choice(target.commands)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = run(*command)
    changed = workplace.restore(keep=target.file)
    return command, done, [name for name in changed if target.report is None or name != target.report[0]], data


@pytest.mark.parametrize("kind", TARGETS)
def test_a_hostile_file_ends_in_a_typed_error(workplace: Workplace, kind: str) -> None:
    target = TARGETS[kind]
    faults: dict[str, str] = {}
    ends: Counter[int] = Counter()
    for number in range(max(1, round(CASES * target.share / _SHARES))):
        command, done, changed, data = attempt(workplace, target, number)
        ends[done.code] += 1
        names = [Path(target.file).name, *(Path(str(one)).name for one in command[1:])]
        found = fault(done, [] if kind == "laat.toml" else [name for name in names if len(name) > 3])
        if done.code and changed:
            found = found or f"exit code {done.code}, and it changed {', '.join(changed)}"
        if found:
            faults.setdefault(found, f"case {number}: laat {' '.join(map(str, command))}")
            keep = os.environ.get("LAAT_FUZZ_KEEP")
            if keep:
                Path(keep).mkdir(exist_ok=True)
                (Path(keep) / f"{kind.replace('/', '-')} {number}").write_bytes(data)
    print(f"{kind}: {sum(ends.values())} cases, by exit code {dict(sorted(ends.items()))}, {len(faults)} kinds of faults")
    assert not faults, "\n".join(f"{case}\n  {found}" for found, case in faults.items())
