"""Tables and datasets that say something wrong are refused before any image is read."""

import json
import shutil

import pandas as pd
import pytest


def edit(*changes):
    """Replace text in the table; each must be there."""

    def damage(heads):
        text = heads.table.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        heads.table.write_text(text)

    return damage


def column(name, *values):
    def damage(heads):
        pd.read_csv(heads.table, dtype=str).assign(**{name: values}).to_csv(heads.table, index=False)

    return damage


def without_column(name):
    def damage(heads):
        pd.read_csv(heads.table, dtype=str).drop(columns=name).to_csv(heads.table, index=False)

    return damage


def content(data):
    return lambda heads: heads.table.write_bytes(data)


def other_file(name, data=b"nonsense"):
    return lambda heads: (heads.root / name).write_bytes(data)


def nothing(heads):
    pass


TABLE = r"scans\.csv"
ROW3 = rf"{TABLE}, row 3 \(heads/003\)"
VALUES = "dataset.values={shoe: {a: big}}"
# case: (what is wrong with the files, further arguments, what the message names, its remedy)
CASES = {
    "no table named": (nothing, ["dataset.table=null"], r"dataset\.table", "give the table"),
    "no such table": (nothing, ["dataset.table=scnas.csv"], "dataset.table=scnas.csv", r"no file .*scnas\.csv"),
    "an unknown kind of table": (other_file("scans.ods"), ["dataset.table=scans.ods"], "ods", r"must be \.csv"),
    "damaged Parquet": (other_file("s.parquet"), ["dataset.table=s.parquet"], r"s\.parquet", "write it again"),
    "empty": (content(b""), [], TABLE, "with ',' between columns"),
    "header alone": (content(b"subject_id,image_path\n"), [], TABLE, "no scans in it.*one row a scan"),
    "not UTF-8": (content("subject_id,image_path,site\n1,a,K\xf6ln\n".encode("latin-1")), [], TABLE, "UTF-8"),
    "semicolons": (edit((",", ";")), [], TABLE, "separated by ';', and by its name it needs ','"),
    "tabs": (edit((",", "\t")), [], TABLE, r"separated by '\\t'"),
    "a row with more fields": (edit(("003,", "003,x,y,")), [], TABLE, "line 4"),
    "no image_path": (without_column("image_path"), [], f"{TABLE}: no column image_path", "dataset.columns"),
    "a misspelt column": (nothing, ["dataset.columns={age_years: age_yeers}"], "columns.age_years", "did you mean"),
    "values of no column": (nothing, [VALUES], r"dataset\.values\.shoe", r"see dataset\.columns"),
    "subject_id empty": (edit(("003,", ",")), [], f"{TABLE}, row 3.*subject_id", "a value is needed"),
    "image_path empty": (edit(("scan 3.nii.gz", "")), [], f"{ROW3}, image_path", "a value is needed"),
    "a scan twice": (edit(("scan 3", "scan 2")), [], r"row \d \(.*, image_path: scan 2", "occurs in another row"),
    "the same row twice": (edit(("003", "002"), ("scan 3", "scan 2")), [], "image_path: scan 2", "in another row"),
    "age in words": (edit((",53,", ",old,")), [], f"{ROW3}, age_years: 'old'", "not a number.*dataset.values"),
    "a negative age": (edit((",53,", ",-3,")), [], f"{ROW3}, age_years: -3", "from 0 to 120"),
    "age in days": (edit((",53,", ",19000,")), [], f"{ROW3}, age_years: 19000", "ages are in years"),
    "codes for sex": (edit((",F", ",1"), (",M", ",2")), [], "row 1 .*sex: '2'", r"dataset\.values=.*1: \?, 2: \?"),
    "NIHSS over its range": (column("nihss", "1", "2", "43", "4"), [], f"{ROW3}, nihss: 43", "from 0 to 42"),
    "an unknown split": (column("split", "train", "val", "dev", "test"), [], f"{ROW3}, split: dev", "one of train"),
    "a split for some": (column("split", "train", "val", None, "test"), [], "heads/003 has no split", "or none"),
    "a subject in two splits": (
        lambda h: (edit(("003,", "002,"))(h), column("split", "train", "val", "train", "test")(h)),
        [],
        "heads/002 has scans in two splits",
        "belongs to one",
    ),
    "too few subjects": (
        edit(("003,", "002,"), ("004,", "002,")), [], "no subject of 2 is left", "set that share to 0"
    ),
    "pattern with an unknown column": (
        nothing, ["dataset.image_pattern='{subject}.nii'"], "image_pattern.*'subject'", "did you mean"
    ),
    "pattern that matches nothing": (
        nothing, ["dataset.image_pattern='{sex}.nii'"], r"image_pattern .*M\.nii \(0 files", "one file"
    ),
    "pattern that matches several": (
        nothing, ["dataset.image_pattern='scan*.nii.gz'"], "4 of 4 rows", "must match one"
    ),
    "a broken pattern": (nothing, ["dataset.image_pattern='{sex'"], "dataset.image_pattern=", "expected '}'"),
    "no root": (nothing, ["dataset.root=null"], r"dataset\.(root|cohort)", "root"),
    "root that is not there": (nothing, ["dataset.root=/nowhere"], "dataset.root=/nowhere", "no such folder"),
    "root that is a file": (nothing, ["dataset.root='${data_dir}/../heads/scans.csv'"], "scans.csv", "no such folder"),
    "a cohort's name with a slash": (nothing, ["dataset.cohort=a/b"], "dataset.cohort='a/b'", "make a cohort's name"),
    "splits on file that are none": (
        lambda h: (h.data / "stores/heads/splits.csv").write_text("subject_id,split\nheads/001,dev\n"),
        [],
        r"splits\.csv: 'dev'",
        "delete it to split anew",
    ),
    "a damaged splits file": (
        lambda h: (h.data / "stores/heads/splits.csv").write_text("nonsense\n"),
        [],
        r"splits\.csv",
        "delete it to split anew",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_tables(heads, refuses, case):
    damage, arguments, names, remedy = CASES[case]
    damage(heads)
    assert not refuses("preprocess", *heads.arguments, *arguments, says=[names, remedy])


def people(text):
    return lambda root: (root / "participants.tsv").write_bytes(text)


def remove_images(root):
    for file in root.glob("sub-*/**/*_T1w*"):
        file.unlink()


BIDS_CASES = {
    "no description": (lambda r: (r / "dataset_description.json").unlink(), "dataset_description.json", "dataset.root"),
    "a damaged description": (
        lambda r: (r / "dataset_description.json").write_text("{"), "description.json", "valid JSON"
    ),
    "a description of another kind": (
        lambda r: (r / "dataset_description.json").write_text(json.dumps(["x"])), "description.json", "valid JSON"
    ),
    "no image": (remove_images, "no T1w image", r"sub-\*/"),
    "a folder of masks that is not there": (
        lambda r: shutil.rmtree(r / "derivatives"), "mask_derivative=masks", "no folder"
    ),
    "a file instead of the folder of masks": (
        lambda r: (shutil.rmtree(r / "derivatives/masks"), (r / "derivatives/masks").write_text("")),
        "mask_derivative=masks",
        "no folder",
    ),
    "a subject twice": (people(b"participant_id\nsub-0001\nsub-0001\n"), "sub-0001 has several rows", "keep one"),
    "no ids": (people(b"subject\tage\nsub-0001\t3\n"), "participants.tsv: no column 'participant_id'", "it has|mean"),
    "commas": (people(b"participant_id,age\nsub-0001,3\n"), "participants.tsv", "separated by ','"),
    "not UTF-8": (people("participant_id\tsite\nsub-0001\tK\xf6ln\n".encode("latin-1")), "participants.tsv", "UTF-8"),
    "severity in words": (people(b"participant_id\tnihss\nsub-0001\tmild\n"), "row 1 .*nihss: 'mild'", "not a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", BIDS_CASES)
def test_bids(simulated, tmp_path, refuses, case):
    damage, names, remedy = BIDS_CASES[case]
    root = tmp_path / "bids"
    shutil.copytree(simulated, root)
    damage(root)
    arguments = ["dataset=bids", f"dataset.root={root}", "dataset.mask_derivative=masks", f"data_dir={tmp_path}/data"]
    assert not refuses("preprocess", *arguments, "grid=16mm", "n_jobs=1", says=[names, remedy])
