import json
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from io import StringIO
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_runs import PRETRAINING, write_runs
from matplotlib.figure import Figure
from scipy import stats

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.reporting.page import render, write
from neuro_ssl.reporting.panel import Panel
from neuro_ssl.reporting.runs.comparisons import format_p
from neuro_ssl.reporting.runs.models import group_by_task
from neuro_ssl.reporting.runs.reading import read_runs
from neuro_ssl.reporting.runs.sections import run_sections
from neuro_ssl.reporting.runs.tables import markdown, task_rows
from neuro_ssl.reporting.runs.tidy import tidy_results
from neuro_ssl.reporting.section import Section

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def rendered(runs_dir):
    return render(run_sections(read_runs(runs_dir)), datetime.now())


@pytest.fixture
def runs_dir(tmp_path):
    write_runs(tmp_path)
    halted = tmp_path / "finetune-halted"
    halted.mkdir()
    (halted / "run.yaml").write_text("name: finetune-halted\nstatus: running\n")
    return tmp_path


def test_the_command_writes_one_self_contained_page_and_its_tables(runs_dir, command, capsys):
    (runs_dir / "evaluation-ixi-1a2b3c4d").mkdir()
    times = [{"time": f"2026-0{month}-01T00:00:00+00:00", "fingerprint": str(month)} for month in (1, 2)]
    (runs_dir / "evaluation-ixi-1a2b3c4d" / "openings.yaml").write_text(yaml.safe_dump({"sex/test": times}))
    command("report", f"runs_dir={runs_dir}", "figures=[svg]")
    output = runs_dir / "report"
    printed = capsys.readouterr().out.splitlines()
    reopened = "The test set sex/test of evaluation-ixi-1a2b3c4d was opened 2 times, 2026-01-01, 2026-02-01"
    assert reopened in (output / "report.html").read_text() and any(line.startswith(reopened) for line in printed)
    assert printed[-1] == f"report: {output / 'report.html'}"
    tables = ["comparisons.csv", "results.csv", "results.md", "results.tex", "methods.md", "methods.tex"]
    assert sorted(f.name for f in output.iterdir()) == sorted([".report", "figures", "report.html", *tables])

    text = (output / "report.html").read_text()
    page = Page(text)
    assert len(text) < 5e6
    links = [value for _, a in page.attributes for key, value in a.items() if key in ("src", "href", "xlink:href")]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in text
    # 2 tasks: scores, curves of 2 metrics each; 2 figures of 4 models' ages, 3 of all models' sex; 3 pretraining
    # curves, views of 3 scans
    assert sum(tag == "figure" for tag, _ in page.attributes) == 2 + 2 * 2 + 2 * 4 + 3 + 3 + 3
    ids = [a["id"] for _, a in page.attributes if "id" in a]
    assert len(set(ids)) == len(ids)
    images = [a for tag, a in page.attributes if tag == "svg"]
    assert all(image["aria-label"] for image in images)

    assert "These data are simulated: cohort simulated." in page.text
    assert "Unfinished and left out: finetune-halted" in page.text
    assert "test subjects for" not in page.text  # 36 are enough
    assert "uncommitted" not in page.text
    for run in runs_dir.glob("*/results.json"):
        assert f"task={'brain_age' if run.parent.name.startswith('age') else 'sex'} seed=0" in page.text
        score = next(iter(json.loads(run.read_text())["scores"].values()))
        shown = f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"
        assert shown in page.text
        assert shown in (output / "results.md").read_text()

    table = pd.read_csv(output / "results.csv", float_precision="round_trip")
    for file in runs_dir.glob("*/results.json"):
        results = json.loads(file.read_text())
        rows = table[table["run"] == file.parent.name]
        for protocol, scores in ((results["protocol"], results["scores"]), ("baseline", results["baseline"]["scores"])):
            for metric, score in scores.items():
                row = rows[(rows["protocol"] == protocol) & (rows["metric"] == metric)]
                expected = [float("nan")] * 3 if score is None else [score[k] for k in ("value", "low", "high")]
                written = row[["value", "low", "high"]].to_numpy(float)[0]
                assert list(written) == pytest.approx([float("nan") if e is None else e for e in expected], nan_ok=True)


def test_real_data_few_subjects_and_dirty_code(tmp_path):
    write_runs(
        tmp_path,
        simulated=False,
        n_subjects=12,
        dirty=True,
        tasks=("sex",),
        quality={("finetune", "pretrained"): (0, 1)},
    )
    page = Page(rendered(tmp_path))
    assert "simulated" not in page.text.replace("data/stores/simulated-4mm-1f2e3d4c", "")
    assert "Only 12 test subjects for Sex" in page.text
    assert "uncommitted changes, so that the commit doesn't identify the code: all 2 runs" in page.text


