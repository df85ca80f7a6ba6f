import importlib
import inspect
import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object

from neuro_ssl.__main__ import COMMANDS
from neuro_ssl.config import PREDICTING, check_components
from neuro_ssl.errors import InputError
from neuro_ssl.files import CONF_DIR
from neuro_ssl.train import SUPPLIED

CONF = Path(CONF_DIR)
GROUPS = ("dataset", "split", "encoder", "views", "task", "strategy", "logger")
RECIPES = sorted(
    str(file.relative_to(CONF / "experiment").with_suffix("")) for file in CONF.glob("experiment/**/*.yaml")
)


# What a choice leaves to its user.
MANDATORY = {
    "task=classification": ["task.target=handedness", "task.classes=[right,left]"],
    "task=regression": ["task.target=mmse"],
}


def composed(*overrides):
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        return cfg


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_and_binds(recipe):
    check_components(composed(f"+experiment={recipe}", "weights=somewhere"), SUPPLIED, optional=["views"])


@pytest.mark.parametrize("sweep", sorted(file.stem for file in CONF.glob("sweep/*.yaml")))
def test_every_sweep_composes_and_so_does_its_first_point(sweep):
    params = composed(f"+sweep={sweep}").hydra.sweeper.params
    firsts = {
        key: values.rpartition("(")[2].partition(",")[0] for key, values in params.items()
    }  # also of interval(0,1)
    point = [f"{key}={value}" for key, value in firsts.items()]
    check_components(composed(f"+sweep={sweep}", *point), SUPPLIED, optional=["views"])


@pytest.mark.parametrize("recipe", sorted(file.stem for file in CONF.glob("evaluation/*.yaml")))
def test_every_recipe_of_an_evaluation_composes_and_binds(recipe):
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose("evaluate", [f"+evaluation={recipe}"], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
    supplied = {"dataset": (), "cross_validation": (), "statistics": (), "trainer": tuple(PREDICTING)}
    check_components(cfg, supplied)
    assert all((CONF / "task" / f"{task}.yaml").exists() for task in cfg.tasks)


@pytest.mark.parametrize(
    "choice", [f"{group}={file.stem}" for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
)
def test_every_choice_composes_and_binds(choice):
    check_components(composed(choice, *MANDATORY.get(choice, ())), SUPPLIED, optional=["views"])


def nodes():
    for file in sorted(CONF.glob("**/*.yaml")):
        if {"experiment", "evaluation"} & set(file.parts):
            continue
        stack = [(file.stem, yaml.safe_load(file.read_text()) or {})]
        while stack:
            name, node = stack.pop()
            if "_target_" in node and node["_target_"].startswith("neuro_ssl."):
                yield pytest.param(node, id=f"{file.parent.name}/{name}")
            stack += [(key, value) for key, value in node.items() if isinstance(value, dict)]


@pytest.mark.parametrize("node", nodes())
def test_yaml_lists_every_parameter_with_its_default(node):
    target = get_object(node["_target_"])
    parameters = inspect.signature(target).parameters
    factories = {f.name: f.default_factory for f in fields(target)} if is_dataclass(target) else {}
    supplied = {name for names in SUPPLIED.values() for name in names} - set(node)
    assert set(parameters) - supplied == set(node) - {"_target_"}
    for name, value in node.items():
        if name == "_target_" or name in CHOSEN.get(target.__name__, ()) or "${" in str(value):
            continue
        default = parameters[name].default
        if type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
            default = factories[name]()
        assert value == (list(default) if isinstance(default, tuple) else default), name


# Parameters in which files differ from the constructor on purpose: that is what the choice is about.
CHOSEN = {
    "ResNet3D": ("depth",),
    "ViT3D": ("width", "n_heads"),
    "Supervised": ("target", "classes", "unit", "leave_out", "reference"),
    "Multitask": ("targets",),
    "BIDSDataset": ("cohort", "grid", "mask_derivative", "columns", "values", "parts", "shared_subjects"),
    "FileDataset": ("cohort", "images", "tables", "values"),
    "IDADataset": ("cohort", "prefer", "visits", "subject_pattern", "clinical", "values", "skip_groups"),
    "CombinedDataset": ("cohort", "cohorts"),
}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+task.temprature=0.1", "task.temprature is not a parameter .* did you mean temperature"),
        ("task.projector_dims=[512,x]", "task.projector_dims"),
        ("encoder.stem_stride=2.5", "encoder.stem_stride=2.5"),
        ("encoder.norm=layer", "encoder.norm='layer'"),
        ("+encoder.dropout=0.1", "encoder.dropout is not a parameter"),
        ("+views.rotation=3", "views.rotation is not a parameter .* did you mean rotation_degrees"),
        ("+optimizer.lr=0.1", "optimizer.lr is not a parameter"),
        ("optimizer.algorithm=sgd", "optimizer.algorithm='sgd'"),
        ("+logger.wandb.projekt=x", "logger.wandb.projekt is not a parameter .* did you mean project"),
        ("+task.encoder=x", "task.encoder is not a parameter"),
        ("optimizer=null", "optimizer: expected a component .* got null"),
        ("trainer=null", "trainer: expected a component .* got null"),
        ("dataset.grid=[1]", "dataset.grid"),
    ],
)
def test_components_refuse(override, message):
    task = "task=brain_age" if "target" in override else "task=simclr"
    with pytest.raises(InputError, match=message):
        check_components(composed(task, override), SUPPLIED, optional=["views"])


