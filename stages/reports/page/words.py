"""A report's data, protocol, threat model, attacker and attacks in words. Needs no torch."""

from __future__ import annotations

from stages.conditions import NOT_RESIZED, OBLIVIOUS, TRANSFER, UNKNOWN, WHITE_BOX
from stages.data.source_rows import UNNAMED
from stages.reports.model_records import Model
from stages.reports.records import Attack, ProtocolRecord, Report
from stages.text import counted

_KNOWLEDGE = {
    WHITE_BOX: "White-box: the attacker knows the whole model, with its weights, class names and preprocessing, and follows "
    "its gradients.",
    TRANSFER: "Transfer: the images were made on another model, and the attacker knows nothing of this one. An attacker who "
    "does can do more: these figures say nothing about white-box attacks.",
    OBLIVIOUS: "Oblivious: the images were made with the model's defence switched off, on the user's word. An attacker who "
    "knows of the defence can do more: these figures say nothing about white-box attacks.",
    UNKNOWN: "Unknown: the report does not say which model the images were made on.",
}
_LOSSES = {
    "ce": "cross-entropy",
    "margin": "margin",
    "cw": "Carlini-Wagner margin",
    "dlr": "difference of logits ratio",
    "dlr-targeted": "targeted difference of logits ratio",
    "boundary": "distance to the decision boundary",
}


def knowledge_words(report: Report) -> str:
    """What the attacker knows, in a sentence or two."""
    return _KNOWLEDGE[report.knowledge]


def threat_words(report: Report) -> list[str]:
    """What the attacker may change, a sentence each; of a report without attacks, that there are none."""
    threat = report.threat
    if threat is None:
        return ["No attack was run: the report has clean accuracies alone."]
    low, high = threat.clip
    moved = {
        "Linf": f"every colour value of every pixel by at most {threat.eps}",
        "L2": f"an image by at most {threat.eps}, the Euclidean length of the change of all its colour values",
    }.get(threat.norm, f"an image by at most {threat.eps} in the norm {threat.norm}")
    said = [
        f"The attacker may change {moved} (norm {threat.norm}, colour values from 0 to 1), "
        f"as long as all values stay between {low:g} and {high:g}."
    ]
    if threat.grid is not None:
        said.append(f"The pixels that are changed are those of images of {threat.grid[1]} × {threat.grid[0]}.")
    if threat.preprocessing is not None and threat.preprocessing.outside != NOT_RESIZED:
        said.append(f"The images were resized before the attack: {threat.preprocessing.outside}.")
    if threat.inside != NOT_RESIZED:
        said.append(f"The model resizes them inside the attack: {threat.inside}.")
    return said


def attack_words(report: Report) -> list[str]:
    """The attacks with their settings, one line each."""
    if report.adversarial is not None:
        made = getattr(report.adversarial, "attack", None)
        known = made if isinstance(made, dict) else {}
        how = [f"saved images of {known.get('name', 'an attack')}, seed {report.seed}"]
        how += ["every step on every image"] * bool(known.get("every_step"))
        how += ["rounded to 8 bits"] * bool(known.get("quantized"))
        return [", ".join(how)]
    return [f"{attack.name}: {_settings(attack)}" for attack in report.attacks]


def _settings(attack: Attack) -> str:
    """The settings of an attack; its record may lack any of them."""
    found = attack.to_record()
    loss, steps, restarts = str(found.get("loss", "unknown")), found.get("steps"), found.get("restarts")
    unit = ("query", "queries") if attack.name.startswith("square") else ("step",)
    size = f" of {found['step']}" if found.get("step") else ""
    parts = {
        _LOSSES.get(loss, loss): True,
        f"{counted(steps, *unit) if isinstance(steps, int) else steps}{size}": steps is not None,
        "random start": found.get("random_start"),
        f"{restarts} restarts, of which the worst counts": restarts not in (None, 1),
        f"targets: {found.get('targets')}": found.get("targets"),
        f"mean of {found.get('eot')} random draws": found.get("eot"),
        str(found.get("library")): found.get("library"),
    }
    return ", ".join(part for part, applies in parts.items() if applies)


def splits_of(report: Report) -> list[str]:
    """The splits that were evaluated, as far as they have names."""
    found = report.data.to_record().get("splits")
    return [str(split) for split in found if split != UNNAMED] if isinstance(found, list) else []


def data_words(report: Report) -> str:
    """Which images were evaluated."""
    splits = splits_of(report)
    where = f"{report.data.source}, split {', '.join(splits)}" if splits else report.data.source
    if report.sample is None:
        return f"{where}, every image"
    one = report.sample
    limits = {"of a class": one.max_per_class, "in all": one.max_images}
    most = ", ".join(f"at most {limit:,} {what}" for what, limit in limits.items() if limit is not None)
    return f"{where}, {one.images:,} of {one.of:,} images: {most}, sampled with seed {one.seed}"


def model_words(report: Report) -> list[str]:
    """Each model, and how it was trained as far as that is recorded, one line each."""
    return [f"{model.name}: {_model(model)}" for model in report.models]


def _model(model: Model) -> str:
    first = f"objective {model.objective}, anchors {model.anchors}"
    trained = model.training
    if trained is None:
        return f"{first}; its training is not recorded"
    parts = {
        "run": trained.name,
        "imported from": trained.imported,
        "weight in the blend": trained.blend,
        "blended with": trained.blend_with,
        "backbone": trained.backbone,
        "trained on": trained.data,
        "images": trained.images,
        "seen classes": trained.classes,
        "epochs": trained.epochs,
        "training eps": trained.eps,
        "training norm": (trained.model_extra or {}).get("norm"),
        "attack steps": trained.steps,
        "tau": trained.tau,
        "training seed": trained.seed,
    }
    return ", ".join([first, *(f"{what} {value}" for what, value in parts.items() if value is not None)])


def protocol_words(report: Report) -> str:
    """Which classes were candidates for which images."""
    one = report.protocol
    if one.name == "gzsl":
        return "generalized zero-shot (gzsl): every image once, seen and novel classes are candidates together"
    if one.name == "all-way":
        return "all-way: every image once, all classes of its group are candidates"
    counts = one.shots if isinstance(one.shots, list) else [one.shots or 0]
    shots = " and ".join("0 (zero-shot, from the names alone)" if count == 0 else str(count) for count in counts)
    said = (
        f"{counted(one.episodes or 0, 'episode')} of {one.ways} classes with {one.queries} query images each; "
        f"support images of a class: {shots}; episode seed {one.episode_seed}"
    )
    how = [f"weight of the name's anchor: {one.blend:g}"] if one.blend else []
    how += support_words(one)
    how += ["the episodes came from a file"] if one.replayed else []
    return "; ".join([said, *how])


def support_words(protocol: ProtocolRecord) -> list[str]:
    """How the support images are used, as far as it is not by the means of their unit embeddings."""
    embeddings = ["unnormalized embeddings"] if protocol.support_embeddings == "raw" else []
    return [*embeddings, *([f"head {protocol.head}"] if protocol.head else [])]