def test_simulated_and_real_data_on_one_page_are_told_apart(tmp_path):
    for name, simulated, n in (("a", True, 36), ("b", False, 12)):
        quality = {("finetune", "pretrained"): (0, 1)}
        write_runs(tmp_path / name, simulated=simulated, n_subjects=n, tasks=("sex",), quality=quality)
    page = Page(rendered(tmp_path))
    assert "Some of these data are simulated: cohort simulated, but not ixi." in page.text
    assert "Only 12 test subjects for Sex (cohort ixi)" in page.text


def test_pretraining_alone_makes_a_page_and_text_is_escaped(tmp_path):
    write_runs(tmp_path, tasks=())
    file = next(tmp_path.glob("*/run.yaml"))
    file.write_text(file.read_text().replace("cohort: simulated", "cohort: <b>x"))
    text = rendered(tmp_path)
    assert "<b>x" not in text
    assert "These data are simulated: cohort <b>x" in Page(text).text
    assert "Example views" in text


def test_an_empty_runs_directory_is_one_line(tmp_path, command, capsys):
    with pytest.raises(SystemExit):
        command("report", f"runs_dir={tmp_path}", "figures=[]")
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}: no runs here")
    assert error.count("\n") == 1


def test_leakage_is_repeated_wherever_scores_are(tmp_path, command):
    quality = {("finetune", "pretrained"): (0, 1), ("from_scratch", "untrained"): (0, 1)}
    write_runs(tmp_path, tasks=("sex",), quality=quality, pretraining=False)
    for protocol, leakage in {
        "finetune-pretrained": {"verdict": "overlapping", "n_subjects": {"val": 0, "test": 3}},
        "from_scratch-untrained": {"verdict": "unknown", "n_subjects": {"val": 0, "test": 0}},
    }.items():
        file = tmp_path / f"sex-{protocol}-0" / "results.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"leakage": leakage}))
    command("report", f"runs_dir={tmp_path}", "figures=[]")
    lines = [
        "Sex, Fine-tuned (sex-finetune-pretrained-0): leakage, allowed knowingly: 3 test subjects were trained on.",
        "Sex, From scratch (sex-from_scratch-untrained-0): leakage unknown: the weights don't say whom they were",
    ]
    page = Page((tmp_path / "report" / "report.html").read_text())
    markdown = (tmp_path / "report" / "results.md").read_text()
    assert all(line in page.text and line in markdown for line in lines)
    table = pd.read_csv(tmp_path / "report" / "results.csv").dropna(subset="leakage")
    assert dict(zip(table["protocol"], table["leakage"], strict=True)) == {
        "finetune": "overlapping",
        "from_scratch": "unknown",
    }


def test_labels_behind_the_weights_are_named(tmp_path):
    write_runs(tmp_path, tasks=("age",), quality={("finetune", "pretrained"): (6, 1)}, pretraining=False)
    file = tmp_path / "age-finetune-pretrained-0" / "run.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"covariates": ["age_years"]}))
    text = Page(rendered(tmp_path)).text
    assert text.count(f"{PRETRAINING} (labels: age_years)") == 1


def test_folds_and_fractions_are_not_compared_with_each_other(tmp_path):
    write_runs(tmp_path, tasks=("sex",), quality={("from_scratch", "untrained"): (0, 1)}, seeds=(0, 1))
    file = tmp_path / "sex-from_scratch-untrained-1" / "run.yaml"
    text = file.read_text().replace("  store:", "  split: val = fold 1 of 0–4\n  split_hash: 0123abcd\n  store:")
    file.write_text(text)
    groups = group_by_task(read_runs(tmp_path).downstream)
    assert [len(group.runs) for group in groups] == [1, 1]
    assert [group.dataset.title for group in groups] == [
        "cohort simulated, grid 4mm",
        "cohort simulated, grid 4mm, val = fold 1 of 0–4",
    ]


def edit_results(path, **changes):
    file = path / "results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_different_columns_are_not_compared_with_each_other(tmp_path):
    write_runs(tmp_path, tasks=("age",), quality={("from_scratch", "untrained"): (8, 1)}, seeds=(0, 1))
    for seed, column in enumerate(("mmse", "updrs")):
        edit_results(tmp_path / f"age-from_scratch-untrained-{seed}", task="regression", target=column)
    groups = group_by_task(read_runs(tmp_path).downstream)
    assert [(group.title, len(group.runs)) for group in groups] == [
        ("Regression of mmse", 1),
        ("Regression of updrs", 1),
    ]


