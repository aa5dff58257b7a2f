"""The expand stage: an AnchorSet in, an expanded AnchorSet and its figures out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.anchors.anchor_set import KIND, AnchorSet
from stages.anchors.descriptions import SOURCE as DESCRIPTIONS
from stages.anchors.parts import difference
from stages.classes import fold
from stages.cosines import CosineFigures, Progress, cosine_figures, rank_correlation
from stages.errors import InputError, UsageError
from stages.expand.expansion import Expansion
from stages.expand.methods import ExpandSettings, fit_expansion
from stages.files import artifacts

_OF_ENCODER = {"text", DESCRIPTIONS}


@dataclass(frozen=True)
class ExpansionFigures:
    """Figures of the anchors before and after the expansion.

    Attributes:
        classes: how many.
        before, after: cosines of all pairs of classes.
        spearman: for 'all', 'seen' and 'unseen' classes where there are three or more, the rank correlation of the cosines
            after with those before; None where either are all the same, see `rank_correlation`.
        flat: the map makes all cosines of the seen classes the same, which were not before.
        fitted: the map.
        outside: with a map that has a cone, unseen classes outside of it, with their angle to the centre after it in degrees.
        kept: with a map that drops a part, the share that it keeps of each unseen class, see `Expansion.kept_shares`.
    """

    classes: int
    before: CosineFigures
    after: CosineFigures
    spearman: dict[str, float | None]
    flat: bool
    fitted: Expansion
    outside: list[tuple[str, float]]
    kept: dict[str, float]

    def to_record(self) -> dict[str, Any]:
        """JSON-able record."""
        record = {
            "before": self.before.to_record(),
            "after": self.after.to_record(),
            "spearman": self.spearman,
            "map": {"method": self.fitted.method, **self.fitted.to_record()},
        }
        if (cone := self.fitted.cone()) is not None:
            record |= {
                "theta_max_degrees": cone[0],
                "angle_degrees": cone[1],
                "outside_the_cone": [{"class": name, "angle_degrees": angle} for name, angle in self.outside],
            }
        return {**record, "kept": self.kept_range()} if self.kept else record

    def kept_range(self) -> dict[str, float]:
        """Smallest, mean and largest of `kept`, over at least one class."""
        shares = self.kept.values()
        return {"min": min(shares), "mean": sum(shares) / len(shares), "max": max(shares)}


def expand_anchors(
    anchors: AnchorSet,
    like: AnchorSet | None = None,
    progress: Progress | None = None,
    settings: ExpandSettings | None = None,
) -> tuple[AnchorSet, ExpansionFigures]:
    """Expand anchors with a map fitted on their seen classes, or with the map of `like`.

    Args:
        anchors: raw anchors.
        like: expanded anchors of the same encoder.
        progress: called with (done, total) of the cosines, the long part.
        settings: of the map that is fitted; None is the published one.

    Raises:
        InputError: expanded anchors, `like` without a fitted map or from another encoder, degenerate anchors.
        UsageError: settings beside `like`, or that do not fit the anchors.
    """
    if anchors.expansion is not None:
        raise InputError(f"these anchors are {anchors.expansion.label} already", "give the file that `laat anchors` wrote")
    if like is not None and settings is not None:
        raise UsageError("a map is either fitted with settings or that of other anchors", "leave one of them out")
    fitted = _map_of(like, anchors) if like is not None else fit_expansion(anchors.vectors[anchors.indices("seen")], settings)
    moved = anchors.expanded_by(fitted)
    return moved, _figures(anchors, moved, like, progress)


def read_raw_and_expanded(paths: Sequence[Path]) -> tuple[AnchorSet, AnchorSet]:
    """The raw and the expanded anchors of one or two files.

    Raw anchors alone are expanded. The raw anchors of an expanded file are found by its lineage: the second file, or one beside
    it.

    Raises:
        UsageError: more files than two, or no expanded one among two.
        InputError: a file that is no anchors, or raw anchors that are not those of the expanded file, or not there.
    """
    if len(paths) > 2:
        raise UsageError("more than two files of anchors are given", "name expanded anchors and their raw anchors")
    files = {path: artifacts.read(path, KIND) for path in paths}
    expanded = [path for path, file in files.items() if "expansion" in file.params]
    if not expanded and len(paths) == 1:
        raw = _anchors_of(files[paths[0]])
        return raw, expand_anchors(raw)[0]
    if len(expanded) != 1:
        what = "expanded" if expanded else "raw"
        raise UsageError(
            f"'{paths[0]}' and '{paths[1]}' are both {what} anchors", "name expanded anchors and their raw anchors"
        )
    path = expanded[0]
    wanted = files[path].inputs.get("anchors", {}).get("sha256", "unknown")
    others = [other for other in paths if other != path] or _smaller_files(path)
    found = next(filter(None, (_anchors_with(other, wanted) for other in others)), None)
    if found is None:
        where = f"'{others[0]}' is not the file" if len(paths) > 1 else f"no file beside '{path}' is the one"
        raise InputError(
            f"{where} that '{path}' was expanded from (SHA-256 {wanted[:12]}…)",
            "name its raw anchors too, or plot raw anchors alone: they are expanded for the picture",
        )
    return _anchors_of(found), _anchors_of(files[path])


def _anchors_of(artifact: artifacts.Artifact) -> AnchorSet:
    return AnchorSet.from_artifact(artifact, artifact.where)


def _smaller_files(path: Path) -> list[Path]:
    """The artifacts beside expanded anchors that can be their raw anchors, which lack the map."""
    size = path.stat().st_size
    return [other for other in sorted(path.parent.glob("*.st")) if other.is_file() and other.stat().st_size < size]


def _anchors_with(path: Path, sha256: str) -> artifacts.Artifact | None:
    """The anchors in a file if it has that SHA-256."""
    with suppress(InputError):
        found = artifacts.read(path, KIND)
        return found if found.sha256 == sha256 else None
    return None


def _map_of(like: AnchorSet, anchors: AnchorSet) -> Expansion:
    if like.expansion is None:
        raise InputError("the anchors given with --like have no fitted expansion", "give a file that `laat expand` wrote")
    found = difference(anchors, like, ("model", "weights_sha256", "config_sha256", "activation"))
    if found is not None:
        of, fix = "of another encoder", "encode both class lists with the same --model and --pretrained"
        if found.merged:
            of = "that were merged in another way"
            fix = "merge both from the same sources and maps, with the same --weights"
        what = f"the map was fitted on anchors {of}: {found.what} is {found.other!r} there and {found.own!r} here"
        raise InputError(what, fix)
    there, here = like.origin.get("source"), anchors.origin.get("source")
    if there != here and not {there, here} <= _OF_ENCODER:
        what = f"the map was fitted on anchors that come from {there}, and these come from {here}"
        raise InputError(what, "leave --like out to fit a map on the seen classes of these")
    return like.expansion


def _figures(before: AnchorSet, after: AnchorSet, like: AnchorSet | None, progress: Progress | None) -> ExpansionFigures:
    """Seen classes are inside the cone by construction; with the map of other anchors (`like`) all classes are checked."""
    fitted = after.expansion
    assert fitted is not None
    every_class, seen = range(len(before.classes)), before.indices("seen")
    unseen = sorted(set(every_class) - set(seen))
    groups = {"all": list(every_class), "seen": seen, "unseen": unseen}
    fitted_on = {fold(like.classes[at]) for at in like.indices("seen")} if like is not None else set()
    fitted_without = unseen if like is None else [at for at, name in enumerate(before.classes) if fold(name) not in fitted_on]

    def report(half: int) -> Progress | None:
        return None if progress is None else lambda done, total: progress(half * total + done, 2 * total)

    spearman = {name: rank_correlation(after.vectors[at], before.vectors[at]) for name, at in groups.items() if len(at) > 2}
    flat = spearman.get("seen", 1.0) is None and not cosine_figures(before.vectors[seen]).equal
    return ExpansionFigures(
        len(before.classes),
        cosine_figures(before.vectors, report(0)),
        cosine_figures(after.vectors, report(1)),
        spearman,
        flat,
        fitted,
        _outside(before.take(unseen) if like is None else before, fitted),
        _kept(before.take(fitted_without), fitted),
    )


def _outside(unseen: AnchorSet, fitted: Expansion) -> list[tuple[str, float]]:
    """Classes outside the fitted cone, with their angle to the centre after the map in degrees, farthest first."""
    if (cone := fitted.cone()) is None:
        return []
    degrees = np.degrees(fitted.angles(unseen.vectors)) * cone[1] / cone[0]
    found = [(name, float(angle)) for name, angle in zip(unseen.classes, degrees, strict=True) if angle > cone[1] + 1e-6]
    return sorted(found, key=lambda pair: -pair[1])


def _kept(unseen: AnchorSet, fitted: Expansion) -> dict[str, float]:
    """The share of each class that the map keeps, if it drops any."""
    shares = fitted.kept_shares(unseen.vectors)
    return {} if shares is None else dict(zip(unseen.classes, shares.tolist(), strict=True))
