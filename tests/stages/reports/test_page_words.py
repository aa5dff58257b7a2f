"""What the page says in words, and the command that repeats an evaluation."""

from __future__ import annotations

from stages.reports.model_records import Training
from stages.reports.page.repeat import repeat_command
from stages.reports.page.words import attack_words, model_words, protocol_words
from tests.stages.reports.test_report import report
from tests.stages.reports.test_shots import episodes


def test_a_few_shot_head_and_raw_embeddings_are_said_and_repeated() -> None:
    found = episodes(0)
    how = found.protocol.model_copy(update={"head": "r2d2", "support_embeddings": "raw", "blend": 2.0})
    found = found.model_copy(update={"protocol": how})
    command = repeat_command(found).command
    assert "--episodes 10 --blend 2 --support-embeddings raw --head r2d2" in command
    assert protocol_words(found).endswith("weight of the name's anchor: 2; unnormalized embeddings; head r2d2")


def test_the_anchors_that_have_to_answer_are_named() -> None:
    identity = {"inputs": {"anchors": "12" * 32}, "settings": {}, "versions": {}}
    notes = repeat_command(episodes(0).model_copy(update={"identity": identity})).notes
    assert any("again.json has to record the digest 121212121212… of the anchors" in note for note in notes)
    assert not any("--anchors" in note for note in repeat_command(report()).notes)


def test_a_folder_of_images_has_to_be_given_whatever_its_name() -> None:
    found, said = report(), "give its path or hub id"
    for source, needed in {"shapes:small": False, "shapes-of-leaves": True}.items():
        data = found.data.model_copy(update={"source": source})
        assert any(said in note for note in repeat_command(found.model_copy(update={"data": data})).notes) == needed


def test_a_blend_is_said_to_be_one() -> None:
    found = episodes(0)
    (model,) = found.models
    training = Training(anchors="raw", objective="laat", blend=0.7, blend_with="at")
    found = found.model_copy(update={"models": [model.model_copy(update={"training": training})]})
    assert "weight in the blend 0.7, blended with at" in model_words(found)[0]


def test_one_step_is_singular() -> None:
    found = report()
    attack = found.attacks[0].model_copy(update={"steps": 1, "step": "1 eps"})
    assert attack_words(found.model_copy(update={"attacks": [attack]}))[0].startswith("pgd-20: cross-entropy, 1 step of 1 eps")
