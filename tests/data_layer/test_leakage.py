import json

import pandas as pd
import pytest
import yaml

from neuro_ssl.data.leakage import Seen, check_leakage, describe
from neuro_ssl.data.protocols import KFold
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.errors import InputError
from neuro_ssl.reporting.runs import records
from neuro_ssl.reporting.runs.models import group_by_task
from neuro_ssl.reporting.runs.reading import read_runs
from neuro_ssl.reporting.runs.tables import markdown, task_rows


def manifest(*rows, **columns):
    """Rows of subject and split; images differ unless given."""
    table = pd.DataFrame(rows, columns=["subject_id", "split"])
    table["image_hash"] = [f"{i:016x}" + 48 * "0" for i in range(len(rows))]
    return table.assign(**columns)


COHORT = manifest(("c/1", "train"), ("c/2", "train"), ("c/3", "val"), ("c/4", "test"), ("c/5", None))


def pretrained_on(folder, table):
    leakage = check_leakage(table, None, evaluates=False, allow=False)
    leakage.seen.write(folder)
    return folder


def check(table, weights, allow=False):
    return check_leakage(table, weights, evaluates=True, allow=allow)


def test_a_cohort_can_serve_both_stages(tmp_path):
    leakage = check(COHORT, pretrained_on(tmp_path, COHORT))
    assert leakage.record == {"verdict": "disjoint", "n_subjects": {"val": 0, "test": 0}}
    assert check(COHORT, None).verdict == "disjoint"


def test_pretraining_evaluates_nobody(tmp_path):
    assert check_leakage(COHORT, None, evaluates=False, allow=False).record is None


def test_another_split_of_the_same_cohort_overlaps(tmp_path):
    weights = pretrained_on(tmp_path, COHORT)
    other = COHORT.assign(split=["val", "test", "train", "train", "test"])
    with pytest.raises(InputError, match=r"trained on 2 of the 3 validation and test subjects: c/1, c/2; pretrain on"):
        check(other, weights)
    allowed = check(other, weights, allow=True)
    assert allowed.record == {"verdict": "overlapping", "n_subjects": {"val": 1, "test": 1}}
    assert str(allowed) == "leakage, allowed knowingly: 1 val and 1 test subjects were trained on"


def test_five_subjects_are_named(tmp_path):
    many = manifest(*((f"c/{i}", "train") for i in range(9)))
    with pytest.raises(InputError, match="9 of the 9 .*: c/0, c/1, c/2, c/3, c/4, …;"):
        check(many.assign(split="test"), pretrained_on(tmp_path, many))


def test_the_same_image_under_two_names(tmp_path):
    weights = pretrained_on(tmp_path, COHORT)
    renamed = manifest(("d/7", "test"), ("d/8", "val"), image_hash=[COHORT["image_hash"][1], "f" * 64])
    with pytest.raises(InputError, match="trained on 1 of the 2 .*: d/7;"):
        check(renamed, weights)
    again = manifest(("d/7", "test"), image_hash=["e" * 64], volume_hash=["0123456789abcdef"])  # compressed anew
    assert check(again, weights).verdict == "disjoint"
    pretrained_on(tmp_path, COHORT.assign(volume_hash=["0123456789abcdef", "1", "2", "3", "4"]))
    assert check(again, weights, allow=True).verdict == "overlapping"


def test_one_image_in_training_and_test_of_one_run():
    twice = COHORT.assign(image_hash=[*COHORT["image_hash"][:3], COHORT["image_hash"][0], None])
    with pytest.raises(InputError, match="the training split holds, by person or image, 1 of the 2 .*: c/4; give each"):
        check(twice, None)
    with pytest.warns(UserWarning, match=r"1 validation and test subjects are in the training split too.*\(c/4\)"):
        check_leakage(twice, None, evaluates=False, allow=False)


def test_one_person_in_two_cohorts(tmp_path):
    weights = pretrained_on(tmp_path, COHORT.assign(person_id=["me", None, None, None, None]))
    with pytest.raises(InputError, match="d/1"):
        check(manifest(("d/1", "test"), person_id=["me"], image_hash=["f" * 64]), weights)
    with pytest.raises(InputError, match="d/2"):  # named after the subject of the other cohort
        check(manifest(("d/2", "test"), person_id=["c/2"], image_hash=["f" * 64]), weights)
    with pytest.raises(InputError, match="c/1"):  # the id was given afterwards, or is not there any more
        check(manifest(("c/1", "test"), image_hash=["f" * 64]), weights)


def test_weights_that_do_not_say(tmp_path):
    unknown = check(COHORT, tmp_path)
    assert unknown.verdict == "unknown" and "don't say" in str(unknown)
    # What was fine-tuned from them is known in part, and stays unknown.
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    unknown.seen.write(tuned)
    other = manifest(("d/1", "train"), ("d/2", "test"), image_hash=["a" * 64, "b" * 64])
    assert check(other, tuned).verdict == "unknown"
    with pytest.raises(InputError, match="c/1"):
        check(manifest(("c/1", "test")), tuned)