@pytest.mark.parametrize(
    ("cohort", "whose"), [("aibl", "another test set (AIBL)"), ("ixi", "the paper's own split of IXI")]
)
def test_the_papers_scores_are_rows_without_an_interval(tmp_path, command, cohort, whose):
    quality = {("finetune", "pretrained"): (0, 1)}
    write_runs(tmp_path, simulated=False, tasks=("sex",), quality=quality, pretraining=False)
    reference = {"cohort": cohort, "metric": "auroc", "fine_tuned": 0.929, "from_scratch": 0.869}
    edit_results(tmp_path / "sex-finetune-pretrained-0", reference=reference)
    command("report", f"runs_dir={tmp_path}", "figures=[]")
    lines = (tmp_path / "report" / "results.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    for cell, how, value in ((cells[-2], "fine-tuned SimCLR", "0.93"), (cells[-1], "from scratch", "0.87")):
        assert cell[:3] == [f"Paper ({how}, {cohort.upper()})", value, "n/a"]
        assert cell[-1] == whose
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert f"Paper (fine-tuned SimCLR, {cohort.upper()}): on {whose} (dotted)." in page.text
    assert "on their own test scans, not on these" in page.text
    tips = [a["data-tip"] for _, a in page.attributes if "data-tip" in a]
    assert f"paper, test scans of {cohort.upper()}: 0.929" in tips  # on the curve of the validation score
    assert not any("cohort/sub-" in tip for tip in tips)
    table = pd.read_csv(tmp_path / "report" / "results.csv").set_index("protocol")
    assert table.loc["paper_from_scratch", "value"] == 0.869
    assert pd.isna(table.loc["paper_finetune", ["low", "high"]]).all()


def test_runs_of_an_earlier_version_lack_the_newer_scores(tmp_path):
    write_runs(
        tmp_path, tasks=("sex",), quality={("finetune", "pretrained"): (0, 1), ("from_scratch", "untrained"): (0, 1)}
    )
    file = tmp_path / "sex-finetune-pretrained-0" / "results.json"  # the first of its table
    results = json.loads(file.read_text())
    earlier = ("auroc", "average_precision", "balanced_accuracy", "brier")
    for part in (results, results["baseline"]):
        part["scores"] = {name: part["scores"][name] for name in earlier}
    file.write_text(json.dumps(results))
    (group,) = group_by_task(read_runs(tmp_path).downstream)
    tidy = tidy_results([group])
    table = tidy[tidy["protocol"] != "baseline"].pivot(index="protocol", columns="metric", values="value")
    assert set(table) == set(METRICS["classification"])
    newer = [name for name in table if name not in earlier]
    assert table.loc["finetune", newer].isna().all() and table.loc["from_scratch", newer].notna().all()
    assert table.loc[["finetune", "from_scratch"], list(earlier)].notna().all().all()
    text = markdown([group], [task_rows(group)])
    assert "Sensitivity at 90 % specificity" in text and "n/a" in text


@pytest.fixture(scope="module")
def several_seeds(tmp_path_factory, command):
    """Two models of three seeds each, of which one run has another rate; and two whose test split is closed."""
    folder = tmp_path_factory.mktemp("seeds")
    quality = {("finetune", "pretrained"): (4, 1), ("from_scratch", "untrained"): (9, 1)}
    write_runs(folder, tasks=("age",), quality=quality, seeds=(0, 1, 2), pretraining=False)
    for seed in (0, 1, 2, 8, 9):
        if seed > 2:
            shutil.copytree(folder / "age-finetune-pretrained-0", folder / f"closed-{seed}")
        file = folder / (f"closed-{seed}" if seed > 2 else f"age-finetune-pretrained-{seed}") / "run.yaml"
        record = yaml.safe_load(file.read_text())
        record["config"]["optimizer"] = {"learning_rate": 0.1 if seed == 2 else 0.2}
        record["name"] = file.parent.name
        file.write_text(yaml.safe_dump(record | ({"test_opened": []} if seed > 2 else {})))
    printed = StringIO()
    with redirect_stdout(printed):
        command("report", f"runs_dir={folder}", "figures=[]")
    (folder / "printed").write_text(printed.getvalue())
    return folder


def test_seeds_are_one_row_with_their_mean_and_other_settings_another(several_seeds):
    report = several_seeds / "report"
    page = Page((report / "report.html").read_text())
    table = pd.read_csv(report / "results.csv")
    means = table[table["n_seeds"].gt(1) & table["metric"].eq("mae")].set_index("model")
    assert list(means["n_seeds"]) == [2, 3]
    alone = "Fine-tuned (optimizer.learning_rate=0.1)"
    assert sorted(table["model"].dropna().unique()) == [
        *(alone, "Fine-tuned (optimizer.learning_rate=0.2)"),
        *(f"Fine-tuned (optimizer.learning_rate=0.2) (seed {seed})" for seed in (0, 1)),
        *("From scratch", *(f"From scratch (seed {seed})" for seed in (0, 1, 2))),
    ]
    runs = [json.loads((several_seeds / f"age-from_scratch-untrained-{i}/results.json").read_text()) for i in range(3)]
    values = [run["scores"]["mae"]["value"] for run in runs]
    scratch = means.loc["From scratch"]
    margin = stats.t.ppf(0.975, 2) * stats.sem(values)
    assert list(scratch[["value", "seeds_low", "seeds_high"]]) == pytest.approx(
        [np.mean(values), np.mean(values) - margin, np.mean(values) + margin]
    )
    assert scratch["low"] < scratch["value"] < scratch["high"]
    shown = "{value:.2f} [{low:.2f}, {high:.2f}] seeds [{seeds_low:.2f}, {seeds_high:.2f}]".format(**scratch)
    assert shown in page.text and shown in (report / "results.md").read_text()
    cell = r"\makecell[tc]{" + shown.partition(" ")[0] + r"\\{\footnotesize {[}"
    assert cell in (report / "results.tex").read_text()
    assert "Each seed" in page.text
    compared = pd.read_csv(report / "comparisons.csv")
    assert list(compared["against"]) == ["From scratch"] * 2
    assert f"{format_p(compared['p_holm'][0])} *" in page.text

    closed = "Left out: 2 runs (the test split stayed closed)"
    assert closed in page.text and "closed-8" in page.text
    printed = (several_seeds / "printed").read_text()
    assert closed in printed and "closed-8" not in printed


def test_what_runs_share_is_said_once_and_what_differs_is_a_table(several_seeds):
    page = Page((several_seeds / "report" / "report.html").read_text())
    assert page.text.count("0123456789abcdef") == 1
    headings = [a["aria-label"] for _, a in page.attributes if a.get("aria-label", "").startswith("Differing")]
    assert headings == ["Differing settings: Runs on the tasks"]
    rows = page.text.partition("Settings in which runs differ")[2].partition("How to read")[0]
    assert "Run name optimizer.learning_rate seed " in rows
    assert " age-finetune-pretrained-2 age-finetune-pretrained-2 0.1 2 " in rows
    assert " age-from_scratch-untrained-1 age-from_scratch-untrained-1 – 1 " in rows


def test_headings_and_links_of_the_page_are_in_order(several_seeds):
    page = Page((several_seeds / "report" / "report.html").read_text())
    levels = [int(tag[1]) for tag, _ in page.attributes if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in pairwise(levels))
    ids = {a["id"] for _, a in page.attributes if "id" in a}
    targets = [a["href"][1:] for tag, a in page.attributes if tag == "a"]
    assert len(targets) > 8 and set(targets) <= ids


def test_what_an_earlier_report_wrote_goes_and_what_others_wrote_stays(tmp_path):
    def panel(name):
        return Panel(name, "alt", "caption", Figure())

    def section(*panels):
        return Section("summary", "Summary", {"parts": [], "several_datasets": False}, panels)

    def written():
        return {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("[!.]*") if file.is_file()}

    picture = Panel("voxels", "alt", "caption", b"a PNG")
    first = replace(section(panel("roc"), panel("roc"), panel("roc-2"), picture), files={"old.tex": "x"})
    write(tmp_path, [first], datetime.now(), ["svg"])
    figures = {f"figures/{name}" for name in ("roc.svg", "roc-2.svg", "roc-2-2.svg", "voxels.png")}
    assert written() == {"report.html", "old.tex", *figures}
    (tmp_path / "figures" / "mine.svg").touch()
    write(tmp_path, [section(panel("roc"))], datetime.now(), ["png", "pdf"])
    assert written() == {"report.html", "figures/roc.png", "figures/roc.pdf", "figures/mine.svg"}
    (tmp_path / "figures" / "mine.svg").unlink()
    with pytest.raises(InputError, match=r"figures=\[bmp\]: not among svg, png, pdf"):
        write(tmp_path, [], datetime.now(), ["svg", "bmp"])
    write(tmp_path, [section(panel("roc"), picture)], datetime.now(), [])
    assert written() == {"report.html"} and not (tmp_path / "figures").exists()


def test_no_runs_and_no_embeddings_is_an_error(tmp_path, command, capsys):
    with pytest.raises(SystemExit):
        command("report", f"runs_dir={tmp_path}", "runs=[]")
    assert "runs=[] and embeddings=[]: nothing to report" in capsys.readouterr().err


def test_a_page_too_large_to_mail_is_said(tmp_path, command, capsys, monkeypatch):
    write_runs(tmp_path, tasks=())
    monkeypatch.setattr("neuro_ssl.reporting.page.LARGE_MB", 0.01)
    command("report", f"runs_dir={tmp_path}", "figures=[]")
    assert "report.html has 0 MB, more than many mail servers take" in capsys.readouterr().out
