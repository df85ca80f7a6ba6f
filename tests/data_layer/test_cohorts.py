"""Each cohort's configuration on a tiny tree in the layout that users download, composed as the commands do."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from neuro_ssl.config import check_components, plain
from neuro_ssl.data.cohorts.files import FileDataset
from neuro_ssl.errors import InputError
from neuro_ssl.files import CONF_DIR

IXI = Path(__file__).parent.parent / "data" / "ixi_2mm"
COLLECTION = "Image Data ID,Subject,Group,Sex,Age,Visit,Modality,Description,Type,Acq Date,Format,Downloaded"
IXI_COLUMNS = (
    'IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,WEIGHT,ETHNIC_ID,MARITAL_ID,OCCUPATION_ID,QUALIFICATION_ID,DOB,'
    "DATE_AVAILABLE,STUDY_DATE,AGE"
)


def cohort(name, root, *overrides):
    """The dataset that `dataset=name dataset.root=root` makes, checked as every command checks it."""
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose("preprocess", [f"dataset={name}", f"dataset.root='{root}'", *overrides])
    check_components(cfg, {"dataset": ()})
    return instantiate(plain(cfg)["dataset"], _convert_="all")


def make(root, tree):
    """Files with their content: a string, rows of a table, or None for an image that nobody opens."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else "\n".join(content or []))
    return root


def rows(scans, *columns):
    """The columns as tuples, with None for what is missing; images by their names."""
    frame = scans.assign(image=scans["image_path"].map(lambda path: Path(path).name))
    return [
        tuple(None if pd.isna(value) else value for value in row)
        for row in frame.reindex(columns=list(columns)).itertuples(index=False)
    ]


def listed(image, subject, group, sex, age, visit, description, date, modality="MRI"):
    """A row of a collection's CSV, quoted as the archive writes it."""
    cells = image, subject, group, sex, age, visit, modality, description, "Original", date, "NiFTI", ""
    return ",".join(f'"{cell}"' for cell in cells)


def description(folder=""):
    return {f"{folder}dataset_description.json": json.dumps({"Name": "x", "BIDSVersion": "1.6.0"})}


SCAN = ("002_S_0295", "CN", "M", "85", "sc")