def test_published_weights_name_cohorts(tmp_path):
    """As an importer of others' weights leaves them: no subjects, but what their authors say."""
    Seen(complete=False, cohorts=frozenset({"ADNI", "OASIS-3"})).write(tmp_path)
    unknown = check(COHORT, tmp_path)
    assert unknown.record == {
        "verdict": "unknown",
        "n_subjects": {"val": 0, "test": 0},
        "cohorts": ["ADNI", "OASIS-3"],
    }
    assert str(unknown) == str(records.Leakage(**unknown.record)) and str(unknown).endswith("; they name ADNI, OASIS-3")
    assert unknown.seen.cohorts == {"ADNI", "OASIS-3", "c"}  # with what the run itself trains on


def test_fine_tuned_weights_carry_what_their_pretraining_saw(tmp_path):
    weights = pretrained_on(tmp_path, COHORT)
    other = manifest(("d/1", "train"), ("d/2", "test"), image_hash=["a" * 64, "b" * 64])
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    check(other, weights).seen.write(tuned)
    for subject in ("c/1", "c/2", "d/1"):
        with pytest.raises(InputError, match=subject):
            check(manifest((subject, "test"), image_hash=["f" * 64]), tuned)
    assert check(manifest(("d/2", "test"), image_hash=["f" * 64]), tuned).verdict == "disjoint"


def test_the_file_names_nobody(tmp_path):
    pretrained_on(tmp_path, COHORT)
    text = (tmp_path / "seen.json").read_text()
    assert "c/1" not in text and len(json.loads(text)["subjects"]) == 2
    (tmp_path / "seen.json").write_text(text[:-9])
    with pytest.raises(InputError, match="seen.json: damaged"):
        Seen.by(tmp_path)


def test_words_for_each_verdict():
    assert describe("overlapping", {"val": 0, "test": 3}).endswith("3 test subjects were trained on")
    assert len({describe(verdict, {}) for verdict in ("disjoint", "overlapping", "unknown")}) == 3


def test_the_whole_way_of_an_overlap(real_brains, tmp_path, command, capsys):
    """Pretrain on one division, evaluate on another: refused, then allowed, recorded and reported."""
    tiny = ["dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", f"runs_dir={tmp_path}"]
    tiny += ["strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv"]
    command("train", "+experiment=simclr_pretrain", "encoder.width=8", *tiny)
    (pretrained,) = tmp_path.glob("simclr_pretrain-*")
    record = yaml.safe_load((pretrained / "run.yaml").read_text())
    assert record["leakage"] is None and record["dataset"]["split"] == ""
    splits = pd.read_csv(pretrained / "splits.csv").set_index("subject_id")["split"]
    assert sorted(splits) == ["test", "train", "train", "val"]

    trained_on = set(splits.index[splits == "train"])
    manifest = VolumeStore.find(real_brains / "stores" / "ixi", "8mm").manifest
    fold = next(i for i in range(4) if held_out(i, manifest, "test") <= trained_on)
    divided = ["split=kfold", "split.n_folds=4", "split.held_out=test", "split.stratify=[]", f"split.fold={fold}"]
    probe = ["+experiment=linear_probe", f"weights={pretrained}", *divided, *tiny]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command("train", *probe)
    error = capsys.readouterr().err
    assert error.startswith("error: leakage: weights=") and "allow_leakage=true" in error
    assert all(subject in error for subject in held_out(fold, manifest, "test"))
    assert not list(tmp_path.glob("linear_probe-*"))

    command("train", *probe, "allow_leakage=true")
    assert "leakage, allowed knowingly" in capsys.readouterr().out
    (run,) = tmp_path.glob("linear_probe-*")
    allowed = yaml.safe_load((run / "run.yaml").read_text())
    assert allowed["config"]["allow_leakage"] is True
    assert allowed["dataset"]["split_hash"] != record["dataset"]["split_hash"]
    evaluated = {split: held_out(fold, manifest, split) for split in ("val", "test")}
    used = pd.read_csv(run / "splits.csv")
    assert {split: set(used["subject_id"][used["split"] == split]) for split in evaluated} == evaluated
    leakage = {split: len(subjects & trained_on) for split, subjects in evaluated.items()}
    assert allowed["leakage"] == {"verdict": "overlapping", "n_subjects": leakage}
    assert json.loads((run / "results.json").read_text())["leakage"] == allowed["leakage"]
    with pytest.raises(SystemExit):  # a finished run is shown only to those who allow it
        command("train", *probe)
    groups = group_by_task(read_runs(tmp_path).downstream)
    assert "leakage, allowed knowingly" in markdown(groups, [task_rows(group) for group in groups])

    # The remedy that the error names.
    command("train", "+experiment=simclr_pretrain", "encoder.width=8", *divided, *tiny)
    (again,) = set(tmp_path.glob("simclr_pretrain-*")) - {pretrained}
    capsys.readouterr()
    command("train", "+experiment=linear_probe", f"weights={again}", *divided, *tiny)
    assert "no leakage" in capsys.readouterr().out


def held_out(fold, manifest, split):
    divided = KFold(fold, 4, held_out="test", stratify=[])(manifest)
    return set(divided["subject_id"][divided["split"] == split])
