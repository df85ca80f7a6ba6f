import pandas as pd
import pytest

from neuro_ssl.data.table import TableDataset
from neuro_ssl.errors import InputError

COLUMNS = {"subject_id": "ID", "age_years": "Age", "sex": "Sex"}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "mycohort"
    (root / "007").mkdir(parents=True)
    (root / "007" / "T1_a.nii.gz").touch()
    (root / "8_T1.nii").touch()
    (root / "people.csv").write_text("ID,Age,Sex,file\n007,31.5,1,007/T1_a.nii.gz\n8,n/a,2,8_T1.nii\n")
    return root


def table(root, **options):
    return TableDataset(root=str(root), **({"table": "people.csv", "columns": COLUMNS} | options))


def test_columns_codes_and_paths(root):
    columns = COLUMNS | {"image_path": "file"}
    dataset = table(root, columns=columns, values={"sex": {1: "M", 2: "F"}}, stores_dir="/stores")
    scans = dataset.scans()
    assert scans["subject_id"].tolist() == ["mycohort/007", "mycohort/8"]
    assert scans["sex"].tolist() == ["M", "F"]
    assert scans["age_years"].isna().tolist() == [False, True]
    assert scans["image_path"].tolist() == [str(root / "007/T1_a.nii.gz"), str(root / "8_T1.nii")]
    assert not {"ID", "Age", "Sex", "file"} & set(scans)
    assert (dataset.name, str(dataset.store_dir), dataset.simulated) == ("mycohort", "/stores/mycohort", False)


def test_codes_of_a_column_that_gaps_made_decimal(root):
    frame = pd.DataFrame(
        {"subject_id": ["a", "b", "c"], "sex": [1, 2, None], "image_path": ["8_T1.nii", "007/T1_a.nii.gz", "z"]}
    )
    (root / "z").touch()
    for name in ("p.parquet", "p.csv"):
        (frame.to_parquet if name == "p.parquet" else frame.to_csv)(root / name, index=False)
        scans = table(root, table=name, columns=None, values={"sex": {1: "M", 2: "F"}}).scans()
        assert scans["sex"].tolist()[:2] == ["M", "F"] and pd.isna(scans["sex"][2])


def test_image_pattern(root):
    people = root / "one.csv"
    people.write_text("ID,Age,Sex\n007,31,F\n")
    scans = table(root, table="one.csv", image_pattern="{ID}/T1_?.nii.gz").scans()
    assert scans["image_path"].tolist() == [str(root / "007/T1_a.nii.gz")]
    (root / "007" / "T1_b.nii.gz").touch()
    with pytest.raises(InputError, match=r"1 of 1 rows: 007/T1_\?\.nii\.gz \(2 files\)"):
        table(root, table="one.csv", image_pattern="{ID}/T1_?.nii.gz").scans()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": None}, r"dataset\.table"),
        ({"table": "peple.csv"}, r"dataset.table=peple.csv: no file .*peple.csv"),
        ({"columns": COLUMNS | {"age_years": "Agee"}}, r"dataset\.columns\.age_years: .*did you mean 'Age'"),
        ({}, "no column image_path"),
        ({"image_pattern": "{Id}.nii"}, r"dataset\.image_pattern: .*no column 'Id'; did you mean 'ID'"),
        ({"image_pattern": "{ID.nii"}, r"dataset\.image_pattern='\{ID\.nii'"),
        ({"image_pattern": "{ID}_T1.nii"}, r"for 1 of 2 rows: 007_T1\.nii \(0 files\)"),
        ({"image_pattern": "*", "values": {"diagnosis": {1: "AD"}}}, "must match one file"),
        ({"columns": COLUMNS | {"image_path": "file"}}, "row 1 .*sex: '1' is neither F nor M"),
        ({"columns": COLUMNS | {"image_path": "Age"}, "values": {"sex": {1: "M", 2: "F"}}}, "row 2 .*image_path"),
        ({"columns": {"image_path": "file"}, "values": {"dx": {1: "AD"}}}, r"dataset\.values\.dx"),
    ],
)
def test_refuses(root, options, message):
    with pytest.raises(InputError, match=message):
        table(root, **options).scans()


def test_images_that_are_not_there(root):
    (root / "8_T1.nii").unlink()
    with pytest.raises(InputError, match="1 of 2 files of image_path are not there: .*8_T1.nii"):
        table(root, columns=COLUMNS | {"image_path": "file"}, values={"sex": {1: "M", 2: "F"}}).scans()


def test_needs_a_root_or_a_cohort():
    with pytest.raises(InputError, match=r"dataset\.cohort='a/b'"):
        _ = TableDataset(cohort="a/b").name
    with pytest.raises(InputError, match=r"dataset\.cohort"):
        _ = TableDataset().name
    with pytest.raises(InputError, match=r"dataset\.root: the folder"):
        TableDataset(cohort="x").scans()
    with pytest.raises(InputError, match=r"dataset\.root=/nowhere: no such folder"):
        TableDataset(root="/nowhere").scans()
