"""The entries of classifiers in a report: what they are, and how they were trained."""

from __future__ import annotations

from stages.anchors.anchor_set import AnchorSet
from stages.identity import digest_of
from stages.models.classifier import Classifier
from stages.reports.model_records import Model, Training


def model_entry(name: str, classifier: Classifier) -> Model:
    """The entry of a classifier in the report: its objective, its anchors and its training."""
    if classifier.origin.foreign and not classifier.origin.training:
        return _foreign_entry(name, classifier)
    anchors, settings = classifier.anchor_set, classifier.origin.training.get("settings", {})
    source = f"{anchors.origin.get('source', 'unknown')}, {'raw' if anchors.expansion is None else 'expanded'}"
    objective = str(settings.get("objective", "unknown"))
    sha256, training = classifier.origin.sha256, _training_entry(classifier)
    return Model(name=name, sha256=sha256, objective=objective, anchors=source, training=training)


def _foreign_entry(name: str, classifier: Classifier) -> Model:
    """The entry of a model that is not a checkpoint: the SHA-256 is that of its weights."""
    anchors, sha256 = classifier.anchor_set, classifier.origin.sha256
    if classifier.closed:
        return Model(name=name, sha256=sha256, objective="closed set", anchors="none, the outputs are logits")
    templates = anchors.origin.get("templates", [])
    parts = [str(anchors.origin.get("source", "unknown")), "raw" if anchors.expansion is None else "expanded"]
    parts += [f"'{templates[0]}'" if len(templates) == 1 else f"{len(templates)} templates"] if templates else []
    return Model(name=name, sha256=sha256, objective="zero-shot", anchors=", ".join(parts))


def _training_entry(classifier: Classifier) -> Training | None:
    """What the checkpoint of a classifier records of its training: every setting, and what was trained on."""
    origin, anchors = classifier.origin, classifier.trained
    if not origin.training:
        return None
    record, imported = origin.training, origin.training.get("imported")
    data, start = record.get("data", {}), origin.inputs.get("init")
    known = {
        "anchors_sha256": digest_of([anchors.classes, anchors.groups.to_record()], anchors.vectors),
        "blend": record.get("blend", {}).get("weight"),
        "classes": len(anchors.groups.seen) if not origin.foreign else None,
        "data": data.get("source"),
        "data_sha256": data.get("sha256"),
        "images": record.get("images"),
        "imported": None if imported is None else imported["layout"],
        "init": None if start is None else start["sha256"],
        "name": record.get("name"),
    }
    settings = {**record.get("settings", {}), **{name: value for name, value in known.items() if value is not None}}
    return Training.model_validate({**settings, "anchors": anchors_method(anchors)})


def anchors_method(anchors: AnchorSet) -> str:
    """How anchors were made, in a word or two: raw or expanded (from text), random, simplex, 'expanded random' …"""
    source = str(anchors.origin.get("source", "unknown"))
    if source == "text":
        return "raw" if anchors.expansion is None else "expanded"
    return source if anchors.expansion is None else f"expanded {source}"