PAGES = [CONF.parent / "README.md", CONF.parent / "experiments/cluster/README.md"]
PAGES += sorted((CONF.parent / "docs").glob("*.md"))


def shell_commands():
    """The commands that the README and the documentation show, as words; what runs neuro_ssl begins with its module."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]
        for line in lines:
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # variables for this command alone
                words = words[1:]
            for at, word in enumerate(words):
                following = words[at + 1 :]
                if word == "-m" and following[0].startswith("neuro_ssl."):  # python, torchrun
                    words = following
                elif word in ("neuro-ssl", "neuro_ssl.sif") and following and following[0] in COMMANDS:
                    words = [f"neuro_ssl.{following[0]}", *following[1:]]
                elif word == "experiments/cluster/train.sbatch":
                    words = ["neuro_ssl.train", "strategy=slurm", *following]
                else:
                    continue
                break
            if words:
                found[" ".join(words)] = words
    return list(found.values())


OURS = [words for words in shell_commands() if words[0].startswith("neuro_ssl.")]


@pytest.mark.parametrize(
    "words", [words for words in OURS if "--config-dir" not in words], ids=lambda words: " ".join(words)[:60]
)
def test_every_command_of_the_documentation_composes(words):
    module, arguments = words[0], [word for word in words[1:] if word not in ("-m", "--help")]
    if not (CONF / f"{module.removeprefix('neuro_ssl.')}.yaml").exists():  # without Hydra
        parser = importlib.import_module(module).command_line()
        if module != "neuro_ssl.rerun":
            assert parser.parse_args(arguments).command == arguments[0]
            return
        module, arguments = "neuro_ssl.train", parser.parse_intermixed_args(arguments).options  # which it hands on
    first_points = [
        re.sub(
            r"^(task|seed|shard|label_fraction|split.fold|optimizer.learning_rate)="
            r"(?:tag\(log,interval\()?([^,]+),.*",
            r"\1=\2",
            argument,
        )
        for argument in arguments
    ]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose(module.removeprefix("neuro_ssl."), first_points, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        check_components(cfg, SUPPLIED if module.endswith("train") else {}, optional=["views"])


def test_no_command_of_the_documentation_is_unknown_to_the_tests():
    """What isn't ours: make's targets, scripts of the studies, and a few programs of others."""
    makefile = (CONF.parent / "Makefile").read_text()
    others = {"pip", "podman", "apptainer", "tensorboard", "neuro-ssl"}  # of whose arguments nothing is checked here
    for words in shell_commands():
        if words in OURS:
            extending = (CONF.parent / "docs" / "extending.md").read_text(encoding="utf-8")
            assert "--config-dir" not in words or f"{' '.join(words)}\n" in extending, (
                words
            )  # run by tests/test_docs.py
            continue
        if words[0] == "make":
            assert all(re.search(rf"^{word}:", makefile, re.M) for word in words[1:]), words
        elif words[0] in ("bash", "python"):
            assert (CONF.parent / words[1]).is_file(), words
        else:
            assert words[0] in others, words


@pytest.mark.parametrize(
    "name",
    [
        "simulate",
        "preprocess",
        "store",
        "quality",
        "train",
        "embed",
        "evaluate",
        "explain",
        "report",
        "dashboard",
        "benchmark",
        "weights",
    ],
)
def test_help_is_readable_and_comes_without_heavy_imports(name):
    look = (
        "import sys, time; start = time.process_time()\n"
        f"import neuro_ssl.{name} as command; sys.argv = ['{name}', '--help']\n"
        "try: command.main()\n"
        "except SystemExit: pass\n"
        "print({'torch', 'lightning', 'monai'} & set(sys.modules), time.process_time() - start)"
    )
    shown = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert f"python -m neuro_ssl.{name}" in shown
    heavy, seconds = shown.strip().splitlines()[-1].rsplit(" ", 1)
    assert heavy == "set()"
    assert float(seconds) < 2.5  # of processor time, which other work on the machine doesn't stretch
