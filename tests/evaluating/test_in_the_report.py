"""A real evaluation, from the command to the page: what it writes is what the report reads."""

import pandas as pd
import pytest
import yaml


@pytest.mark.slow
def test_an_evaluation_is_reported_as_it_was_written(arguments, tmp_path, command, capsys):
    command(
        "evaluate",
        *arguments,
        "tasks=[brain_age,sex]",
        "protocols=[ridge_probe,logistic_probe]",
        "label_fractions=[0.5,1.0]",
    )
    (results,) = tmp_path.glob("evaluation-own-*/results-*")
    record = yaml.safe_load((results / "evaluation.yaml").read_text())
    assert [target["name"] for target in record["targets"]] == ["brain_age", "sex"]
    assert {model["name"]: model["learnt_from"] for model in record["models"]}["ours"] == []
    assert {"reliability.csv", "site.csv", "subgroups.csv"} <= {file.name for file in results.iterdir()}

    capsys.readouterr()
    command("report", f"runs_dir='{tmp_path}'", "figures=[svg]")
    printed = capsys.readouterr().out
    report = tmp_path / "report"
    html = (report / "report.html").read_text()
    scores = pd.read_csv(results / "scores.csv")
    for row in scores[scores["metric"].isin(["mae", "auroc"]) & scores["role"].eq("pretrained")].to_dict("records"):
        text = f"{row['value']:.2f}<small>[{row['low']:.2f}, {row['high']:.2f}]"
        assert text in html
        assert text.replace("<small>", " ") in printed
    assert "only 11 test subjects" in html
    manifest = pd.read_parquet(results / "predictions.parquet")
    assert not any(f">{name}<" in html for name in manifest["scan_id"].unique())
    names = {file.name for file in (report / "figures").iterdir()}
    assert {"brain-age-own-test-scores.svg", "sex-own-test-calibration.svg"} <= names
    assert {"evaluations.md", "evaluations.tex", "evaluation_scores.csv"} <= {file.name for file in report.iterdir()}

    with pytest.raises(SystemExit):
        (results / "scores.csv").write_text("")
        command("report", f"runs_dir='{tmp_path}'")
    assert f"{results / 'scores.csv'}: unreadable" in capsys.readouterr().err
