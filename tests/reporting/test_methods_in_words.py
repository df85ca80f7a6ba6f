"""Methods are told from records: what these hold is in the text, what they don't is a gap."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from neuro_ssl.data.demographics import demographics
from neuro_ssl.files import CONF_DIR
from neuro_ssl.reporting.evaluations.reading import read_evaluations
from neuro_ssl.reporting.methods import training
from neuro_ssl.reporting.methods.networks import encoder, views
from neuro_ssl.reporting.methods.references import REFERENCES, references
from neuro_ssl.reporting.methods.section import methods_sections
from neuro_ssl.reporting.runs.reading import Runs, read_runs
from neuro_ssl.reporting.runs.records import Encoder, RunInfo
from neuro_ssl.reporting.runs.sections import run_sections
from tests.reporting.fake_evaluations import TARGETS, write_evaluation
from tests.reporting.fake_runs import PRETRAINING, QUALITY, write_runs

CITED = re.compile(r"(?:[A-Z][\w-]+(?: et al\.| & [A-Z][\w-]+)?) (?:19|20)\d\d")


PROBES = {key: value for key, value in QUALITY.items() if key[0] == "linear_probe"}
TRAINED = {key: value for key, value in QUALITY.items() if key[0] != "linear_probe"}


def methods(runs_dir, compared=False):
    runs = read_runs(runs_dir)
    (section,) = methods_sections(runs, [], run_sections(runs) if compared else [])
    return section.files["methods.md"]


def part(text, heading):
    return text.partition(f"## {heading}\n\n")[2].partition("\n\n## ")[0]


def conf(kind):
    return {file.stem: yaml.safe_load(file.read_text()) for file in sorted(Path(CONF_DIR, kind).glob("*.yaml"))}


@pytest.fixture(scope="module")
def real(random_scans, tmp_path_factory):
    """The methods of two tiny trainings, and their directory."""
    from tests.conftest import run_command

    runs = tmp_path_factory.mktemp("runs")
    data = f"data_dir={random_scans.path.parents[2]}"
    for recipe in (["simclr_pretrain"], ["from_scratch", "task=sex", "early_stopping_patience=1"]):
        run_command(
            *("train", f"+experiment={recipe[0]}", *recipe[1:], "encoder.width=8", "strategy=cpu", "logger=csv"),
            *("num_workers=0", "batch_size=4", "trainer.max_epochs=1", "seed=3"),
            *("dataset=csv", "dataset.cohort=c", "grid=16mm", data, f"runs_dir={runs}"),
        )
    return methods(runs), runs


def test_of_a_real_run_all_that_counts_is_told(real, random_scans):
    text, runs = real
    scans = random_scans.manifest
    train = scans[scans["split"] == "train"].groupby("subject_id").first()
    people = part(text, "Participants")
    assert "The data were simulated: 13 T1-weighted scans of 9 subjects of the cohort “c”" in people
    age = f"age {train['age_years'].mean():.1f} ± {train['age_years'].std():.1f} years"
    sexes = ", ".join(f"{(train['sex'] == s).sum()} {name}" for s, name in (("F", "female"), ("M", "male")))
    assert f"training (5 subjects, 7 scans; {age}, range 20.0–40.0; {sexes})" in people
    assert "ethics" not in people  # nobody was scanned
    assert "[please add: preprocessing, which was done elsewhere]" in part(text, "Preprocessing")
    assert "3D ResNet-18" in part(text, "Encoder") and "8 channels" in part(text, "Encoder")
    pretraining = part(text, "Pretraining")
    for fact in (
        "7 training scans of 5 subjects",
        "without labels",
        "SimCLR",
        "1 epoch, in batches of 4 scans",
        "0.0003",
    ):
        assert fact in pretraining
    tasks = part(text, "Tasks")
    assert "sex (M against F)" in tasks and "best validation area under the ROC curve" in tasks
    assert "From scratch: linear layer and encoder were trained together, from random weights." in tasks
    assert "for at most 1 epoch, or until 1 epoch had brought no better validation score" in tasks
    assert "The seed was 3." in pretraining and "The seed was 3." in tasks
    (run,) = runs.glob("from_scratch-*")
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert f"PyTorch {record['versions']['torch']}" in text and record["commit"][:12] in text
    assert "by Holm" not in text  # one model is compared with none


def test_every_citation_has_its_entry_and_every_entry_its_citation(real, tmp_path):
    text, _ = real
    body, _, entries = text.partition("## References")
    cited = set(CITED.findall(body))
    assert cited <= {*REFERENCES, "ICBM 2009"} and "Chen et al. 2020" in cited
    assert [line[2:] for line in entries.strip().splitlines()] == references(body)
    assert not set(REFERENCES) - {name for name in REFERENCES if CITED.fullmatch(name)}


def test_what_records_lack_is_a_gap_for_the_author(tmp_path):
    write_runs(tmp_path, simulated=False, tasks=("age",), quality=PROBES)
    text = methods(tmp_path)
    people = part(text, "Participants")
    assert people.startswith(
        "We used 187 T1-weighted scans of 156 subjects of the cohort ixi ([please add: recruitment"
    )
    assert "[please add: ages and sexes]" in people and "simulated" not in text
    assert "[please add: preprocessing" in part(text, "Preprocessing")
    assert "[please add: its architecture" in part(text, "Encoder")
    assert "[please add: how; its record holds no settings]" in part(text, "Pretraining")
    assert "[please add: optimiser and schedule]" in part(text, "Tasks")
    assert "[please add: whether scans were augmented]" in part(text, "Tasks") and "not augmented" not in text
    assert "single interpolation" not in text
    assert "is not known" in part(text, "Statistics")  # no record of leakage
    assert "of the pretrained encoder and of an untrained encoder" in part(text, "Tasks")
    assert PRETRAINING not in text  # one pretraining needs no name


def test_tests_are_named_that_were_made_and_openings_counted(tmp_path):
    write_runs(tmp_path, tasks=("sex",), quality=TRAINED)
    statistics = part(methods(tmp_path, compared=True), "Statistics")
    assert "DeLong et al. 1988" in statistics and "Obuchowski 1997" in statistics and "Holm 1979" in statistics
    assert "permutation" not in statistics
    assert "sensitivity and specificity by Wilson’s (Wilson 1927)" in statistics  # what a bootstrap has none of
    name = "sex-finetune-pretrained-0"
    file = tmp_path / name / "results.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "test_opened": ["2025-01-02", "2025-01-03"]}))
    assert f"opened more than once by {name}" in part(methods(tmp_path), "Statistics")


def test_an_evaluation_is_told_with_its_test_sets_and_tests(tmp_path):
    file = write_evaluation(tmp_path, targets=TARGETS[:1], fractions=(1.0,), n_persons=12) / "evaluation.yaml"
    record = yaml.safe_load(file.read_text())
    record["config"] |= {
        "test_sets": ["cross_validation", "crossroads"],
        "cross_validation": {"n_folds": 5, "n_repeats": 3},
        "statistics": {"n_resamples": 300, "n_permutations": 400},
    }
    file.write_text(yaml.safe_dump(record))
    (section,) = methods_sections(Runs([], [], []), read_evaluations([file.parent]).finished, [])
    text = section.files["methods.md"]
    judged = "They were judged in a cross-validation by person (5 folds, 3 times); and on the cohort crossroads."
    assert judged in part(text, "Evaluation")
    assert "(300 resamples)" in part(text, "Statistics") and "The primary score" not in text


def test_folds_are_told_in_one_sentence(tmp_path):
    write_runs(tmp_path, tasks=("age",), quality=TRAINED, pretraining=False)
    for fold, file in enumerate(sorted(tmp_path.glob("age-*/run.yaml"))[:2]):
        record = yaml.safe_load(file.read_text())
        record["dataset"] |= {"split": f"val = fold {fold} of 0–4", "split_hash": str(fold)}
        record["dataset"]["n_subjects"]["val"] += fold
        record["dataset"]["n_scans"]["val"] += fold
        file.write_text(yaml.safe_dump(record))
    n, n_scans = record["dataset"]["n_subjects"]["val"], record["dataset"]["n_scans"]["val"]
    people = part(methods(tmp_path), "Participants")
    assert "were divided into 5 folds, of which number 0 and 1 in turn was the validation split (" in people
    assert (
        f"validation {n - 1} to {n} subjects, {n_scans - 1} to {n_scans} scans; " in people and "fold 1" not in people
    )


def test_preprocessing_is_told_by_its_steps(tmp_path):
    write_runs(tmp_path, simulated=False, tasks=("age",), quality=PROBES, pretraining=False)
    done = {"brain_extraction": "deepbet", "registration": "rigid", "bias_correction": True}
    for file in tmp_path.glob("age-*/run.yaml"):
        record = yaml.safe_load(file.read_text())
        record["dataset"]["preprocessing"] = done | {"intensity": "white matter = 1"}
        file.write_text(yaml.safe_dump(record))
    text = part(methods(tmp_path), "Preprocessing")
    steps = [
        "N4 (Tustison et al. 2010)",
        "deepbet (Fisch et al. 2024)",
        "registered to the MNI152",
        "by a rigid",
        "Shinohara",
    ]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
    assert "48 × 48 × 38 voxels" in text and "4 mm" in text and "[please add" not in text


def test_a_rerun_beside_a_run_is_told(tmp_path):
    write_runs(tmp_path, tasks=("age",), quality=TRAINED, pretraining=False)
    for name, same in (("age-finetune-pretrained-0", True), ("age-from_scratch-untrained-0", False)):
        folder = tmp_path / "reruns" / name
        folder.mkdir(parents=True)
        (folder / "rerun.json").write_text(json.dumps({"same": same}))
    text = part(methods(tmp_path), "Software and hardware")
    assert "records, 1 run gave the same weights and scores bit for bit; 1 run gave other numbers ([please" in text


@pytest.mark.parametrize("name", conf("encoder"))
def test_our_encoders_have_words_and_a_citation(name):
    text = encoder(info(name, encoder=conf("encoder")[name]))
    assert "[please add" not in text and CITED.search(text), text


@pytest.mark.parametrize("name", ["standard", "kaczmarek2025"])
def test_our_views_have_words(name):
    text = views(conf("views")[name])
    assert "[please add" not in text and "left–right flips (probability 0.5)" in text
    assert views(conf("views")[name] | {"flip_probability": 0.0}).find("flips") == -1


@pytest.mark.parametrize("name", ["simclr", "yaware", "mae", "simclr_mae"])
def test_our_objectives_have_words_and_a_citation(name):
    node = {key: value for key, value in conf("task")[name].items() if key != "defaults"}
    text = training._objective(node)
    assert "[please add" not in text and CITED.search(text), text


def test_somebody_elses_parts_are_gaps():
    assert "[please add: its architecture" in encoder(info("plain", encoder={"_target_": "my_encoders.Plain"}))
    assert views({"_target_": "mine.Views"}) == "[please add: the augmentation Views]"
    assert "[please add" in training._objective({"_target_": "mine.Objective"})
    of_another_version = info("resnet18", encoder={"_target_": "neuro_ssl.encoders.resnet3d.ResNet3D", "depth": 18})
    assert encoder(of_another_version) == "[please add: the encoder; width is not recorded]"


def info(name, **config):
    return RunInfo.model_construct(encoder=Encoder(name=name, parameters_millions=1.0), config=config)


def test_demographics_count_subjects_once_by_their_first_scan():
    scans = pd.DataFrame(
        {
            "subject_id": ["a", "a", "b", "c", "d"],
            "split": ["train", "train", "train", "test", None],
            "age_years": [30.0, 32.0, 50.0, None, 99.0],
            "sex": ["F", "F", None, "M", "M"],
        }
    )
    assert demographics(scans) == {
        "train": {"age_years": {"n": 2, "mean": 40.0, "sd": 14.1, "min": 30.0, "max": 50.0}, "sex": {"F": 1}},
        "test": {"sex": {"M": 1}},
    }
    assert demographics(scans[["subject_id", "split"]]) == {}
