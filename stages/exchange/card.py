"""The model card that is published with a checkpoint: what it is, what was measured, how, and what was not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.conditions import NOT_RESIZED
from stages.exchange.card_metadata import card_metadata
from stages.exchange.card_unmeasured import GROUPS, LIMITS, not_measured
from stages.exchange.hub import CHECKPOINT
from stages.expand.methods import described
from stages.files.artifact_params import Calibration
from stages.files.artifacts import Artifact
from stages.files.training_params import blend_of
from stages.models.new_anchors import no_encoder
from stages.reports.records import Report, Result
from stages.reports.report_tables import check_lines, failed_checks, report_tables
from stages.reports.tables import markdown_text as plain
from stages.reports.tables import render
from stages.statistics.calibration import temperature_text
from stages.text import counted, visible

_CITATION = """    @inproceedings{li2024language,
      title     = {Language-Driven Anchors for Zero-Shot Adversarial Robustness},
      author    = {Li, Xiao and Zhang, Wei and Liu, Yining and Hu, Zhanhao and Zhang, Bo and Hu, Xiaolin},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2024}
    }"""
_NAMES_SHOWN = 200
# names that need no quotes in a command
_PLAIN_NAME = re.compile(r"\w[\w -]*")


def model_card(repository: str, checkpoint: Artifact, report: Report | None, *, license: str, files: Mapping[str, int]) -> str:
    """The text of README.md.

    Args:
        repository: where it is published, ORG/NAME.
        checkpoint: an artifact of kind 'model'.
        report: of this checkpoint alone; None if nothing was measured.
        license: its identifier on the hub.
        files: name -> bytes of the other files.

    Returns:
        Markdown with metadata in YAML. Text from outside is shown as it is, and the same input gives the same text.
    """
    metadata = card_metadata(repository.rpartition("/")[2], license, report)
    sections = {
        "Use": _use(repository, checkpoint),
        "Evaluation": ["No report was given: nothing was measured."] if report is None else list(_evaluation(report, files)),
        "What was not measured": [f"- {line}" for line in not_measured(checkpoint, report)],
        "Limits": [f"- {line}" for line in LIMITS],
        "Model": list(_model(checkpoint)),
        "Training": list(_training(checkpoint.params["training"])),
        "Files": _table(("file", "bytes"), [(plain(name), f"{size:,}") for name, size in files.items()]),
        "Licence and citation": [f"Licence: {plain(license)}. The method:", "", _CITATION],
    }
    body = "\n\n".join("\n".join([f"## {title}", "", *lines]) for title, lines in sections.items())
    return f"---\n{metadata}\n---\n\n# {plain(repository)}\n\n{_summary(checkpoint, report)}\n\n{body}\n"


def _summary(checkpoint: Artifact, report: Report | None) -> str:
    """What it is and how well it does, in a sentence each; a warning where the figures cannot be trusted."""
    params = checkpoint.params
    counts = [f"{len(members):,} {group}" for group, members in _groups(params).items() if members]
    objective = params["training"]["settings"].get("objective")
    training = f", trained with the objective {plain(str(objective))}" if objective else ""
    imported = params["training"].get("imported")
    made = "Made with laat" if imported is None else f"Converted from {plain(imported['file'])} of another program with laat"
    by = (
        "recognises classes from their names"
        if no_encoder(params.get("origin", {})) is None
        else "has an anchor for each class"
    )
    lines = [
        f"An image classifier that {by}{training}. Classes: {', '.join(counts)}. "
        f"{made}, which implements [language-driven anchors](https://arxiv.org/abs/2301.13096)."
    ]
    if report is None:
        return "\n\n".join([*lines, "**Its accuracy and robustness were not measured.**"])
    lines += [_accuracy(result, report) for result in report.results]
    if failed := ", ".join(failed_checks(report)):
        lines.append(f"> **Warning:** checks of the attacks failed ({failed}): the robust accuracies can be too high.")
    return "\n\n".join(lines)


def _accuracy(result: Result, report: Report) -> str:
    """The figures of a result in a sentence."""
    shown = {name: one.accuracy for name, one in result.shares().items() if name in ("clean", "worst")}
    if "worst" not in shown:
        shown |= {f"under {name}": one.accuracy for name, one in result.attacks.items()}
    among = [f"{result.group} classes", f"{result.ways} candidates", counted(result.images, "image")]
    if result.protocol != "all-way":
        among.append(result.protocol + (" at bias 0" if result.gzsl is not None and result.gzsl.bias is None else ""))
    if report.under:
        among.append(f"attacks in {report.under}")
    said = f"Accuracy ({plain(', '.join(among))}): {_shares(shown)}; chance {_percent(result.chance)}."
    if result.gzsl is not None:
        attacked = {"worst": result.gzsl.worst.H.accuracy} if result.attacks else {}
        means = _shares({"clean": result.gzsl.clean.H.accuracy, **attacked})
        said = f"{said} Harmonic mean H of seen and novel classes: {means}."
    return said


def _shares(found: Mapping[str, float]) -> str:
    return ", ".join(f"{plain(name)} {_percent(share)}" for name, share in found.items())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _use(repository: str, checkpoint: Artifact) -> list[str]:
    architecture = checkpoint.params["architecture"]
    own = architecture.get("module") or (architecture.get("backbone") if ":" in (architecture.get("backbone") or "") else None)
    size = architecture.get("image_size")
    sized = f"Images have {size}x{size} pixels; `laat predict` resizes others. " if size else ""
    lines = [
        "```sh",
        *_predict_commands(repository, checkpoint.params),
        f"laat eval hf-hub:{repository} --data photos",
        f"laat pull {repository}",
        "```",
        "",
        "```python",
        "import stages as laat",
        "",
        f'classifier = laat.load("hf-hub:{repository}")  # a torch.nn.Module: images to logits',
        "```",
        "",
        f"{sized}Pixels are uint8, or floats in [0, 1]; normalisation is part of the model. "
        f"`{CHECKPOINT}` is a safetensors file: loading it runs no code.",
    ]
    if (refused := no_encoder(checkpoint.params.get("origin", {}))) is not None:
        lines += [
            "",
            f"Other class names need anchors of the same kind: {plain(refused.what)}. {plain(_sentence(refused.fix))}",
        ]
    if own and not str(own).startswith(("clip:", "timm:")):
        lines += [
            "",
            f"Loading it needs the code that it was trained with, {plain(str(own))}: it is not published here.",
        ]
    return lines


def _predict_commands(repository: str, params: Mapping[str, Any]) -> list[str]:
    """How to predict: with other names too, where the checkpoint can encode them."""
    command = f"laat predict hf-hub:{repository} photos/"
    if no_encoder(params.get("origin", {})) is not None:
        return [command, f"{command} --anchors anchors.st  # other classes, see below"]
    names = _groups(params).get("novel") or params["classes"]
    known = [name for name in names if _PLAIN_NAME.fullmatch(visible(name))]
    return [f'{command} --names "{",".join(known[:3])}"  # or other class names' if len(known) > 1 else command]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _evaluation(report: Report, files: Mapping[str, int]) -> Iterator[str]:
    for table in report_tables({"report": report}):
        yield from render(table, "markdown").splitlines()
        yield ""
    yield from _table(("condition", "value"), [(name, plain(value)) for name, value in _how(report)])
    yield ""
    lines = check_lines(report)
    yield "Checks of the attacks:" if lines else "The attacks were not checked."
    if lines:
        yield ""
        yield from (f"{line[: len(line) - len(line.lstrip())]}- {plain(line.strip())}" for line in lines)
    yield ""
    rows = any(name.endswith(".parquet") for name in files)
    yield f"`laat report report.json` shows these tables again{', checked against the rows beside it' if rows else ''}."


def _how(report: Report) -> Iterator[tuple[str, str]]:
    """How the figures were measured, as names and values."""
    if report.threat is None:
        yield "threat model", "none: no attack was run"
    else:
        low, high = report.threat.clip
        yield "threat model", f"{report.threat}, pixels in [{low:g}, {high:g}]"
        yield "attacker knowledge", report.knowledge
        if report.threat.preprocessing is not None:
            outside = report.threat.preprocessing.outside
            yield "resized before the attack", "no" if outside == NOT_RESIZED else outside
    yield "suite", report.suite or "none: attacks by name"
    for attack in report.attacks:
        yield "attack", _named(attack.to_record())
    if report.adversarial is not None:
        yield "attack", f"saved images, SHA-256 {report.adversarial.sha256}"
    yield "protocol", _named(report.protocol.to_record())
    data = report.data.to_record()
    yield "data", ", ".join([data["source"], *(data.get("splits") or [])])
    if data.get("sha256"):
        yield "SHA-256 of the data", data["sha256"]
    if report.sample is not None:
        yield "sample", f"{report.sample.images:,} of {report.sample.of:,} images, seed {report.sample.seed}"
    yield "seed", str(report.seed)
    yield "version of laat", report.tool


def _named(record: dict[str, Any]) -> str:
    """Something by its name, with its settings."""
    settings = {name: value for name, value in record.items() if name != "name" and value is not None}
    return ", ".join([record["name"], *(f"{name.replace('_', ' ')} {_value(value)}" for name, value in settings.items())])


def _model(checkpoint: Artifact) -> Iterator[str]:
    params = checkpoint.params
    origin = params.get("origin", {})
    architecture = {name: value for name, value in params["architecture"].items() if not isinstance(value, dict)}
    rows = [(name.replace("_", " "), _value(value)) for name, value in architecture.items() if value is not None]
    rows += [*_origin(origin, "anchors"), ("anchors: expansion", described(params.get("expansion")))]
    calibration = params.get("calibration")
    rows.append(("calibration", "none" if calibration is None else _calibration(calibration)))
    rows.append((f"SHA-256 of {CHECKPOINT}", checkpoint.sha256))
    yield from _table(("part", "value"), [(plain(name), plain(value)) for name, value in rows])
    for group, names in _groups(params).items():
        if names:
            more = f", and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
            yield ""
            yield f"{group.capitalize()} classes ({len(names):,}): {', '.join(map(plain, names[:_NAMES_SHOWN]))}{more}."


def _origin(origin: Mapping[str, Any], whose: str) -> Iterator[tuple[str, str]]:
    """Where anchors come from, and the parts of merged ones."""
    for name, value in origin.items():
        if name != "parts" and value not in (None, "", []):
            yield f"{whose}: {name.replace('_', ' ').replace('sha256', 'SHA-256')}", _value(value)
    for number, part in enumerate(origin.get("parts") or (), 1):
        own = f"{whose}, part {number}"
        yield f"{own}: weight", _value(part["weight"])
        yield from _origin(part["origin"], own)
        yield f"{own}: expansion", described(part.get("map"))


def _calibration(record: Mapping[str, Any]) -> str:
    bias = "no bias" if record.get("bias") is None else f"bias {record['bias']:.4g} on seen classes"
    return f"{temperature_text(Calibration.model_validate(record))}; {bias}"


def _training(training: Mapping[str, Any]) -> Iterator[str]:
    data, selection = training.get("data", {}), training.get("selection", {})
    rows = [("data", ", ".join([str(data.get("source", "not recorded")), *(data.get("splits") or [])]))]
    if imported := training.get("imported"):
        rows.insert(0, ("imported from", f"{imported['file']} ({imported['layout']}), SHA-256 {imported['sha256']}"))
        rows += [("changed", change) for change in imported["changes"]]
    weight, rest = blend_of(training)
    if weight is not None:
        other = rest or "another checkpoint"
        rows.insert(0, ("blend", f"{_value(weight)} of the weights that were trained as below, the rest of {other}"))
    rows += [("SHA-256 of the data", data["sha256"])] if data.get("sha256") else []
    rows += [("images", f"{training['images']:,}")] if training.get("images") else []
    if selection:
        rows.append(("selected epoch", _selected(selection)))
    rows += [(name.replace("_", " "), _value(value)) for name, value in training["settings"].items() if value is not None]
    yield from _table(("setting", "value"), [(plain(name), plain(value)) for name, value in rows])


def _selected(record: Mapping[str, Any]) -> str:
    """The epoch that was kept, its accuracies, and the images that they were measured on; as far as they are recorded."""
    shares = [
        f"{name} accuracy {_percent(record[name])}" for name in ("clean", "robust") if isinstance(record.get(name), float)
    ]
    shares += [f"under {_value(record['attack'])}"] if "attack" in record else []
    on = [f"{_value(record[key])} {key}" for key in ("images", "classes") if key in record]
    parts = [_value(record.get("epoch", "not recorded")), *shares, *([f"on {' of '.join(on)}"] if on else [])]
    return ": ".join([", ".join(parts), *([_value(record["source"])] if "source" in record else [])])


def _groups(params: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the seen, validation and novel classes; of an imported model nobody may know which were seen."""
    imported = params["training"].get("imported")
    if imported is not None and not imported["groups_known"]:
        return {"possibly seen": params["classes"]}
    return {word: [params["classes"][at] for at in params["groups"].get(group, ())] for group, word in GROUPS.items()}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table of text that is safe in one."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _value(value: Any) -> str:
    """A setting as text for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{visible(name)} {_value(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if value is None:
        return "none"
    return visible(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
