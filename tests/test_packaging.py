"""What is handed to others: the wheel, the command `neuro-ssl`, the image, CI's workflow, and one version for all."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import neuro_ssl
from neuro_ssl.__main__ import COMMANDS
from neuro_ssl.files import CONF_DIR

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(*words, cwd, **environment):
    """What a command prints, and its exit status."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def build(kind, source, folder):
    """The path of what hatchling makes of a source tree."""
    code, _, errors = run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder, cwd=source)
    assert code == 0, errors
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def test_commands_are_the_entry_points():
    floors = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    assert {*COMMANDS, "__main__"} == set(floors[0].split(" | "))
    for command in COMMANDS:
        module = importlib.import_module(f"neuro_ssl.{command}")
        assert callable(module.main)
        assert (Path(CONF_DIR) / f"{command}.yaml").exists() or module.command_line().prog.endswith(command)
    composed = {file.stem for file in Path(CONF_DIR).glob("*.yaml")} - {"common"}
    assert composed <= set(COMMANDS)


def test_without_a_command_it_answers_from_the_standard_library_alone(tmp_path):
    neuro_ssl_alone = (sys.executable, "-S", "-m", "neuro_ssl")  # -S: no torch, no package but this
    for words in ((), ("--help",), ("help",)):
        code, output, _ = run(*neuro_ssl_alone, *words, cwd=tmp_path)
        assert code == 0
        for command in COMMANDS:
            assert re.search(rf"^  {command} +\S.{{20}}", output, re.MULTILINE), command
    assert run(*neuro_ssl_alone, "--version", cwd=tmp_path) == (0, f"neuro_ssl {neuro_ssl.__version__}\n", "")
    code, output, errors = run(*neuro_ssl_alone, "trian", "+experiment=finetune", cwd=tmp_path)
    assert (code, output) == (1, "")
    assert errors == "error: trian is no command of neuro-ssl; did you mean train?\n"
    assert "first comes one of simulate" in run(*neuro_ssl_alone, "+experiment=finetune", cwd=tmp_path)[2]


def test_a_command_is_python_m_of_its_module(tmp_path):
    for options in (("show",), ("show", "--help")):
        module = run(sys.executable, "-m", "neuro_ssl.weights", *options, cwd=tmp_path)
        assert run(sys.executable, "-m", "neuro_ssl", "weights", *options, cwd=tmp_path) == module
        assert module[1] or module[2]


def test_the_wheel_has_the_package_its_configuration_and_the_plugins(wheel):
    expected = {
        file.relative_to(ROOT).as_posix().replace("conf/", "neuro_ssl/conf/", file.is_relative_to(ROOT / "conf"))
        for folder, files in (("neuro_ssl", "**/*"), ("conf", "**/*.yaml"), ("hydra_plugins", "*.py"))
        for file in (ROOT / folder).glob(files)
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        info = f"neuro_ssl-{neuro_ssl.__version__}.dist-info"
        assert {name for name in archive.namelist() if not name.startswith(info)} == expected
        script = archive.read(f"{info}/entry_points.txt").decode().strip().splitlines()
        assert script == ["[console_scripts]", "neuro-ssl = neuro_ssl.__main__:main"]
        assert f"\nVersion: {neuro_ssl.__version__}\n" in archive.read(f"{info}/METADATA").decode()


def test_all_extras_for_commands_are_in_all():
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"neuro-ssl\[(.+)\]", everything)[1].split(",")
    assert set(named) == set(extras) - {"all", "bids", "dev", "docs", "test"}


def test_the_version_has_one_home():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == neuro_ssl.__version__
    releases = re.findall(r"^## \[?([^\]\s]+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(release for release in releases if release != "Unreleased") == neuro_ssl.__version__


def test_the_image_is_made_of_files_that_exist_as_make_installs():
    text = (ROOT / "Containerfile").read_text()
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (.+)$", text, re.MULTILINE)]
    sources = [source for words in copied for source in words]
    assert all((ROOT / source).exists() for source in sources)
    needed = {"pyproject.toml", "constraints.txt", "neuro_ssl", "hydra_plugins", "conf"}
    assert needed | {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} == set(sources)
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(let_in) == set(sources)
    (in_image,) = re.findall(r"pip (install .*?) \\?\n", text)
    (made,) = re.findall(r"^INSTALL \?= \S+pip (install .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert in_image.replace("--no-cache-dir ", "").replace("'.[all]'", "-e '.[dev]'") == made
    assert 'ENTRYPOINT ["neuro-ssl"]' in text


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    jobs = workflow["jobs"]
    assert jobs["ci"]["steps"][-1] == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(jobs["weekly"]["strategy"]["matrix"]["target"]) <= set(targets)
    assert set(re.findall(r"^make (\S+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)) <= set(targets)
    lowest, beyond = re.search(r">=3\.(\d+),<3\.(\d+)", PROJECT["project"]["requires-python"]).groups()
    assert jobs["ci"]["strategy"]["matrix"]["python"] == [f"3.{n}" for n in range(int(lowest), int(beyond))]
