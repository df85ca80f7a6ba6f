"""When the labels of a test set are looked at, and the record of it."""

from dataclasses import replace

import pandas as pd
import pytest
import yaml

from neuro_ssl.data.store import VolumeStore
from neuro_ssl.evaluating.record import evaluation_name, reopened


def the_evaluation(tmp_path):
    (folder,) = tmp_path.glob("evaluation-own-*")
    return folder


def test_a_test_set_is_opened_once(arguments, quick, tmp_path, command, capsys):
    def results():
        return sorted(the_evaluation(tmp_path).glob("results-*"), key=lambda folder: folder.stat().st_ctime)

    def openings():
        found = yaml.safe_load((the_evaluation(tmp_path) / "openings.yaml").read_text())
        return {key: len(times) for key, times in found.items()}

    command("evaluate", *arguments, "tasks=[sex]")
    (first,) = results()
    assert openings() == {"sex/test": 1}

    # The same again shows what is stored: nothing is computed.
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    command("evaluate", *arguments, "tasks=[sex]")
    assert "already finished" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == times

    # Another evaluation of the same labels is refused, one of other labels is not.
    with pytest.raises(SystemExit):
        command("evaluate", *arguments, "tasks=[sex]", "protocols=[knn_probe]")
    error = capsys.readouterr().err
    assert "sex/test was opened once" in error and "reopen_test=true" in error
    assert openings() == {"sex/test": 1}
    command("evaluate", *arguments, "tasks=[brain_age]", "n_untrained=0")
    command("evaluate", *arguments, "tasks=[sex]", "protocols=[knn_probe]", "reopen_test=true")
    assert openings() == {"sex/test": 2, "brain_age/test": 1}
    last = max(results(), key=lambda folder: (folder / "results.md").stat().st_mtime_ns)
    warning = f"The test set sex/test of {the_evaluation(tmp_path).name} was opened 2 times"
    assert warning in (last / "results.md").read_text()
    assert reopened(tmp_path)[0].startswith(warning) and len(reopened(tmp_path)) == 1

    # What was found the first time is still there to be shown.
    command("evaluate", *arguments, "tasks=[sex]")
    assert f"already finished: {first}" in capsys.readouterr().out and len(results()) == 3


def test_what_changes_no_prediction_is_no_other_opening_and_shows_in_the_tables(
    arguments, pretrained_on_own, quick, tmp_path, command
):
    def tables():
        return [pd.read_csv(file) for file in sorted(tmp_path.glob("evaluation-own-*/results-*/scores.csv"))]

    command("evaluate", *arguments, "tasks=[sex]", "n_untrained=0")
    renamed = [a for a in arguments if not a.startswith("encoders=")] + [f"encoders={{theirs: '{pretrained_on_own}'}}"]
    command("evaluate", *renamed, "tasks=[sex]", "n_untrained=0")
    assert [set(table["model"]) & {"ours", "theirs"} for table in tables()] in (
        [{"ours"}, {"theirs"}],
        [{"theirs"}, {"ours"}],
    )
    command("evaluate", *arguments, "tasks=[sex]", "n_untrained=0", "statistics.n_resamples=300")
    lows = {
        table.query("metric == 'brier' and model == 'ours'")["low"].iloc[0]
        for table in tables()
        if "ours" in set(table["model"])
    }
    assert len(tables()) == 3 and len(lows) == 2
    # Another cohort beside it leaves what was evaluated on this one as it is.
    command("evaluate", *arguments, "tasks=[sex]", "n_untrained=0", "test_sets=[test,other]")
    (file,) = tmp_path.glob("evaluation-own-*/openings.yaml")
    assert {key: len(times) for key, times in yaml.safe_load(file.read_text()).items()} == {
        "sex/test": 1,
        "sex/other": 1,
    }


def test_a_test_set_that_another_evaluation_opened_meanwhile_stays_closed(
    arguments, quick, tmp_path, command, monkeypatch, capsys
):
    import neuro_ssl.evaluating.features as features

    embed = features.embed_store

    def opened_meanwhile(*given, **options):
        (tmp_path / folder).mkdir(exist_ok=True)
        content = {"sex/test": [{"time": "2026-01-01", "fingerprint": "another"}]}
        (tmp_path / folder / "openings.yaml").write_text(yaml.safe_dump(content))
        return embed(*given, **options)

    command("evaluate", *arguments, "tasks=[brain_age]", "n_untrained=0", "encoders=null", "protocols=[ridge_probe]")
    folder = the_evaluation(tmp_path).name
    monkeypatch.setattr(features, "embed_store", opened_meanwhile)
    with pytest.raises(SystemExit):
        command("evaluate", *arguments, "tasks=[sex]", "n_untrained=0")
    assert "sex/test was opened once" in capsys.readouterr().err
    assert len(yaml.safe_load((tmp_path / folder / "openings.yaml").read_text())["sex/test"]) == 1


def test_the_same_people_have_one_record_whatever_grid_and_labels(cohort):
    store = VolumeStore.find(cohort / "stores" / "own", "16mm")
    name = evaluation_name(store)
    hashes = store.manifest["volume_hash"].str[::-1]
    other_grid = store.manifest.assign(volume_hash=hashes, age_years=store.manifest["age_years"] + 1)
    info = store.info | {"manifest_hash": "0" * 16}
    assert evaluation_name(replace(store, manifest=other_grid[::-1].reset_index(drop=True), info=info)) == name
    moved = store.manifest["split"].replace({"val": "test"})
    assert evaluation_name(replace(store, manifest=store.manifest.assign(split=moved))) != name


def test_an_interrupted_evaluation_goes_on_and_has_been_opened(arguments, quick, tmp_path, command, monkeypatch):
    import neuro_ssl.evaluating.predictions as predictions

    fit, fitted = predictions.fit_probe, []

    def fails_at_third(*given, **options):
        fitted.append(1)
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return fit(*given, **options)

    monkeypatch.setattr(predictions, "fit_probe", fails_at_third)
    with pytest.raises(KeyboardInterrupt):
        command("evaluate", *arguments, "tasks=[sex]")
    folder = the_evaluation(tmp_path)
    (record,) = folder.glob("results-*/evaluation.yaml")
    assert yaml.safe_load(record.read_text())["finished"] is None
    command("evaluate", *arguments, "tasks=[sex]")
    assert yaml.safe_load(record.read_text())["finished"]
    assert len(yaml.safe_load((folder / "openings.yaml").read_text())["sex/test"]) == 1
    assert len(fitted) == 6  # volume, untrained of seed 0, of seed 1 and stopped; both seeds anew, ours
