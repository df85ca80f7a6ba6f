"""Evaluations in the report: read, judged in words, and shown with the numbers of their tables."""

import re
import shutil
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_evaluations import MODELS, SCRATCH, TARGETS, VOLUME, write_evaluation
from test_report import Page

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.reporting.evaluations.reading import read_evaluations
from neuro_ssl.reporting.evaluations.section import evaluation_section, warnings
from neuro_ssl.reporting.evaluations.verdicts import QUESTIONS, verdict
from neuro_ssl.reporting.page import render


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_evaluation(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def section(results):
    (section,) = evaluation_section(read_evaluations([results]))
    return section


@pytest.fixture(scope="module")
def html(section):
    return render([section], datetime.now())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_evaluation(tmp_path_factory.mktemp("small"), targets=TARGETS[:1], fractions=(1.0,), n_persons=12)


@pytest.fixture
def a_copy(small, tmp_path):
    """Of a small evaluation, to change."""
    return shutil.copytree(small, tmp_path / small.parent.name / small.name)


def tables_of(html, start):
    """Of each sortable table whose caption starts so, the header and the rows: (text, small, order) a cell."""
    found = []
    for block in re.findall(rf'aria-label="{start}[^"]*">\s*(<table.*?</table>)', html, re.S):
        header = [text.strip() for text in re.findall(r"<button[^>]*>(.*?)</button>", block)]
        rows = []
        for row in re.findall(r"<tr>(.*?)</tr>", block.split("<tbody>")[1], re.S):
            cells = re.findall(r"<t[hd]([^>]*)>(.*?)(?:<small>(.*?)</small>)?</t[hd]>", row, re.S)
            orders = [re.search(r'data-value="([^"]*)"', attributes) for attributes, *_ in cells]
            texts = [(re.sub("<.*?>", "", text), small) for _, text, small in cells]
            pairs = zip(texts, orders, strict=True)
            rows.append([(*text, float(order[1]) if order else None) for text, order in pairs])
        found.append((header, rows))
    return found


def test_every_score_on_the_page_is_that_of_the_table(html, results):
    expected = pd.read_csv(results / "scores.csv")
    shown = 0
    for (task, kind), (header, rows) in zip(
        (("brain_age", "regression"), ("sex", "classification")), tables_of(html, "Scores:"), strict=True
    ):
        lines = expected[expected["task"] == task]
        labels = {metric.label: name for name, metric in METRICS[kind].items()}
        paper = [row for row in rows if row[0][0].startswith("Kaczmarek")]
        assert [row[2][0] for row in paper] == (["4.35"] if task == "brain_age" else [])
        for row in rows[: len(rows) - len(paper)]:
            model = {"from scratch, resnet18": SCRATCH}.get(row[0][0], row[0][0])
            protocol = {"fine-tuned": "finetune"}.get(row[1][0], row[1][0].replace(" ", "_"))
            line = lines[lines["model"].eq(model) & lines["protocol"].eq(protocol)].set_index("metric")
            for heading, (text, small, order) in zip(header[2:-2], row[2:-2], strict=True):
                score = line.loc[labels[heading.removesuffix(" (years)")]]
                assert order == pytest.approx(score["value"], abs=1e-9, nan_ok=True)
                if not np.isnan(score["value"]):
                    assert float(text.replace("−", "-")) == pytest.approx(score["value"], abs=0.0051)
                if not np.isnan(score["low"]):
                    ends = [float(end) for end in small.replace("−", "-").strip("[]").split(", ")]
                    assert ends == pytest.approx([score["low"], score["high"]], abs=0.0051)
                shown += 1
            assert row[-1][0] == ("disjoint" if model in ("ours", "theirs") else "")
    assert shown == len(expected)


def test_comparisons_say_in_words_who_is_better_after_correction(html, results):
    expected = pd.read_csv(results / "comparisons.csv")
    verdicts = {"▲ better": 0, "▼ worse": 0, "○ not shown": 0}
    for task, (header, rows) in zip(("brain_age", "sex"), tables_of(html, "Comparisons:"), strict=True):
        of_task = expected[expected["task"] == task]
        assert len(rows) == len(of_task)
        at = header.index("Verdict")
        for row, line in zip(rows, of_task.to_dict("records"), strict=True):
            assert row[3][2] == pytest.approx(line["value"])
            assert row[at + 1][2] == pytest.approx(line["p_holm"])
            lower_is_better = task == "brain_age"
            if line["p_holm"] >= 0.05:
                assert row[at][0] == "○ not shown"
            else:
                assert row[at][0] == ("▲ better" if (line["value"] < 0) == lower_is_better else "▼ worse")
            verdicts[row[at][0]] += 1
    assert min(verdicts.values()) > 0  # else half of this is untested


def test_the_page_is_whole_names_nobody_and_has_every_figure(html, section):
    page = Page(html)
    assert "secret" not in html
    assert "These data are simulated" in page.text
    ids = [attributes["id"] for tag, attributes in page.attributes if tag == "figure"]
    assert len(ids) == len(set(ids)) == len(section.panels)
    for what in ("scores", "label-efficiency-ridge-probe", "label-efficiency-finetune", "subgroups"):
        assert any(name.startswith(("brain-age", "sex")) and name.endswith(what) for name in ids), what
    for what in ("age-gap", "roc", "precision-recall", "calibration", "predictions", "bland-altman"):
        assert any(name.endswith(what) for name in ids), what
    assert any("reliability" in name for name in ids)
    assert any("site" in name for name in ids)
    targets = {attributes["href"] for tag, attributes in page.attributes if tag == "a"}
    assert {f"#{attributes.get('id')}" for _, attributes in page.attributes} >= targets


def test_figures_say_the_numbers_of_the_tables(section, results):
    html = next(panel.html for panel in section.panels if panel.name == "brain-age-own-test-scores")
    tips = [tip for tip in re.findall(r'data-tip="([^"]*)"', html) if tip.startswith("ours, ridge probe")]
    scores = pd.read_csv(results / "scores.csv").query("task == 'brain_age' and metric == 'mae' and model == 'ours'")
    row = scores[scores["protocol"] == "ridge_probe"].iloc[0]
    assert tips == [f"ours, ridge probe: MAE (years) {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"]

    html = next(panel.html for panel in section.panels if panel.name == "sex-own-test-label-efficiency-logistic-probe")
    tips = [tip for tip in re.findall(r'data-tip="([^"]*)"', html) if tip.startswith("ours")]
    table = pd.read_csv(results / "label_efficiency.csv").query("metric == 'auroc' and model == 'ours'")
    values = table[table["protocol"] == "logistic_probe"].sort_values("fraction")["value"]
    assert [re.search(r"AUROC (\d\.\d\d)", tip)[1] for tip in tips] == [f"{value:.2f}" for value in values]


def test_tables_beside_the_page(section, results):
    scores = pd.read_csv(results / "scores.csv")
    line = scores[scores["metric"].eq("mae") & scores["model"].eq("ours") & scores["protocol"].eq("finetune")].iloc[0]
    text, interval = f"{line['value']:.2f}", f"[{line['low']:.2f}, {line['high']:.2f}]"
    row = next(row for row in section.files["evaluations.md"].splitlines() if "| ours" in row and "fine-tuned" in row)
    assert f"{text} {interval}" in row
    assert text in section.files["evaluations.tex"]
    assert interval[1:] in section.files["evaluations.tex"]  # the bracket is escaped
    assert not {"▲", "▼", "○"} & set(section.files["evaluations.tex"])
    written = results.parent / "check.csv"
    written.write_text(section.files["evaluation_scores.csv"])
    pd.testing.assert_frame_equal(pd.read_csv(written)[list(scores)], scores)


@pytest.mark.parametrize(
    ("changes", "answer", "counts"),
    [
        ([(-2, 0.01), (-1, 0.04)], "better", "better in all 2 comparisons"),
        ([(-2, 0.01), (-1, 0.06)], "partly better", "better in 1 of 2 comparisons"),
        ([(2, 0.01), (1, 0.01)], "worse", "worse in all 2 comparisons"),
        ([(-2, 0.01), (1, 0.01)], "mixed", "better in 1 of 2 comparisons, worse in 1"),
        ([(-2, 0.05), (1, 0.9)], "not shown", "none of 2 comparisons holds"),
        ([(-2, np.nan), (1, np.nan)], "not shown", "none of 2 comparisons holds"),
    ],
)
def test_the_answer_counts_what_holds_after_correction(a_copy, changes, answer, counts):
    results = a_copy
    table = pd.read_csv(results / "comparisons.csv")
    rows = table.index[table["against"] == "untrained resnet18"]
    assert len(rows) == len(changes)
    for row, (value, p_holm) in zip(rows, changes, strict=True):
        table.loc[row, ["value", "low", "high", "p", "p_holm"]] = [value, value - 1, value + 1, p_holm / 2, p_holm]
    table.to_csv(results / "comparisons.csv", index=False)
    (tested,) = read_evaluations([results]).finished[0].tested
    found = verdict(tested, QUESTIONS[0])
    assert (found.answer, found.counts) == (answer, counts)
    words = "ours, ridge probe against untrained resnet18: MAE −2.00 years [−3.00, −1.00]"
    assert found.strongest.startswith(words) == (answer != "worse")
    assert verdict(tested, QUESTIONS[0], "theirs").n == 1


def test_warnings(a_copy, tmp_path):
    record = yaml.safe_load((a_copy / "evaluation.yaml").read_text())
    (ours,) = (model for model in record["models"] if model["name"] == "ours")
    ours["leakage"]["test"] |= {"verdict": "unknown", "cohorts": ["ixi"]}
    ours["learnt_from"] = ["age_years"]
    edit(a_copy, models=record["models"], left_out={"own": ["secret-1", "secret-2"]})
    unfinished = write_evaluation(tmp_path, cohort="other", finished=False)
    lines = warnings(read_evaluations(sorted(file.parent for file in tmp_path.rglob("evaluation.yaml"))))
    for words in (
        "ours was trained with labels (age_years)",
        "ours, test set test: ",
        "only 12 test subjects for Brain age",
        "2 scans that not every model can be given",
        f"Unfinished and left out: evaluation-other-1a2b3c4d/{unfinished.name}",
    ):
        assert any(words in line for line in lines), words
    assert not any("theirs" in line or "secret" in line for line in lines)


def test_of_evaluations_of_the_same_people_the_newest_is_shown(a_copy, tmp_path):
    sites = write_evaluation(tmp_path, models=MODELS[:2], targets=TARGETS[:1], test_set="leave_site_out")
    newer = shutil.copytree(a_copy, a_copy.parent / "results-22222222")
    older = a_copy
    assert sites.parent == older.parent
    for day, results in enumerate((older, sites, newer), 1):
        edit(results, finished=f"2026-01-0{day}T00:00:00+00:00")
    found = read_evaluations(sorted([older, sites, newer]))
    assert [one.path for one in found.finished] == [newer, sites]  # another test set is no repetition
    assert found.superseded == [older]
    assert [one.path for one in read_evaluations([older, sites, newer], every=True).finished] == [newer, sites, older]


def test_without_pretrained_encoders_there_is_no_verdict(tmp_path):
    results = write_evaluation(tmp_path, models=MODELS[:2], targets=TARGETS[:1], n_persons=12)
    (section,) = evaluation_section(read_evaluations([results]))
    (part,) = section.content["parts"]
    assert part.overview is None
    assert [one.verdicts for one in part.tested] == [[]]
    assert part.evaluation.title.startswith("no pretrained encoder on cohort own")


def test_records_of_an_earlier_version_lack_the_paper_and_what_was_learnt_from(a_copy):
    results = a_copy
    record = yaml.safe_load((results / "evaluation.yaml").read_text())
    del record["targets"]
    for model in record["models"]:
        del model["learnt_from"]
    (results / "evaluation.yaml").write_text(yaml.safe_dump(record))
    (section,) = evaluation_section(read_evaluations([results]))
    assert "Kaczmarek" not in section.files["evaluations.md"]
    assert section.panels[0].name == "brain-age-own-test-scores"


def edit(results, **changes):
    file = results / "evaluation.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))


def without_column(file, column):
    pd.read_csv(file).drop(columns=column).to_csv(file, index=False)


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda folder: (folder / "evaluation.yaml").write_text("a: [\n"), "evaluation.yaml: unreadable"),
        (lambda folder: (folder / "evaluation.yaml").write_text("- a\n"), "evaluation.yaml: not a mapping"),
        (lambda folder: edit(folder, models="none"), "evaluation.yaml: models"),
        (lambda folder: edit(folder, models=[]), f"scores.csv: {VOLUME} is no model"),
        (lambda folder: without_column(folder / "scores.csv", "n_seeds"), "scores.csv: lacks the columns n_seeds"),
        (lambda folder: (folder / "scores.csv").unlink(), "scores.csv: unreadable"),
        (lambda folder: (folder / "subgroups.csv").write_text(""), "subgroups.csv: unreadable"),
        (lambda folder: (folder / "predictions.parquet").write_text("PAR"), "predictions.parquet: unreadable"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy(a_copy, breakage, words):
    breakage(a_copy)
    with pytest.raises(InputError, match=re.escape(words)) as error:
        read_evaluations([a_copy])
    assert "evaluate again" in str(error.value)
    assert "\n" not in str(error.value)
