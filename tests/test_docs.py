"""The README's and the documentation's links, programs, error messages, and the site itself."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import neuro_ssl
from neuro_ssl.__main__ import COMMANDS
from neuro_ssl.data.store import VolumeStore
from tests.conftest import IXI, run_command

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"),
    *sorted(DOCS.glob("*.md")),
    *sorted(ROOT.glob("experiments/*/README.md")),
]
# A file of a page: its name in backquotes, then its content.
FILES = re.compile(r"^`([\w/]+\.(?:py|yaml))`[^\n`]*:\n\n```(?:python|yaml)\n(.*?)```", re.S | re.M)


def without_code(text):
    return re.sub(r"```.*?```|~~~.*?~~~", "", text, flags=re.S)


@cache
def anchors(page):
    """Of each heading, as GitHub makes them."""
    found = {}
    for heading in re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.M):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
    return {name if not n else f"{name}-{n}" for name, last in found.items() for n in range(last + 1)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", without_code(page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = Path(os.path.normpath(page.parent / path)) if path else page
        assert file.is_file(), target
        if anchor:
            assert anchor in anchors(file), target


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(
        r"^([\w/]+)$", "".join(re.findall(r"```{toctree}(.*?)```", (DOCS / "index.md").read_text(), re.S)), re.M
    )
    assert {page.stem for page in DOCS.glob("*.md")} == {"index", *(name for name in listed if "/" not in name)}
    assert len(listed) == len(set(listed))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """The files of the page on extending, written out; in their folder, from where `python -m` would import them."""
    for name, content in FILES.findall((DOCS / "extending.md").read_text(encoding="utf-8")):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if re.fullmatch(r"my_\w+", name)]:
        del sys.modules[name]


PREPARE = ["grid=16mm", "bias_correction=false", "registration=centre", "n_jobs=1"]
PREPARE += ["splits={train: 0.5, val: 0.25, test: 0.25}"]
TRAIN = ["grid=16mm", "strategy=cpu", "logger=csv", "num_workers=0", "batch_size=2", "trainer.max_epochs=1"]


def make_lab(folder):
    """The four real heads in the layout that the page describes."""
    for n, row in enumerate(pd.read_csv(IXI / "participants.csv").itertuples()):
        place = folder / f"S{n:03d}_{row.Sex}_{row.Age:.0f}"
        place.mkdir(parents=True)
        shutil.copy(IXI / f"{row.MRID}_T1.nii.gz", place / "T1w.nii.gz")
        shutil.copy(IXI / "masks" / f"{row.MRID}_mask.nii.gz", place / "mask.nii.gz")
    return folder


def make_study(folder):
    """The same as a table such as the page describes."""
    folder.mkdir(parents=True)
    rows = []
    for n, row in enumerate(pd.read_csv(IXI / "participants.csv").itertuples()):
        shutil.copy(IXI / f"{row.MRID}_T1.nii.gz", folder / f"P{n}_T1w.nii.gz")
        of_person = {"ID": f"P{n}", "gender": 1 if row.Sex == "M" else 2, "age_at_scan": row.Age, "mmse": 30 - n}
        rows.append({**of_person, "mask": IXI / "masks" / f"{row.MRID}_mask.nii.gz"})
    pd.DataFrame(rows).to_csv(folder / "study.csv", index=False)
    return folder


def runs_in(folder):
    return {run.name.rpartition("-")[0]: run for run in (folder / "runs").glob("*-*")}


def final(run, metric):
    history = pd.read_csv(run / "metrics.csv")
    return history[history["metric"] == metric]["value"].iloc[-1]


def test_own_dataset_encoder_task_and_views_together(extended):
    lab = make_lab(extended / "data" / "lab")
    run_command("preprocess", "--config-dir", "my_conf", "dataset=lab", f"dataset.root={lab}", *PREPARE)
    manifest = VolumeStore.find(extended / "data/stores/lab", "16mm").manifest
    assert manifest["subject_id"].tolist() == [f"lab/S{n:03d}" for n in range(4)]
    assert manifest["age_years"].tolist() == [int(folder.name[-2:]) for folder in sorted(lab.iterdir())]
    own = ["dataset=lab", "encoder=plain", "encoder.width=8", "task=barlow_twins", "views=intensity_alone"]
    run_command("train", "--config-dir", "my_conf", *own, *TRAIN)
    run = runs_in(extended)["barlow_twins"]
    assert neuro_ssl.load_encoder(run).embed_dim == 32
    assert 0 < final(run, "train/loss") < np.inf
    views = np.load(run / "views.npz")
    brain = views["original"][0] > 0
    assert all((view[0][~brain] == 0).all() for name, view in views.items() if name != "original")


@pytest.mark.slow
def test_every_command_of_the_page_on_extending(extended):
    roots = {"lab": make_lab(extended / "data" / "lab"), "study": make_study(extended / "data" / "study")}
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    commands = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]
    for words in sorted(map(shlex.split, commands), key=lambda words: words[2]):  # preprocess before train
        assert words[:2] == ["python", "-m"]
        name, options = words[2].removeprefix("neuro_ssl."), words[3:]
        cohort = "study" if "dataset=study" in options else "lab"
        options += ["dataset=lab"] if not any(word.startswith("dataset=") for word in options) else []
        options += PREPARE if name == "preprocess" else TRAIN
        if name == "train":
            options += ["encoder.width=8"] if "encoder=plain" in options else ["encoder=plain", "encoder.width=8"]
        run_command(name, *options, f"dataset.root={roots[cohort]}")
    assert VolumeStore.find(extended / "data/stores/study", "16mm").manifest["mmse"].tolist() == [30, 29, 28, 27]
    assert {"simclr_pretrain", "from_scratch-mmse", "barlow_twins"} <= set(runs_in(extended))


@pytest.mark.slow
@pytest.mark.parametrize("divided", ["micro_batch_size=1", "trainer.devices=2"])
def test_the_page_on_extending_has_an_objective_that_may_be_divided(extended, random_scans, divided):
    """In parts of one scan or over two processes of 4 and 3 scans: the loss and the gradient are the whole batch's."""
    data = ["dataset=csv", "dataset.cohort=c", f"data_dir='{random_scans.path.parents[2]}'"]
    own = ["--config-dir", "my_conf", "task=barlow_twins", "encoder=plain", "encoder.width=8", *data, *TRAIN]
    of = {}
    for runs, *options in (["whole"], ["divided", divided]):
        if "trainer.devices=2" in options:
            options += ["strategy=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true"]
            options += ["trainer.sync_batchnorm=false"]
        command = [*own, "batch_size=7", f"runs_dir={runs}", *options]
        subprocess.run(
            [sys.executable, "-m", "neuro_ssl.train", *command],
            check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        (run,) = (extended / runs).glob("barlow_twins-*")
        of[runs] = [final(run, metric) for metric in ("train/loss", "gradient_norm")]
    assert of["divided"] == pytest.approx(of["whole"], rel=1e-4)


def programs():
    """What the pages have in Python, by page, but for files that the page on extending has written out."""
    for page in PAGES:
        text = FILES.sub("", page.read_text(encoding="utf-8"))
        for n, program in enumerate(re.findall(r"```python\n(.*?)```", text, re.S)):
            if page.parent.name != "tutorial":  # see tests/test_tutorial.py
                yield pytest.param(program, id=f"{page.relative_to(ROOT)}-{n}")


@pytest.mark.parametrize("program", programs())
def test_programs_name_what_there_is(program):
    names = {node.attr for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Attribute)}
    assert "neuro_ssl." in program and names & set(neuro_ssl.__all__)
    assert names - {"input_contract"} <= set(neuro_ssl.__all__)