# name → tree, columns to look at, and the rows that are expected.
LAYOUTS = {
    "soop": (
        {
            **description(),
            "participants.tsv": [
                "participant_id\tsex\tage\trace\tacuteischaemicstroke\tpriorstroke\tbmi\tnihss\tgs_rankin_6isdeath",
                "sub-2\tM\t78\tw\t1\t0\t22.84\t17\tn/a",
                "sub-6\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a",
                "sub-38\tF\t89+\tw\t1\t0\tn/a\t0\tn/a",
                "sub-40\tF\t50\tw\t0\t0\t30\tn/a\tn/a",
            ],
            **{f"sub-{i}/anat/sub-{i}_T1w.nii.gz": None for i in (2, 6, 38, 40, 41)},
            "sub-2/dwi/sub-2_rec-TRACE_dwi.nii.gz": None,
        },
        ("subject_id", "sex", "age_years", "nihss", "diagnosis"),
        [
            ("soop/sub-2", "M", 78, 17, "stroke"),
            ("soop/sub-38", "F", None, 0, "stroke"),
            ("soop/sub-40", "F", 50, None, "no_stroke"),
            ("soop/sub-41", None, None, None, None),
            ("soop/sub-6", None, None, None, None),
        ],
    ),
    "dlbs": (
        {
            **description(),
            "participants.tsv": [
                "participant_id\tAgeMRI_W1\tAgeMRI_W2\tAgeMRI_W3\tSex",
                "sub-1003\t48\tn/a\t57\tf",
                "sub-110\tn/a\t66\tn/a\tm",
            ],
            **{
                f"sub-{s}/ses-{w}/anat/sub-{s}_ses-{w}_acq-MPRAGE_run-1_T1w.nii.gz": None
                for s, w in ((1003, "wave1"), (1003, "wave3"), (110, "wave2"), (110, "wave3"))
            },
        },
        ("subject_id", "session_id", "age_years", "sex", "image"),
        [
            ("dlbs/sub-1003", "ses-wave1", 48, "F", "sub-1003_ses-wave1_acq-MPRAGE_run-1_T1w.nii.gz"),
            ("dlbs/sub-1003", "ses-wave3", 57, "F", "sub-1003_ses-wave3_acq-MPRAGE_run-1_T1w.nii.gz"),
            ("dlbs/sub-110", "ses-wave2", 66, "M", "sub-110_ses-wave2_acq-MPRAGE_run-1_T1w.nii.gz"),
            ("dlbs/sub-110", "ses-wave3", None, "M", "sub-110_ses-wave3_acq-MPRAGE_run-1_T1w.nii.gz"),
        ],
    ),
    "aomic": (
        {
            **description("ds003097/"),
            **description("ds002785/"),
            **description("ds002790/"),
            "ds003097/participants.tsv": ["participant_id\tage\tsex", "sub-0001\t22\tfemale"],
            "ds002785/participants.tsv": ["participant_id\tage\tsex", "sub-0001\t20.5\tmale"],
            "ds002790/participants.tsv": ["participant_id\tage\tsex", "sub-0001\tn/a\tn/a"],
            **{f"ds003097/sub-0001/anat/sub-0001_run-{i}_T1w.nii.gz": None for i in (1, 2, 3)},
            "ds002785/sub-0001/anat/sub-0001_T1w.nii.gz": None,
            "ds002790/sub-0001/anat/sub-0001_T1w.nii.gz": None,
            "ds002785/derivatives/fmriprep/sub-0001/anat/sub-0001_desc-preproc_T1w.nii.gz": None,
        },
        ("subject_id", "site", "age_years", "sex", "image"),
        [
            ("aomic/ds003097_sub-0001", "ds003097", 22, "F", "sub-0001_run-3_T1w.nii.gz"),
            ("aomic/ds002785_sub-0001", "ds002785", 20.5, "M", "sub-0001_T1w.nii.gz"),
            ("aomic/ds002790_sub-0001", "ds002790", None, None, "sub-0001_T1w.nii.gz"),
        ],
    ),
    "corr": (
        {
            **description("BMB_1/"),
            **description("BNU_1/"),
            "BMB_1/participants.tsv": [
                "participant_id\tsex\tage_at_scan_1\thandedness",
                "0003002\tfemale\t23.96\tR",
                "0003004\t#\t#\tR",
            ],
            "BNU_1/participants.tsv": ["participant_id\tsex\tage_at_scan_1", "0025879\tmale\t23"],
            "BNU_1/sub-0025879/sub-0025879_sessions.tsv": [
                "participant_id\tsession_id\tsex\tage_at_scan_1\tretest_duration",
                "0025879\tses-1\tmale\t23\t#",
                "0025879\tses-2\t#\t#\t42",
            ],
            **{
                f"BMB_1/sub-{s}/ses-1/anat/sub-{s}_ses-1_run-1_T1w.nii.gz": None for s in ("0003002", "0003004")
            },
            **{
                f"BNU_1/sub-0025879/ses-{i}/anat/sub-0025879_ses-{i}_run-1_T1w.nii.gz": None for i in (1, 2)
            },
            "CoRR_AggregatedPhenotypicData.csv": "SITE,SUBID\n",
        },
        ("subject_id", "session_id", "site", "age_years", "sex"),
        [
            ("corr/sub-0003002", "ses-1", "BMB_1", 23.96, "F"),
            ("corr/sub-0003004", "ses-1", "BMB_1", None, None),
            ("corr/sub-0025879", "ses-1", "BNU_1", 23, "M"),
            ("corr/sub-0025879", "ses-2", "BNU_1", 23, "M"),
        ],
    ),
    "ixi": (
        {
            "IXI-T1/IXI002-Guys-0828-T1.nii.gz": None,
            "IXI-T1/IXI012-HH-1211-T1.nii.gz": None,
            "IXI-T1/IXI035-IOP-0873-T1.nii.gz": None,
            "IXI-T1/IXI116-Guys-0825-T1.nii.gz": None,
            "IXI-T2/IXI002-Guys-0828-T2.nii.gz": None,
            "IXI.csv": [
                IXI_COLUMNS,
                "2,2,164,58,4,4,1,5,1970-02-21,1,2005-11-18,35.80013689",
                "12,1,175,70,1,2,1,5,1966-08-20,1,2005-06-01,38.7816564",
                "12,1,175,70,1,2,1,5,1966-08-20,1,,",  # the same person, without a date
                "35,1,0,0,1,2,1,5,1950-01-01,1,2005-06-01,55.4",
                "35,1,0,0,1,2,1,5,1930-01-01,1,2005-06-01,75.4",  # who knows which?
                "999,1,0,0,1,2,1,5,1950-01-01,1,2005-06-01,55.4",  # no image
            ],
        },
        ("subject_id", "site", "age_years", "sex", "image"),
        [
            ("ixi/IXI002", "Guys", 35.80013689, "F", "IXI002-Guys-0828-T1.nii.gz"),
            ("ixi/IXI012", "HH", 38.7816564, "M", "IXI012-HH-1211-T1.nii.gz"),
            ("ixi/IXI035", "IOP", None, "M", "IXI035-IOP-0873-T1.nii.gz"),
            ("ixi/IXI116", "Guys", None, None, "IXI116-Guys-0825-T1.nii.gz"),
        ],
    ),
    "gsp": (
        {
            "GSP_part1_140630/Sub0001_Ses1/Sub0001_Ses1_Scan_01_ANAT1.nii.gz": None,
            "GSP_part1_140630/Sub0001_Ses1/Sub0001_Ses1_Scan_02_BOLD1.nii.gz": None,
            "GSP_part1_140630/Sub0002_Ses1/Sub0002_Ses1_Scan_01_ANAT1.nii.gz": None,
            "GSP_retest_140630/Sub0002_Ses1/Sub0002_Ses1_Scan_01_ANAT1.nii.gz": None,
            "GSP_retest_140630/Sub0002_Ses2/Sub0002_Ses2_Scan_01_ANAT1.nii.gz": None,
            "GSP_list_140630.csv": ["Subject_ID,Sex,Age_Bin", "Sub0001_Ses1,F,19", "Sub0002_Ses1,M,25"],
            "GSP_retest_140630.csv": ["Subject_ID,Sex,Age_Bin,Delay", "Sub0002_Ses1,M,25,", "Sub0002_Ses2,M,27,90"],
        },
        ("subject_id", "session_id", "age_years", "sex"),
        [("gsp/Sub0001", "Ses1", 19, "F"), ("gsp/Sub0002", "Ses1", 25, "M"), ("gsp/Sub0002", "Ses2", 27, "M")],
    ),
    "sald": (
        {
            "RawData_BIDS/sub-031274/anat/sub-031274_T1w.nii.gz": None,
            "RawData_BIDS/sub-031275/anat/sub-031275_T1w.nii.gz": None,
            "RawData_BIDS/sub-031275/func/sub-031275_task-rest_bold.nii.gz": None,
            "sub_information.csv": ["Sub_ID,Sex,Age,T1Img", "31274,F,20,1", "031275,M,67,1"],  # Excel drops zeros
        },
        ("subject_id", "age_years", "sex"),
        [("sald/031274", 20, "F"), ("sald/031275", 67, "M")],
    ),
    "adni": (
        {
            "ADNI1.csv": [
                COLLECTION,
                listed("I45108", *SCAN, "MPR; GradWarp; B1 Correction; N3; Scaled", "4/18/2006"),
                listed("I45110", "002_S_0295", "CN", "M", "85", "sc", "MPR; GradWarp", "4/18/2006"),
                listed("I13722", "002_S_0295", "CN", "M", "85", "sc", "MP-RAGE", "4/18/2006"),
                listed("I900", "002_S_0295", "CN", "M", "85", "sc", "Axial PD/T2 FSE", "4/18/2006"),
                listed("I901", *SCAN, "ADNI Brain PET: MPRAGE", "4/18/2006", modality="PET"),
                listed("I28561", "002_S_0295", "CN", "M", "85", "m06", "MP-RAGE", "11/2/2006"),
                listed("I28560", "002_S_0295", "CN", "M", "85", "m06", "MP-RAGE REPEAT", "11/2/2006"),
            ],
            "ADNI2.csv": [
                COLLECTION,
                listed("I300", "941_S_6094", "EMCI", "F", "69", "v02", "Accelerated SAG IR-SPGR", "3/1/2017"),
                listed("I301", "116_S_6119", "Patient", "F", "67", "v02", "Sag 3D Accelerated MPRAGE", "1/29/2018"),
            ],
            "PTDEMOG.csv": "RID,PTID\n1,002_S_0295\n",  # not of the collection
            **{
                f"ADNI/{path}": None
                for path in (
                    "002_S_0295/MPR__GradWarp__B1_Correction__N3__Scaled/2006-04-18_08_20_30.0/I45108/"
                    "ADNI_002_S_0295_MR_MPR__GradWarp__B1_Correction__N3__Scaled_Br_20070319113623975_S13408_I45108.nii",
                    "002_S_0295/MPR__GradWarp/2006-04-18_08_20_30.0/I45110/"
                    "ADNI_002_S_0295_MR_MPR__GradWarp_Br_20070319114002547_S13408_I45110.nii",
                    "002_S_0295/MP-RAGE/2006-04-18_08_20_30.0/I13722/ADNI_002_S_0295_MR_MP-RAGE__br_raw_1_S13408_I13722.nii",
                    "002_S_0295/MP-RAGE/2006-11-02_08_16_44.0/I28561/ADNI_002_S_0295_MR_MP-RAGE_1_S21856_I28561.nii",
                    "002_S_0295/MP-RAGE_REPEAT/2006-11-02_08_16_44.0/I28560/ADNI_002_S_0295_MR_S21855_I28560.nii",
                    "002_S_0295/Axial_PD_T2_FSE/2006-04-18_08_20_30.0/I900/ADNI_002_S_0295_MR_S13409_I900.nii",
                    "941_S_6094/Accelerated_SAG_IR-SPGR/2017-03-01_10_00_00.0/I300/I300.nii.gz",  # by dcm2niix
                    "116_S_6119/Sagittal_3D_Accelerated_MPRAGE/2018-01-29_10_00_00.0/I301/I301.nii.gz",
                )
            },
        },
        ("subject_id", "session_id", "site", "diagnosis", "sex", "age_years", "image"),
        [
            (
                *("adni/002_S_0295", "m06", "002", "CN", "M", 85),
                "ADNI_002_S_0295_MR_S21855_I28560.nii",
            ),
            (
                *("adni/002_S_0295", "sc", "002", "CN", "M", 85),
                "ADNI_002_S_0295_MR_MPR__GradWarp__B1_Correction__N3__Scaled_Br_20070319113623975_S13408_I45108.nii",
            ),
            ("adni/116_S_6119", "v02", "116", None, "F", 67, "I301.nii.gz"),
            ("adni/941_S_6094", "v02", "941", "MCI", "F", 69, "I300.nii.gz"),
        ],
    ),
    "aibl": (
        {
            "AIBL_9_18_2026.csv": [
                COLLECTION,
                listed("I236542", "8", "Patient", "F", "70", "Base", "MPRAGE ADNI confirmed", "3/4/2010"),
                listed("I236600", "8", "Patient", "F", "72", "18 Mo", "MPRAGE ADNI confirmed", "9/4/2011"),
                listed("I236601", "8", "Patient", "F", "72", "18 Mo", "MPRAGE ADNI confirmed RPT", "9/4/2011"),
                listed("I236700", "21", "Patient", "M", "81", "1", "MPRAGE SAG ISO p2 ND", "9/4/2009"),
                listed("I236701", "33", "Patient", "M", "78", "Base", "MPRAGE", "9/4/2009"),
            ],
            "Data_extract_3.3.0/aibl_pdxconv_01-Jun-2018.csv": [
                "RID,SITEID,VISCODE,DXCURREN",
                "8,2,bl,1",
                "8,2,m18,2",
                "21,2,bl,3",
                "33,2,bl,-4",
            ],
            **{
                f"AIBL/{rid}/MPRAGE_ADNI_confirmed/2010-03-04_10_30_12.0/I{i}/AIBL_{rid}_MR_MPRAGE_S1_I{i}.nii": None
                for rid, i in ((8, 236542), (8, 236600), (8, 236601), (21, 236700), (33, 236701))
            },
        },
        ("subject_id", "session_id", "diagnosis", "sex", "age_years", "image"),
        [
            ("aibl/21", "bl", "AD", "M", 81, "AIBL_21_MR_MPRAGE_S1_I236700.nii"),
            ("aibl/33", "bl", None, "M", 78, "AIBL_33_MR_MPRAGE_S1_I236701.nii"),
            ("aibl/8", "bl", "CN", "F", 70, "AIBL_8_MR_MPRAGE_S1_I236542.nii"),
            ("aibl/8", "m18", "MCI", "F", 72, "AIBL_8_MR_MPRAGE_S1_I236600.nii"),
        ],
    ),
    "ppmi": (
        {
            "ppmi.csv": [
                COLLECTION,
                listed("495208", "92834", "Prodromal", "M", "66", "BL", "MPRAGE GRAPPA2", "3/20/2015"),
                listed("495209", "92834", "Prodromal", "M", "66", "BL", "AX T1", "3/20/2015"),
                listed("I223766", "3051", "PD", "F", "71", "BL", "SAG 3D T1", "10/26/2010"),
                listed("I223767", "3051", "PD", "F", "72", "V04", "SAG 3D T1", "10/26/2011"),
                listed("I5", "9", "Phantom", "X", "0", "BL", "MPRAGE", "10/26/2010"),
                listed("I6", "3052", "Control", "F", "60", "BL", "MPRAGE", "10/26/2010"),
            ],
            **{
                f"PPMI/{subject}/{series}/2014-03-10_10_25_03.0/I{i}/PPMI_{subject}_MR_S1_I{i}.nii": None
                for subject, series, i in (
                    (92834, "AX_T1", 495209),
                    (92834, "MPRAGE_GRAPPA2", 495208),
                    (3051, "SAG_3D_T1", 223766),
                    (3051, "SAG_3D_T1", 223767),
                    (3052, "MPRAGE", 6),
                    (9, "MPRAGE", 5),
                )
            },
        },
        ("subject_id", "session_id", "diagnosis", "sex", "age_years", "image"),
        [
            ("ppmi/3051", "BL", "PD", "F", 71, "PPMI_3051_MR_S1_I223766.nii"),
            ("ppmi/3051", "V04", "PD", "F", 72, "PPMI_3051_MR_S1_I223767.nii"),
            ("ppmi/3052", "BL", "CN", "F", 60, "PPMI_3052_MR_S1_I6.nii"),
            ("ppmi/92834", "BL", "prodromal", "M", 66, "PPMI_92834_MR_S1_I495208.nii"),
        ],
    ),
    "nifd": (
        {
            "nifd.csv": [
                COLLECTION,
                listed("I123456", "1_S_0001", "Patient", "M", "60", "1", "t1_mprage", "9/3/2010"),
                listed("I123457", "1_S_0001", "Patient", "M", "60", "1", "MT1; GradWarp; N3m", "9/3/2010"),
                listed("I123458", "1_S_0002", "Control", "F", "65", "2", "t1_mpr_ns_sag_pat2_iso", "9/3/2011"),
            ],
            **{
                f"NIFD/{subject}/{series}/2010-09-03_11_22_33.0/I{i}/NIFD_{subject}_MR_S1_I{i}.nii": None
                for subject, series, i in (
                    ("1_S_0001", "t1_mprage", 123456),
                    ("1_S_0001", "MT1__GradWarp__N3m", 123457),
                    ("1_S_0002", "t1_mpr_ns_sag_pat2_iso", 123458),
                )
            },
        },
        ("subject_id", "session_id", "diagnosis", "image"),
        [
            ("nifd/1_S_0001", "1", "FTD", "NIFD_1_S_0001_MR_S1_I123457.nii"),
            ("nifd/1_S_0002", "2", "CN", "NIFD_1_S_0002_MR_S1_I123458.nii"),
        ],
    ),
    "habs_hd": (
        {
            "habs.csv": [COLLECTION, listed("D100", "12", "", "F", "61", "1", "3D_T1_MPRAGE", "9/3/2019")],
            "HABS-HD/12/3D_T1_MPRAGE/2019-09-03_11_22_33.0/I100/HABS-HD_12_MR_S1_I100.nii": None,
        },
        ("subject_id", "session_id", "sex", "age_years"),
        [("habs_hd/12", "1", "F", 61)],
    ),
    "mcsa": (
        {
            "mcsa.csv": [COLLECTION, listed("I100", "MCSA_01", "", "F", "71", "1", "SAG MPRAGE", "9/3/2009")],
            "MCSA/MCSA_01/SAG_MPRAGE/2009-09-03_11_22_33.0/I100/MCSA_01_MR_S1_I100.nii": None,
        },
        ("subject_id", "session_id", "sex", "age_years"),
        [("mcsa/MCSA_01", "1", "F", 71)],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name, tmp_path):
    tree, columns, expected = LAYOUTS[name]
    dataset = cohort(name, make(tmp_path / "download", tree))
    scans = dataset.scans()
    assert rows(scans, *columns) == expected
    assert all(Path(path).is_file() for path in scans["image_path"])
    assert dataset.name == name and not dataset.simulated


def test_every_cohort_has_a_layout_and_says_what_is_unverified():
    files = {path.stem: path.read_text() for path in (Path(CONF_DIR) / "dataset").glob("*.yaml")}
    cohorts = set(files) - {"bids", "csv", "registered", "simulated", "neuro11"}
    assert cohorts == set(LAYOUTS)
    for name in cohorts:
        for section in ("Access:", "Licence:", "Cite:", "Download:", "Traps:", "Verified:", "unverified:"):
            assert section.rstrip(":") in files[name], (name, section)
    eleven = cohort("neuro11", "unused").cohorts
    assert sorted(eleven) == sorted(cohorts - {"aibl", "ixi"})


def test_ixi_on_real_scans(tmp_path):
    table = pd.read_csv(IXI / "participants.csv")
    lines = [IXI_COLUMNS]
    for mrid, age, sex in table.itertuples(index=False):
        shutil.copy(IXI / f"{mrid}_T1.nii.gz", tmp_path / f"{mrid}-T1.nii.gz")
        lines.append(f"{int(mrid[3:6])},{'MF'.index(sex) + 1},,,,,,,,,,{age}")
    make(tmp_path, {"IXI.csv": lines})
    scans = cohort("ixi", tmp_path).scans()
    assert rows(scans, "subject_id", "site", "age_years", "sex") == [
        (f"ixi/{mrid[:6]}", "HH", age, sex) for mrid, age, sex in table.itertuples(index=False)
    ]
    copies = cohort("ixi", IXI, f"dataset.tables.demographics.file='{tmp_path / 'IXI.csv'}'").scans()
    assert rows(copies, "subject_id", "age_years") == rows(scans, "subject_id", "age_years")


def test_ixi_tells_of_rows_that_repeat_and_contradict_each_other(tmp_path):
    with pytest.warns(UserWarning) as record:
        cohort("ixi", make(tmp_path, LAYOUTS["ixi"][0])).scans()
    said = " | ".join(str(warning.message) for warning in record)
    assert "2 keys have several rows, which count once; 1 of them contradict themselves in age_years" in said
    assert "IXI035" in said and "no row for 1 of 4 images, such as IXI116" in said


def test_an_excel_file_without_its_reader_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xlrd", None)  # as if it were not installed
    tree = {"IXI.xls": "x", "IXI002-Guys-0828-T1.nii.gz": None}
    with pytest.raises(InputError, match=r"IXI\.xls: an Excel file needs .*neuro_ssl\[excel\]'; .*IXI\.csv"):
        cohort("ixi", make(tmp_path, tree)).scans()
    make(tmp_path, {"IXI.csv": [IXI_COLUMNS, "2,2,,,,,,,,,,35.8"]})  # as it says
    assert rows(cohort("ixi", tmp_path).scans(), "age_years", "sex") == [(35.8, "F")]


def test_ixi_from_a_spreadsheet_of_its_format(tmp_path):
    shutil.copy(IXI.parent / "ixi_made_up.xls", tmp_path / "IXI.xls")  # IXI's columns, three people made up (xlwt)
    make(tmp_path, {f"IXI{i:03d}-Guys-0828-T1.nii.gz": None for i in (2, 12, 13)})
    expected = [("ixi/IXI002", 35.8, "F"), ("ixi/IXI012", 38.78, "M"), ("ixi/IXI013", None, "M")]
    assert rows(cohort("ixi", tmp_path).scans(), "subject_id", "age_years", "sex") == expected
    (tmp_path / "IXI.xls").write_bytes(b"not a spreadsheet")
    with pytest.raises(InputError, match=r"IXI\.xls: not a readable Excel file .*save it as CSV"):
        cohort("ixi", tmp_path).scans()


def test_an_excel_file_is_read_as_its_export_is(tmp_path):
    tree, columns, expected = LAYOUTS["sald"]
    root = make(tmp_path, {name: content for name, content in tree.items() if not name.endswith(".csv")})
    sheet = {"Sub_ID": [31274, 31275], "Sex": ["F", "M"], "Age": [20, 67], "T1Img": [1, 1]}
    pd.DataFrame(sheet).to_excel(root / "sub_information.xlsx", index=False)
    assert rows(cohort("sald", root).scans(), *columns) == expected


def test_adni_diagnosis_at_each_visit(tmp_path):
    root = make(tmp_path, LAYOUTS["adni"][0])
    make(root, {"DXSUM.csv": ["PTID,VISCODE,DIAGNOSIS", "002_S_0295,sc,1", "002_S_0295,m06,2"]})
    clinical = (
        'dataset.clinical={file: "DXSUM*.csv", key: {subject_id: PTID, session_id: VISCODE}, '
        "columns: {diagnosis: DIAGNOSIS}}"
    )
    with pytest.warns(UserWarning, match="no row for 2 of 4 images, such as 116_S_6119 v02, 941_S_6094 v02"):
        scans = cohort("adni", root, clinical).scans()
    assert rows(scans, "session_id", "diagnosis") == [("m06", "MCI"), ("sc", "CN"), ("v02", None), ("v02", None)]


def test_ida_tells_what_is_missing_and_what_is_there_twice(tmp_path):
    root = make(tmp_path, LAYOUTS["ppmi"][0])
    (root / "PPMI/3052/MPRAGE/2014-03-10_10_25_03.0/I6/PPMI_3052_MR_S1_I6.nii").unlink()
    make(root, {"PPMI/3051/again/I223767.nii.gz": None, "PPMI/3051/other/I777.nii.gz": None})
    with pytest.warns(UserWarning) as record:
        scans = cohort("ppmi", root).scans()
    said = " | ".join(str(warning.message) for warning in record)
    assert "1 images of the collection are not there: I6" in said
    assert "1 images are there in several files, and are left out; keep one of each: I223767" in said
    assert "1 images are not in the collection's CSV, and are left out: I777" in said
    assert len(scans) == 2


def dicom(root):
    for path in list(root.rglob("*.nii")):
        path.rename(path.with_suffix(".dcm"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "change", "overrides", "message"),
    [
        ("ppmi", dicom, (), "holds DICOM .*and NIfTI is needed: .*dcm2niix"),
        ("ppmi", lambda r: (r / "ppmi.csv").unlink(), (), r"no CSV of an IDA image collection"),
        ("ppmi", lambda r: (r / "ppmi.csv").write_text("Subject\n1\n"), (), "no column 'Image Data ID'"),
        ("ppmi", lambda r: (r / "ppmi.csv").write_text("Image Data ID,Subject\n1,2\n"), (), "no column 'Description'"),
        ("ppmi", lambda r: shutil.rmtree(r / "PPMI"), (), "none of the 5 T1-weighted images"),
        ("ppmi", lambda r: None, ("dataset.t1=nothing",), "no T1-weighted series by .*nothing; it has MPRAGE"),
        ("ppmi", lambda r: None, ("dataset.t1='('",), r"dataset\.t1='\(': not a regular expression"),
        ("aibl", lambda r: shutil.rmtree(r / "Data_extract_3.3.0"), (), r"clinical\.file=.*aibl_pdxconv.*not in"),
        ("aibl", lambda r: make(r, {"b/aibl_pdxconv_2.csv": "RID\n"}), (), "holds 2: .*name one"),
        ("aibl", lambda r: None, ("dataset.clinical.key={subject_id: Rid}",), "clinical.key: .*did you mean 'RID'"),
        ("aibl", lambda r: None, ("+dataset.clinical.kye=1",), "dataset.clinical.kye is no key; it takes file, key"),
        ("aibl", lambda r: None, ("~dataset.clinical.file",), "dataset.clinical.file: needed, as a file"),
        ("ixi", lambda r: (r / "IXI.csv").unlink(), (), r"dataset\.tables\.demographics\.file=IXI\.xls: not in"),
        ("ixi", lambda r: shutil.rmtree(r / "IXI-T1"), (), r"holds IXI-T2/.*: no path in it matches dataset\.images"),
        ("ixi", lambda r: None, ("dataset.images=null",), r"dataset\.images: say by a regular expression"),
        ("ixi", lambda r: None, ("dataset.images='x'",), r"it needs a group \(\?P<subject_id>"),
        ("ixi", lambda r: None, ("dataset.tables.demographics.columns.sex=SEX",), "columns.sex: .*no column 'SEX'"),
        ("ixi", lambda r: None, ("dataset.tables.demographics.key={subject_id: '{IXI_ID:d}'}",), "{IXI_ID:d}': Unk"),
        ("aomic", lambda r: shutil.rmtree(r / "ds002790"), (), r"dataset\.parts: no BIDS dataset .*ds002790; leave"),
        ("corr", lambda r: (r / "BNU_1/dataset_description.json").unlink(), (), "BNU_1/dataset_descr.*: not there"),
        ("dlbs", lambda r: None, ("dataset.columns.sex=Gender",), r"dataset\.columns\.sex: .*no column 'Gender'"),
        ("dlbs", lambda r: None, ("dataset.acq=FLAIR",), "acq=FLAIR: no T1w image .* has acq-FLAIR; labels: MPRAGE"),
    ],
)  # fmt: skip
def test_refuses(name, change, overrides, message, tmp_path):
    root = make(tmp_path, LAYOUTS[name][0])
    change(root)
    with pytest.raises(InputError, match=message):
        cohort(name, root, *overrides).scans()


def test_files_that_lie_there_twice_count_once(tmp_path):
    make(tmp_path, {"a/s1_T1.nii": None, "b/s1_T1.nii": None, "b/s2_T1.nii": None})
    with pytest.warns(UserWarning, match="1 images lie there twice under the same name .*b/s1_T1.nii"):
        scans = FileDataset(root=str(tmp_path), images=r"(?P<subject_id>s\d)_T1\.nii").scans()
    assert [Path(path).parent.name for path in scans["image_path"]] == ["a", "b"]
