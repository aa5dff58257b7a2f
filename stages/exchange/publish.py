"""Publishing a checkpoint on the Hugging Face hub: the files, the card, and the commit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from stages.anchors.anchor_set import AnchorSet
from stages.errors import InputError, MissingError, UsageError
from stages.exchange.card import model_card
from stages.exchange.hub import CARD, CHECKPOINT, PREFIX, Listing, Repository, asking, checkpoint_in, list_repository
from stages.exchange.licences import licence_of
from stages.exchange.model_request import DEMO
from stages.files import artifacts
from stages.files.artifacts import Artifact
from stages.files.reading import read_file
from stages.reports.parts import part_of
from stages.reports.records import FileReference, Report
from stages.reports.report import read_report
from stages.reports.verify import rows_of_report

ANCHORS, REPORT = "anchors.st", "report.json"
_OURS = re.compile(r"model\.st|anchors\.st|report\.json|[^/]+\.(?:rows|episodes)\.parquet")


@dataclass(frozen=True)
class Publication:
    """What is published.

    Attributes:
        repository: where.
        files: name in the repository -> bytes, the card README.md last.
        sha256: of the checkpoint.
    """

    repository: Repository
    files: dict[str, bytes]
    sha256: str

    @property
    def card(self) -> str:
        """The text of the model card."""
        return self.files[CARD].decode()

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record: the files with their sizes and hashes, and the card."""
        files = [
            {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in self.files.items()
        ]
        return {"kind": "laat-publication", "repository": self.repository.name, "files": files, "card": self.card}


@dataclass(frozen=True)
class Published:
    """What became of it.

    Attributes:
        url: of the commit.
        created: whether the repository is new.
        replaced, removed, kept: the files of a repository that was there: those with a new version, those of an earlier
            publication that this one does not have, and the others, which stay.
    """

    url: str
    created: bool
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def prepare(
    model: Path | str,
    repository: str,
    *,
    license: str,
    report: Path | str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Publication:
    """The files to publish, checked. Needs no network, unless the model is on the hub.

    Args:
        model: a checkpoint; 'demo', the bundled one; or hf-hub:ORG/NAME, one that is published elsewhere.
        repository: ORG/NAME.
        license: its identifier on the hub, such as 'mit', in capitals or not.
        report: a report of `laat eval` on this checkpoint; its rows and episodes lie beside it.
        progress: called with what is downloaded.

    Raises:
        UsageError: a name or licence that the hub does not have, a model that is no file.
        InputError: no checkpoint, a damaged file, a report of another model or without its rows.
        MissingError: the hub cannot be reached, for a model on it.
    """
    where = Repository.parse(repository)
    if where.revision is not None:
        raise UsageError(f"'{repository}' names a revision, and push commits to the main branch", f"write it as {where.name}")
    license = licence_of(license)
    data = _read_checkpoint(model, progress)
    checkpoint = artifacts.from_bytes(data, where=f"'{model}'", kind="model")
    files = {CHECKPOINT: data, ANCHORS: artifacts.to_bytes(_anchors_of(checkpoint))}
    measured = None
    if report is not None:
        found = read_report(report)
        measured = _of_model(found, checkpoint.sha256, f"'{report}'", f"'{model}'")
        files |= _report_files(found, Path(report))
    sizes = {name: len(data) for name, data in files.items()}
    card = model_card(where.name, checkpoint, measured, license=license, files=sizes)
    return Publication(where, {**files, CARD: card.encode()}, checkpoint.sha256)


def push(
    model: Path | str,
    repository: str,
    *,
    license: str,
    report: Path | str | None = None,
    private: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Published:
    """Publish a checkpoint with its model card: one commit in a new repository, or in one that is there.

    Args:
        model, repository, license, report: see `prepare`.
        private: make a new repository private.
        progress: called with what is downloaded and uploaded.

    Raises UsageError and InputError, see `prepare`; MissingError if the hub cannot be reached or refuses; UsageError for
    `private` where the repository is public already.
    """
    publication = prepare(model, repository, license=license, report=report, progress=progress)
    return upload(publication, private=private, progress=progress)


def upload(publication: Publication, *, private: bool = False, progress: Callable[[str], None] | None = None) -> Published:
    """Commit what was prepared, see `push`."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token

    where = publication.repository
    if get_token() is None:
        raise MissingError("publishing needs an account of the hub", "log in with `hf auth login`, or set HF_TOKEN")
    before = _existing(where)
    if private and before is not None and not before.private:
        raise UsageError(
            f"'{where}' is public already, and --private is for a new repository", "change it in its settings on the hub first"
        )
    there = () if before is None else before.files
    removed = tuple(name for name in there if _OURS.fullmatch(name) and name not in publication.files)
    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in publication.files.items()]
    operations = [*added, *(CommitOperationDelete(path_in_repo=name) for name in removed)]
    if progress is not None:
        progress(f"uploading {len(added)} files, {sum(map(len, publication.files.values())):,} bytes, to {where}")
    with asking(where, write=True):
        ModelCard(publication.card).validate()  # before a repository is created that would stay empty
        api = HfApi()
        if before is None:
            api.create_repo(where.name, private=private, exist_ok=True)
        message = f"Checkpoint {publication.sha256[:12]} with its model card"
        url = api.create_commit(where.name, operations, commit_message=message).commit_url
    replaced = tuple(name for name in there if name in publication.files)
    return Published(url, before is None, replaced, removed, tuple(one for one in there if one not in (*replaced, *removed)))


def _existing(repository: Repository) -> Listing | None:
    """What is in the repository; None if there is none that may be seen."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return list_repository(repository)
    except MissingError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):
            return None
        raise


def _read_checkpoint(model: Path | str, progress: Callable[[str], None] | None) -> bytes:
    if not isinstance(model, str | Path):
        raise UsageError(
            "push publishes a checkpoint file, not an opened model", "give the path of its checkpoint, run/model.st"
        )
    if str(model) == DEMO:
        from stages.exchange.open_model import demo_checkpoint  # which imports torch

        model = demo_checkpoint()
    elif str(model).startswith(PREFIX):
        where = Repository.parse(str(model))
        found = checkpoint_in(where, progress)
        if found is None:
            raise InputError(f"the repository '{where}' has no {CHECKPOINT}", "push uploads checkpoints of laat")
        model = found
    if not Path(model).exists() and re.match(r"[\w.-]+:", str(model)):
        raise UsageError(
            f"'{model}' is not a checkpoint file, and push uploads one",
            "write one first: `laat calibrate MODEL --data … -o model.st`, `laat import FILE -o model.st` or `laat pull`",
        )
    return read_file(model)


def _anchors_of(checkpoint: Artifact) -> Artifact:
    """The anchors in a checkpoint as an artifact of their own, with the lineage of those that it was trained with."""
    packed = AnchorSet.from_artifact(checkpoint, checkpoint.where).to_artifact()
    trained_with = checkpoint.inputs.get("anchors")
    return replace(packed, inputs={"model": checkpoint.lineage()} if trained_with is None else trained_with["inputs"])


def _of_model(report: Report, sha256: str, where: str, model: str) -> Report:
    """The part of a report that is of the checkpoint with this SHA-256."""
    names = [one.name for one in report.models if one.sha256 == sha256]
    if not names:
        of = ", ".join(f"{one.name} ({one.sha256[:12]})" for one in report.models)
        raise InputError(
            f"the report {where} is of another model: it is of {of}, and {model} is {sha256[:12]}",
            f"evaluate it first: `laat eval {model.strip(chr(39))} --data DATA -o report.json`",
        )
    return part_of(report, lambda result: result.model in names)


def _report_files(report: Report, path: Path) -> dict[str, bytes]:
    """The report and the files that belong to it, by their names in a repository, checked against each other."""
    files = {REPORT: read_file(path)}
    if report.rows is not None:
        rows_of_report(report, path)
    for one in references(report):
        plain_name(one, f"'{path}'")
        data = read_file(path.parent / one.file)
        if hashlib.sha256(data).hexdigest() != one.sha256:
            raise InputError(f"'{path.parent / one.file}' is not the file written with the report '{path}'", "evaluate again")
        files[one.file] = data
    return files


def references(report: Report) -> list[FileReference]:
    """The files that belong to a report."""
    return [one for one in (report.rows, report.episodes) if one is not None]


def plain_name(reference: FileReference, where: str) -> str:
    """The name of a file that lies beside its report. Raises InputError for one in another folder."""
    name = reference.file
    if PurePosixPath(name).name != name or not re.fullmatch(r"[^/\\]+\.parquet", name):
        raise InputError(
            f"the report {where} names its rows or episodes '{name}', not a .parquet file beside it",
            "evaluate again without --rows",
        )
    return name
