"""The entries of classifiers in a report: what they are, and how they were trained."""

from __future__ import annotations

from stages.models.classifier import Classifier
from stages.reports.model_records import Model, training_of


def model_entry(name: str, classifier: Classifier) -> Model:
    """The entry of a classifier in the report: its objective, its anchors and its training."""
    if classifier.origin.foreign and not classifier.origin.training:
        return _foreign_entry(name, classifier)
    anchors, settings = classifier.anchor_set, classifier.origin.training.get("settings", {})
    source = f"{anchors.origin.get('source', 'unknown')}, {anchors.label}"
    objective = str(settings.get("objective", "unknown"))
    sha256, training = classifier.origin.sha256, None
    if classifier.origin.training:
        known = not classifier.origin.foreign
        training = training_of(classifier.origin.training, classifier.origin.inputs, classifier.trained, groups_known=known)
    return Model(name=name, sha256=sha256, objective=objective, anchors=source, training=training)


def _foreign_entry(name: str, classifier: Classifier) -> Model:
    """The entry of a model that is not a checkpoint: the SHA-256 is that of its weights."""
    anchors, sha256 = classifier.anchor_set, classifier.origin.sha256
    if classifier.closed:
        return Model(name=name, sha256=sha256, objective="closed set", anchors="none, the outputs are logits")
    templates = anchors.origin.get("templates", [])
    parts = [str(anchors.origin.get("source", "unknown")), anchors.label]
    parts += [f"'{templates[0]}'" if len(templates) == 1 else f"{len(templates)} templates"] if templates else []
    return Model(name=name, sha256=sha256, objective="zero-shot", anchors=", ".join(parts))
