"""Reading AlpacaEval's files, and the command on them."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from selfie.errors import DataError
from selfie.evaluation.__main__ import main
from selfie.evaluation.alpaca_files import read_annotations, read_gamed_baselines, read_reference

REFERENCE = [{"instruction": f"Count to {n}.", "output": "one two three"[: 3 + n]} for n in range(8)]
GAMED = pd.DataFrame(
    [
        {
            "model": model,
            "index": index,
            "preference": wins,
            "std_delta_len": difference + index / 20,
            "instruction_difficulty": index / 4 - 1,
            "not_gamed_baseline": False,
        }
        for model, wins, difference in (("verbose", 0.6, -0.6), ("concise", 0.2, 0.7))
        for index in range(8)
    ]
)


def rows(**changes: Any) -> list[dict[str, Any]]:
    preferences = [1.9, 1.0, 1.5, 1.2, 2.0, 1.1, 1.7, 1.0]
    return [
        {
            "instruction": answer["instruction"],
            "output_2": "x" * (2 + 5 * index % 13),
            "generator_2": "tiny",
            "preference": preferences[index],
            "index": index,
            **changes,
        }
        for index, answer in enumerate(REFERENCE)
    ]


def without(key: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != key} for record in records]


def write(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write(tmp_path / "reference_outputs.json.gz", REFERENCE)


def table(path: Path, models: dict[str, pd.DataFrame]) -> Path:
    pd.concat([rows.assign(model=model) for model, rows in models.items()]).to_csv(path, index=False)
    return path


def printed(*arguments: Any) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*map(str, arguments), "--samples", "50"])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_a_folder_of_models(tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "annotations"
    folder.mkdir()
    write(folder / "tiny-1.5b.json", rows())
    write(folder / "other.json.gz", rows()[:3])
    (folder / "notes.txt").write_text("not annotations")
    models = read_annotations(folder, read_reference(reference))
    assert list(models) == ["other", "tiny-1.5b"]
    assert len(models["other"]) == 3
    assert models["tiny-1.5b"].iloc[2].to_dict() == {"index": 2, "len_1": 5, "len_2": 12, "preference": 1.5}


def test_folder_file_and_table_give_the_same_figures(tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "annotations"
    folder.mkdir()
    write(folder / "tiny.json", rows())
    write(folder / "other.json.gz", rows(preference=1.3)[:5] + rows(preference=1.9)[5:])
    csv = table(tmp_path / "annotations.csv", read_annotations(folder, read_reference(reference)))
    expected = printed(folder, "--reference", reference)
    assert set(expected["tiny"]) >= {
        "win_rate",
        "win_rate_ci",
        "length_controlled_win_rate",
        "length_controlled_win_rate_ci",
        "length_controlled_by",
        "n",
    }
    assert printed(csv) == expected

    spaced = write(tmp_path / "spaced.csv", csv.read_text().replace(",", ", "))
    assert printed(spaced) == expected
    alone = printed(folder / "tiny.json", "--reference", reference)["tiny"]
    assert alone["win_rate"] == expected["tiny"]["win_rate"]


def test_the_published_fit_where_its_file_is_given(tmp_path: Path, reference: Path) -> None:
    gamed = tmp_path / "df_gamed.csv"
    GAMED.to_csv(gamed, index=False)
    path = write(tmp_path / "tiny.json", rows())
    fitted = printed(path, "--reference", reference, "--gamed", gamed)["tiny"]
    assert fitted["length_controlled_by"] == "glm"
    assert fitted["length_controlled_win_rate"] != printed(path, "--reference", reference)["tiny"]["win_rate"]


def test_annotations_json_is_named_by_its_generator(tmp_path: Path, reference: Path) -> None:
    path = write(tmp_path / "annotations.json", rows())
    assert list(read_annotations(path, read_reference(reference))) == ["tiny"]


def test_output_1_makes_the_reference_unnecessary(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.json", rows(output_1="four"))
    assert (read_annotations(path)["tiny"]["len_1"] == 4).all()


def test_legacy_keys(tmp_path: Path, reference: Path) -> None:
    legacy = [{"output" if key == "output_2" else key: value for key, value in row.items()} for row in rows()]
    path = write(tmp_path / "legacy.json", without("index", legacy)[::-1])
    answers = write(
        tmp_path / "old.json", [{"instruction": r["instruction"], "output_1": r["output"]} for r in REFERENCE]
    )
    read = read_annotations(path, read_reference(answers))["legacy"].sort_values("index", ignore_index=True)
    modern = read_annotations(write(tmp_path / "modern.json", rows()), read_reference(reference))["modern"]
    pd.testing.assert_frame_equal(read, modern)


@pytest.mark.parametrize("missing", ["null", "NaN", "-1"])
def test_answers_without_a_preference_are_counted(tmp_path: Path, reference: Path, missing: str) -> None:
    records = json.dumps(rows()).replace('"preference": 1.9', f'"preference": {missing}')
    result = printed(write(tmp_path / "tiny.json", records), "--reference", reference)["tiny"]
    assert (result["n"], result["n_unjudged"]) == (7, 1)
    assert result["win_rate"] == pytest.approx(100 * 2.5 / 7)
    assert math.isfinite(result["length_controlled_win_rate"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (rows(preference=2.5), r"tiny\.json, row 1: preference.*2\.5"),
        (rows(preference="best"), r"row 1: preference"),
        (without("preference", rows()), r"row 1: preference: Field required"),
        (without("output_2", rows()), r"row 1: output_2: Field required"),
        ([*rows(), rows()[4]], r"row 9: index 4 is in row 5 already"),
        (rows(index=8), r"row 1: the reference has no index 8"),
        (rows(index=-1), r"row 1: the reference has no index -1"),
        (rows(instruction="Sing."), r"row 1: another instruction than the reference's 0"),
        (without("index", rows(instruction="Sing.")), r"row 1: no index, and no such instruction"),
        (["text"], r"row 1: Input should be"),
        ([], r"no annotations"),
        ({"tiny": 1}, r"not a JSON list"),
        ("[1,", r"not a JSON file"),
    ],
)
def test_bad_annotations(tmp_path: Path, reference: Path, content: Any, problem: str) -> None:
    path = write(tmp_path / "tiny.json", content)
    with pytest.raises(DataError, match=problem):
        read_annotations(path, read_reference(reference))


def test_no_reference(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: no output_1"):
        read_annotations(write(tmp_path / "tiny.json", rows()))


def test_bad_folders(tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "annotations"
    folder.mkdir()
    with pytest.raises(DataError, match="no annotations"):
        read_annotations(folder)
    write(folder / "tiny.json", rows())
    write(folder / "tiny.json.gz", rows())
    with pytest.raises(DataError, match="a second file of tiny"):
        read_annotations(folder, read_reference(reference))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("model,index,len_1,len_2\ntiny,0,3,4\n", "no column preference"),
        ("model,index,len_1,len_2,preference\n", "no annotations"),
        ("model,index,len_1,len_2,preference\ntiny,0,3,4,1\ntiny,1,3,4,3\n", "line 3: preference 3 is neither"),
        ("model,index,len_1,len_2,preference\ntiny,0,3,4,good\n", "line 2"),
        ("model,index,len_1,len_2,preference\ntiny,0,3,-4,1\n", "line 2: len_2"),
        ("model,index,len_1,len_2,preference\ntiny,0.5,3,4,1\n", "line 2: index"),
        ("model,index,len_1,len_2,preference\ntiny,0,three,4,1\n", "line 2: len_1"),
        (
            "model,index,len_1,len_2,preference\ntiny,0,3,4,1\ntiny,0,3,5,1\n",
            "line 3: index 0 of tiny is there already",
        ),
        ("model,index,len_1,len_2,preference\n,0,3,4,1\n", "line 2: model"),
        ("", "not a CSV file"),
    ],
)
def test_bad_tables(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_annotations(write(tmp_path / "annotations.csv", content))


def test_a_model_may_be_called_na(tmp_path: Path) -> None:
    path = write(tmp_path / "annotations.csv", "model,index,len_1,len_2,preference\nNA,0,3,4,\nNA,1,3,4,1.5\n")
    assert read_annotations(path)["NA"]["preference"].isna().tolist() == [True, False]


def test_bad_gamed_baselines(tmp_path: Path) -> None:
    path = tmp_path / "df_gamed.csv"
    GAMED.drop(columns="std_delta_len").to_csv(path, index=False)
    with pytest.raises(DataError, match="no column std_delta_len"):
        read_gamed_baselines(path)
    GAMED.assign(not_gamed_baseline=True).to_csv(path, index=False)
    with pytest.raises(DataError, match="not_gamed_baseline"):
        read_gamed_baselines(path)
    GAMED.replace({"instruction_difficulty": {-1.0: None}}).to_csv(path, index=False)
    with pytest.raises(DataError, match="line 2: instruction_difficulty"):
        read_gamed_baselines(path)


def test_errors_reach_the_user(tmp_path: Path, reference: Path) -> None:
    path = write(tmp_path / "tiny.json", rows(preference=-2))
    result = CliRunner().invoke(main, [str(path), "--reference", str(reference)])
    assert result.exit_code == 2
    assert "tiny.json, row 1" in result.output
    assert "→" in result.output
