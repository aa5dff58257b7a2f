"""Fetching what `laat push` published: the checkpoint, its anchors, report, rows and card, checked against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.anchors.anchor_set import AnchorSet
from stages.errors import InputError, UsageError
from stages.exchange.hub import CARD, CHECKPOINT, Repository, download, list_repository
from stages.exchange.publish import ANCHORS, REPORT, plain_name, references
from stages.files import artifacts
from stages.files.artifacts import Artifact
from stages.files.reading import read_file
from stages.files.writing import has_bytes, write_files
from stages.reports.report import read_report

_PUBLISH_AGAIN = "its owner can publish both again; `hf-hub:{}` still opens the checkpoint"


@dataclass(frozen=True)
class Pulled:
    """What was fetched.

    Attributes:
        repository: with the revision that was asked for.
        commit: of the files.
        files: where they are, by their names.
        sha256: of the checkpoint.
        verified: whether the report, which is of this checkpoint, has its rows and agrees with them; None without a report.
        written: False where all files were there already.
    """

    repository: Repository
    commit: str
    files: dict[str, Path]
    sha256: str
    verified: bool | None
    written: bool

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        return {
            "kind": "laat-pull",
            "repository": self.repository.name,
            "revision": self.repository.revision,
            "commit": self.commit,
            "files": {name: str(path) for name, path in self.files.items()},
            "sha256": self.sha256,
            "report_verified": self.verified,
            "up_to_date": not self.written,
        }


def pull(
    repository: str,
    out: Path | str | None = None,
    *,
    revision: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Pulled:
    """Fetch a published checkpoint and what belongs to it into a folder; `hf-hub:ORG/NAME` then needs no network.

    Args:
        repository: ORG/NAME, or ORG/NAME@REVISION.
        out: the folder; None is NAME in the current folder.
        revision: a branch, tag or commit; None is the main branch.
        progress: called with what is downloaded.

    Raises:
        UsageError: a name that the hub does not have; files in the folder that would be replaced.
        InputError: a repository without a checkpoint, damaged files, anchors or a report of another model.
        MissingError: the hub cannot be reached or refuses.
    """
    where = Repository.parse(repository, revision)
    folder = Path(where.name.rpartition("/")[2] if out is None else out)
    listing = list_repository(where)
    if CHECKPOINT not in listing.files:
        raise InputError(
            f"the repository '{where}' has no {CHECKPOINT}: it is not of `laat push`",
            f"an open_clip model there is used as it is: `laat eval hf-hub:{where.name} --classes FILE --data DATA`",
        )
    wanted = [name for name in (CHECKPOINT, ANCHORS, REPORT, CARD) if name in listing.files]
    if progress is not None:
        progress(f"downloading {', '.join(wanted)} of {where}")
    cached = {name: download(where, name) for name in wanted}
    if REPORT in cached:
        cached |= _beside_report(where, cached[REPORT], listing.files)
    commits = {path.parent.name for path in cached.values()}
    if len(commits) > 1:
        raise InputError(f"the repository '{where}' changed while it was downloaded", "run the command again")
    sha256, verified = _check(where, cached)
    data = {folder / name: path.read_bytes() for name, path in cached.items()}
    there = [path for path in data if path.exists()]
    other = next((path for path in there if not has_bytes(path, data[path])), None)
    if other is not None:
        raise UsageError(f"'{other}' exists and is another file", "choose another folder with -o, or move it away")
    write_files(data)
    files = {path.name: path for path in data}
    return Pulled(where, commits.pop(), files, sha256, verified, len(there) < len(data))


def _beside_report(where: Repository, report: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Download the rows and episodes of a report, as far as the repository has them."""
    found = [plain_name(one, f"of '{where}'") for one in references(read_report(report))]
    return {name: download(where, name) for name in found if name in names}


def _check(where: Repository, cached: dict[str, Path]) -> tuple[str, bool | None]:
    """Read every file strictly and compare them. Returns `Pulled.sha256` and `Pulled.verified`; raises InputError."""
    checkpoint = artifacts.from_bytes(read_file(cached[CHECKPOINT]), where=f"{CHECKPOINT} of '{where}'", kind="model")
    if ANCHORS in cached:
        anchors = artifacts.from_bytes(read_file(cached[ANCHORS]), where=f"{ANCHORS} of '{where}'", kind="anchors")
        if _anchors_in(anchors) != _anchors_in(checkpoint):
            raise InputError(f"{ANCHORS} of '{where}' has other anchors than its {CHECKPOINT}", _PUBLISH_AGAIN.format(where))
    if REPORT not in cached:
        return checkpoint.sha256, None
    found = read_report(cached[REPORT])  # and compare it with its rows, which lie beside it
    if checkpoint.sha256 not in [one.sha256 for one in found.models]:
        raise InputError(
            f"{REPORT} of '{where}' is of another model than its {CHECKPOINT}",
            _PUBLISH_AGAIN.format(where),
        )
    return checkpoint.sha256, found.rows is not None and found.rows.file in cached


def _anchors_in(artifact: Artifact) -> bytes:
    """The anchors of an artifact, to be compared: without their lineage, which is recorded otherwise in a checkpoint."""
    return artifacts.to_bytes(replace(AnchorSet.from_artifact(artifact, artifact.where).to_artifact(), inputs={}))
