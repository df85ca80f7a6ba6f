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


def extending_commands():
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    return [shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]


def test_the_page_on_extending(extended):
    """Its commands, on four real heads in the layout that it describes, and on a table such as it describes."""
    table = pd.read_csv(IXI / "participants.csv")
    study = []
    for n, row in enumerate(table.itertuples()):
        image, mask = IXI / f"{row.MRID}_T1.nii.gz", IXI / "masks" / f"{row.MRID}_mask.nii.gz"
        for folder, name in (("study", f"P{n}_T1w"), (f"lab/S{n:03d}_{row.Sex}_{row.Age:.0f}", "T1w")):
            (extended / "data" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, extended / "data" / folder / f"{name}.nii.gz")
        shutil.copy(mask, extended / "data" / folder / "mask.nii.gz")
        gender = 1 if row.Sex == "M" else 2
        study.append({"ID": f"P{n}", "gender": gender, "age_at_scan": row.Age, "mmse": 30 - n, "mask": mask})
    pd.DataFrame(study).to_csv(extended / "data" / "study" / "study.csv", index=False)

    prepare = ["grid=16mm", "bias_correction=false", "registration=centre", "n_jobs=1"]
    prepare += ["splits={train: 0.5, val: 0.25, test: 0.25}"]
    train = ["grid=16mm", "strategy=cpu", "logger=csv", "num_workers=0", "batch_size=2", "trainer.max_epochs=1"]
    for command in sorted(extending_commands(), key=lambda words: words[2]):  # preprocess before train
        assert command[:2] == ["python", "-m"]
        name, words = command[2].removeprefix("neuro_ssl."), command[3:]
        cohort = "study" if "dataset=study" in words else "lab"
        words.append(f"dataset.root={extended}/data/{cohort}")
        words += prepare if name == "preprocess" else train
        if name == "train" and "encoder=plain" not in words:
            words += ["encoder=plain", "encoder.width=8"]
        if not any(word.startswith("dataset=") for word in words):
            words.append("dataset=lab")
        run_command(name, *words)

    assert VolumeStore.find(extended / "data/stores/study", "16mm").manifest["mmse"].tolist() == [30, 29, 28, 27]
    lab = VolumeStore.find(extended / "data/stores/lab", "16mm").manifest
    assert lab["subject_id"].tolist() == [f"lab/S{n:03d}" for n in range(4)]
    assert lab["age_years"].tolist() == [round(age) for age in table["Age"]]
    runs = {run.name.rpartition("-")[0]: run for run in (extended / "runs").glob("*-*")}
    assert {"simclr_pretrain", "from_scratch-mmse", "barlow_twins"} <= set(runs)
    assert neuro_ssl.load_encoder(runs["barlow_twins"]).embed_dim == 32


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
