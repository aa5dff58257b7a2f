from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from datasets.exceptions import DatasetNotFoundError

from stages.anchors.bundled import bundled_classes
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.errors import InputError, MissingError, UsageError
from tests.stages.data.pictures import class_names, noise, png

CIFAR100 = Path(__file__).resolve().parents[4] / "shared" / "data" / "cifar100"
needs_cifar100 = pytest.mark.skipif(not CIFAR100.is_dir(), reason="the CIFAR-100 files are not here")


def test_shapes() -> None:
    names, groups = bundled_classes("shapes")
    wanted = [names[at] for at in groups.novel[:2]]
    images = load_images(ImageRequest("shapes"), side="test", classes=wanted)
    assert class_names(ImageRequest("shapes")) == names
    assert images.size == (32, 32)
    assert len(set(images.counts())) == 1
    assert images.provenance.to_record()["splits"] == ["test"]
    other = load_images(ImageRequest("shapes"), side="train", classes=wanted)
    assert not {i.tobytes() for i in images.images.numpy()} & {i.tobytes() for i in other.images.numpy()}


@needs_cifar100
def test_cifar100_takes_its_splits() -> None:
    names, groups = bundled_classes("cifar-fs")
    novel = [names[at] for at in groups.novel[:3]]
    assert load_images(ImageRequest(str(CIFAR100)), side="test", classes=novel).counts() == [100] * 3
    both = load_images(ImageRequest(str(CIFAR100), split="train+test"), side="train", classes=novel)
    assert both.counts() == [600] * 3
    assert both.size == (32, 32)
    assert both.provenance.source == "cifar100"
    assert both.provenance.divided == ""


@needs_cifar100
def test_cifar100_has_the_classes_of_cifar_fs() -> None:
    names, _ = bundled_classes("cifar-fs")
    assert sorted(class_names(ImageRequest(str(CIFAR100)))) == sorted(name.replace(" ", "_") for name in names)


@needs_cifar100
def test_cifar100_pixels_are_those_of_the_file() -> None:
    import pyarrow.parquet as pq

    first = pq.read_table(next(CIFAR100.glob("test-*.parquet"))).slice(0, 200)
    features = Features.from_arrow_schema(first.schema)
    reference = Dataset.from_dict(first.to_pydict(), features=features)
    name = class_names(ImageRequest(str(CIFAR100)))[reference[0]["fine_label"]]
    images = load_images(ImageRequest(str(CIFAR100)), side="test", classes=[name])
    np.testing.assert_array_equal(images.images[0].permute(1, 2, 0), np.asarray(reference[0]["img"]))


def hub_answers(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    def load_dataset(*_: object, **options: object) -> object:
        assert not options.get("trust_remote_code")
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def test_a_hub_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features({"img": Image(), "label": ClassLabel(names=["cat", "dog"])})
    images = [{"bytes": png(noise(at)), "path": None} for at in range(4)]
    whole = Dataset.from_dict({"img": images, "label": [0, 1, 1, 0]}, features=features)
    hub_answers(monkeypatch, DatasetDict({"train": whole, "test": whole.select([1])}))
    assert load_images(ImageRequest("org/pets"), side="train", classes=["dog"]).counts() == [2]
    test = load_images(ImageRequest("org/pets"), side="test")
    assert test.counts() == [0, 1]
    assert test.provenance.source == "org/pets"


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (ConnectionError("Couldn't reach"), MissingError, "the hub cannot be reached.*parquet"),
        (DatasetNotFoundError("no"), InputError, "neither a local path nor a public dataset.*hf auth login"),
        (ValueError("Config name is missing.\nPick one"), UsageError, "several configurations.*save_to_disk"),
        (RuntimeError("Dataset scripts are no longer supported.\nx"), InputError, r"\(Dataset scripts .* supported\)"),
    ],
)
def test_what_goes_wrong_with_the_hub(
    monkeypatch: pytest.MonkeyPatch, answer: Exception, error: type[Exception], says: str
) -> None:
    hub_answers(monkeypatch, answer)
    with pytest.raises(error, match=f"'org/pets'.*{says}"):
        load_images(ImageRequest("org/pets"), side="train")


def test_offline_mode_is_a_missing_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = (
        "from stages.data.request import ImageRequest\nfrom stages.data.sources import open_source\n"
        "open_source(ImageRequest('laat-no-such-org/nothing'))"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "MissingError: 'laat-no-such-org/nothing' is not a local path, and the hub cannot be reached" in done.stderr


def test_a_command_starts_without_torch_and_datasets() -> None:
    names = "stages.data.sources, stages.data.batches.augment"
    code = f"import sys, {names}; print({{'torch', 'datasets', 'PIL'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
