import pandas as pd
import pytest

from neuro_ssl.data.manifest import add_scan_ids, read_manifest, validate, write_manifest
from neuro_ssl.errors import InputError

GOOD = {"subject_id": ["a", "b"], "image_path": ["x.nii", "y.nii"]}


def test_canonical_types_ids_and_words():
    frame = pd.DataFrame(
        GOOD | {"sex": ["female", "m"], "age_years": ["31", None], "site": [None, "7"], "score": ["1", "2.5"]}
    )
    manifest = validate(frame, "/somewhere/ixi.csv")
    assert manifest["subject_id"].tolist() == ["ixi/a", "ixi/b"]
    assert manifest["cohort"].tolist() == ["ixi", "ixi"]
    assert manifest["sex"].tolist() == ["F", "M"]
    assert manifest["age_years"].dtype == "float64" and manifest["age_years"].isna().tolist() == [False, True]
    assert manifest["site"].isna().tolist() == [True, False] and manifest["site"][1] == "7"
    assert manifest["score"].tolist() == [1.0, 2.5]
    assert list(frame["sex"]) == ["female", "m"]  # the caller's table is left alone


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_path": ["x", "x"]}, r"t\.csv, row 1 \(t/a\), image_path: x: .*another row"),
        ({"sex": ["F", "1"]}, r"row 2 \(t/b\), sex: '1' .*dataset\.values='\{sex: \{1: M, 2: F\}\}'"),
        ({"sex": [1, 2]}, r"row 1 \(t/a\), sex"),
        ({"age_years": ["30", "thirty"]}, r"row 2 \(t/b\), age_years: 'thirty' is not a number"),
        ({"age_years": [30, 400]}, r"row 2 \(t/b\), age_years: 400.0: ages are in years"),
        ({"nihss": [43, 1]}, r"row 1 \(t/a\), nihss: 43.0: NIHSS runs from 0 to 42"),
        ({"split": ["train", "dev"]}, r"row 2 \(t/b\), split: dev: a split is one of train, val, test"),
        ({"subject_id": ["a", None]}, r"row 2 .*subject_id: nan: a value is needed"),
        ({"subject_id": ["a/b/c", "d"]}, r"row 1 .*subject_id: .*cohort/subject"),
        ({"scan_id": ["a", "../b"]}, r"row 2 .*scan_id"),
    ],
)
def test_refuses_and_names_row_column_and_remedy(columns, message):
    with pytest.raises(InputError, match=message):
        validate(pd.DataFrame(GOOD | columns), "t.csv")


def test_missing_image_column_suggests_the_one_that_was_meant():
    with pytest.raises(InputError, match="no column 'image_path'; did you mean 'image_pth'"):
        validate(pd.DataFrame({"image_pth": ["x"]}), "t.csv")


def test_the_papers_tables_load_unchanged_with_a_warning(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("image_path,mask_path,label\n/d/s1/t1.nii.gz,/d/s1/m.nii.gz,0\n/d/s2/t1.nii.gz,/d/s2/m.nii.gz,1\n")
    with pytest.warns(UserWarning, match="subject of its own"):
        manifest = read_manifest(path)
    assert manifest["subject_id"].tolist() == ["train/d_s1_t1", "train/d_s2_t1"]
    assert manifest["label"].tolist() == [0, 1]
    assert manifest["mask_path"][1] == "/d/s2/m.nii.gz"


@pytest.mark.parametrize("name", ["m.parquet", "m.csv"])
def test_written_and_read_again(tmp_path, name):
    manifest = validate(
        pd.DataFrame(GOOD | {"subject_id": ["007", "b"], "age_years": [1 / 3, None], "sex": ["F", None]}), "c.csv"
    )
    write_manifest(manifest, tmp_path / name)
    pd.testing.assert_frame_equal(read_manifest(tmp_path / name), manifest)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"image_path;subject_id\nx;y\n", "separated by ';'.*needs ','"),
        ("a.tsv", b"image_path,subject_id\nx,y\n", "separated by ','.*needs '\\\\t'"),
        ("a.csv", "image_path,site\nx,Zürich\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", b"", "not a table"),
        ("a.csv", b"image_path\n", "no scans"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "not a table"),
        ("a.parquet", b"nonsense", "not a readable Parquet"),
        ("a.ods", b"nonsense", r"must be \.csv, \.tsv, \.parquet, \.xls or \.xlsx"),
    ],
)
def test_unreadable_tables(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / name)
    with pytest.raises(InputError, match="no such table"):
        read_manifest(tmp_path / "absent.csv")


def test_scan_ids_are_unique_and_name_files():
    manifest = validate(
        pd.DataFrame({"subject_id": ["s 1", "s 1", "s-1", "s2"], "session_id": ["ses-1", "ses-1", "ses-1", None],
                      "image_path": list("wxyz")}), "c.csv")  # fmt: skip
    assert add_scan_ids(manifest)["scan_id"].tolist() == ["s-1_ses-1", "s-1_ses-1_run-2", "s-1_ses-1_run-3", "s2"]
