from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.folders.locate import Location, locate
from stages.errors import InputError, UsageError

MARKERS = {"state.json": '{"_data_files": []}', "dataset_dict.json": '{"splits": ["train"]}'}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_kinds(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet", "tables/train.parquet", "saved/state.json", "dict/dataset_dict.json", "cls/cat/1.png")
    kinds = {name: locate(name).kind for name in ("a.parquet", "tables", "saved", "dict", "cls", "shapes", "org/name")}
    assert kinds == {
        "a.parquet": "parquet",
        "tables": "parquet",
        "saved": "saved",
        "dict": "saved",
        "cls": "folders",
        "shapes": "shapes",
        "org/name": "hub",
    }


def test_the_name_is_no_path_of_the_machine(tmp_path: Path) -> None:
    touch(tmp_path, "deep/zoo/cat/1.png")
    assert locate(str(tmp_path / "deep" / "zoo") + "/").name == "zoo"
    assert locate("deep/zoo/cat/..").name == "zoo"


def test_a_local_folder_wins_over_the_hub(tmp_path: Path) -> None:
    touch(tmp_path, "org/name/cat/1.png")
    assert locate("org/name") == Location("folders", "name", Path("org/name"))


def test_a_folder_called_shapes_is_reached_by_its_path(tmp_path: Path) -> None:
    touch(tmp_path, "shapes/cat/1.png")
    assert locate("shapes").kind == "shapes"
    assert locate("./shapes").kind == "folders"


def test_a_variant_of_the_bundled_shapes() -> None:
    assert locate("shapes:small") == Location("shapes", "shapes:small")
    with pytest.raises(UsageError, match="no variant 'shapes:smal'; the nearest: 'shapes:small'"):
        locate("shapes:smal")


@pytest.mark.parametrize("data", ["nowhere", "/no/where", "a/b/c", "org/na me", "../x", "x" * 5000, "a\0b"])
def test_what_does_not_exist_is_told_with_what_data_can_be(data: str) -> None:
    with pytest.raises(InputError, match="does not exist; give a folder of class folders, a parquet file"):
        locate(data)


def test_a_misspelt_folder_inside_a_local_one_is_no_hub_id(tmp_path: Path) -> None:
    touch(tmp_path, "photos/cats/1.png")
    with pytest.raises(InputError, match="'photos/cast' does not exist"):
        locate("photos/cast")


def test_another_file_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "photos.zip")
    with pytest.raises(InputError, match=r"'photos\.zip' is a file, but not a parquet"):
        locate("photos.zip")


def test_no_name_at_all() -> None:
    with pytest.raises(UsageError, match="empty"):
        locate("")


@pytest.mark.parametrize(
    ("stray", "reading"),
    [
        (["embeddings/clip.parquet"], r"tables \('embeddings/clip\.parquet'\)"),
        (["clip.parquet"], r"tables \('clip\.parquet'\)"),
        (["cat/a/b/c/meta.PQ"], r"tables \('cat/a/b/c/meta\.PQ'\)"),
        (["state.json"], r"a saved dataset \('state\.json'\)"),
        (["dataset_dict.json"], r"a saved dataset \('dataset_dict\.json'\)"),
    ],
)
def test_a_stray_table_in_an_image_folder_is_refused(tmp_path: Path, stray: list[str], reading: str) -> None:
    touch(tmp_path, "zoo/cat/1.png", "zoo/dog/1.png", *(f"zoo/{name}" for name in stray))
    if stray[0] in MARKERS:
        (tmp_path / "zoo" / stray[0]).write_text(MARKERS[stray[0]])
    with pytest.raises(InputError, match=rf"'zoo' can be read as {reading} or as images in folders \('cat', 'dog'\).*--layout"):
        locate("zoo")
    assert locate("zoo", "classes").kind == "folders"
    assert locate("zoo", "splits").kind == "folders"
    assert locate("zoo", "tables").kind == ("saved" if "saved" in reading else "parquet")


@pytest.mark.parametrize("stray", ["state.json", "dataset_dict.json", "cat/state.json", ".cache/x.parquet", "x.arrow"])
def test_what_is_no_table_does_not_count(tmp_path: Path, stray: str) -> None:
    touch(tmp_path, "zoo/cat/1.png", f"zoo/{stray}")
    assert locate("zoo").kind == "folders"


@pytest.mark.parametrize("stray", ["preview.png", "docs/readme.md", ".git/logo/1.png", "__MACOSX/a/1.png", "assets/a.png"])
def test_what_is_no_class_folder_does_not_count(tmp_path: Path, stray: str) -> None:
    touch(tmp_path, "pets/data/train.parquet", f"pets/{stray}")
    assert locate("pets").kind == "parquet"


def test_pictures_beside_tables_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "pets/train.parquet", "pets/a/cover.png", "pets/b/1.png", "both/train.parquet")
    (tmp_path / "both" / "state.json").write_text(MARKERS["state.json"])
    for name in ("pets", "both"):
        with pytest.raises(InputError, match=f"'{name}' can be read as .* or as "):
            locate(name)
    touch(tmp_path, "zoo/train/cat/1.png", "zoo/train/dog/1.png", "zoo/clip.parquet")
    with pytest.raises(InputError, match=r"or as images in folders \('train'\)"):
        locate("zoo")
    assert locate("pets", "tables").kind == locate("pets/train.parquet").kind == "parquet"


def test_a_layout_is_for_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet", "zoo/cat/1.png")
    for data in ("a.parquet", "shapes", "org/name"):
        with pytest.raises(UsageError, match=f"'{data}' is no folder; use --layout with folders only"):
            locate(data, "classes")
    with pytest.raises(InputError, match="'zoo' contains no tables"):
        locate("zoo", "tables")