@pytest.mark.slow  # deepbet finds the brains
@pytest.mark.parametrize("program", programs())
def test_programs_run(program, pretrained, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "simclr_pretrain-1a2b3c4d").symlink_to(pretrained, target_is_directory=True)
    for letter, image in zip("ab", sorted(IXI.glob("*_T1.nii.gz")), strict=False):
        shutil.copy(image, tmp_path / f"{letter}_T1w.nii.gz")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(program, names)
    assert names["features"].shape == (2, names["encoder"].embed_dim)
    assert names["encoder"].input_contract.grid.name == "8mm"


ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"^\$ (.*)\n(.*)$", "\n".join(re.findall(r"```console\n(.*?)```", ERRORS, re.S)), re.M)
SHOWN = [line for block in re.findall(r"```text\n(.*?)```", ERRORS, re.S) for line in block.splitlines()]


def test_messages_are_what_the_commands_of_the_page_print(tmp_path, monkeypatch, capsys):
    (tmp_path / "ixi").mkdir()
    (tmp_path / "ixi" / "participants.csv").write_text("MRID,Age,Sex\nIXI002,35.8,2\n")
    (tmp_path / "ixi" / "IXI002_T1.nii.gz").touch()
    monkeypatch.chdir(tmp_path)
    assert len(CONSOLE) >= 10
    for command, message in CONSOLE:
        words = command.split(" ") if "columns={" in command and "'" not in command else shlex.split(command)
        with pytest.raises(SystemExit) as stop:
            run_command(words[2].removeprefix("neuro_ssl."), *words[3:])
        assert stop.value.code == 1
        assert capsys.readouterr().err.replace(f"{tmp_path}/", "").strip() == message


@cache
def messages():
    """Every text of the package that has words in it, in pieces; None is where it has a value."""
    found = []
    for file in (ROOT / "neuro_ssl").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append([part.value if isinstance(part, ast.Constant) else None for part in node.values])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append([node.value])
    return [pieces for pieces in found if sum(len(piece or "") for piece in pieces) >= 25]


def places(pieces, text):
    """Where the pieces stand in a text, in their order; nothing if one doesn't."""
    found, at = [], 0
    for piece in pieces:
        begin = at if piece is None else text.find(piece, at)
        if begin < 0:
            return []
        found.append((begin, at := begin + len(piece or "")))
    return found


@pytest.mark.parametrize("line", SHOWN, ids=lambda line: line[:40])
def test_messages_of_the_page_stand_in_the_code(line):
    """A line consists of messages of the code, and of values of a few words between their pieces."""
    text = line.removeprefix("error: ") + "\n"
    known = [False] * len(text)
    for pieces in messages():
        for begin, end in places(pieces, text):
            known[begin:end] = [True] * (end - begin)
    values = "".join("\n" if here else letter for letter, here in zip(text, known, strict=True))
    assert all(len(value.split()) <= 10 for value in values.split("\n")) and sum(known) > len(text) / 4, values


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_asks_nobody(tmp_path):
    """As `make docs` does, which .ci/run runs; with pages that load nothing from elsewhere."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?:https?:)?//[^>]*>", text), page
    for style in tmp_path.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style
    for name in COMMANDS:
        assert f"python -m neuro_ssl.{name}" in (tmp_path / "commands.html").read_text(encoding="utf-8")
