"""The commands that an evaluation starts, and what it refuses before it starts any."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.training import option
from neuro_ssl.files import CONF_DIR
from tests.evaluating.conftest import make_cohort

SCRATCH = "from_scratch=['resnet18 encoder.width=8']"


@pytest.fixture
def started(monkeypatch):
    """The options of the first training that an evaluation starts, in whose place an error ends it."""
    commands = []

    def stop(options):
        commands.append(options)
        raise InputError("stopped here")

    monkeypatch.setattr("neuro_ssl.evaluating.predictions.trained_run", stop)
    return commands


def without(arguments, *keys):
    return [argument for argument in arguments if argument.split("=")[0] not in keys]


def composed(options):
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return OmegaConf.to_container(compose("train", overrides=list(options)), resolve=True)


def test_trainings_are_given_the_cohort_that_a_recipe_names(arguments, cohort, tmp_path, command, started):
    folder = cohort / "stores" / "ixi"
    if not folder.exists():
        make_cohort(cohort, "ixi", ["train"] * 4 + ["val"] * 2 + ["test"] * 2, 2)
    ours = without(arguments, "dataset", "dataset.cohort", "from_scratch", "encoders")
    with pytest.raises(SystemExit):
        command("evaluate", "+evaluation=ixi", *ours, SCRATCH, "tasks=[sex]", "n_untrained=0")
    config = composed(started[0])
    assert config["dataset"]["cohort"] == "ixi" and config["dataset"]["stores_dir"] == str(cohort / "stores")
    assert config["runs_dir"] == str(tmp_path) and config["trainer"]["accelerator"] == "cpu"


def test_trainings_go_on_with_leakage_that_is_allowed(arguments, command, started):
    folds = ["test_sets=[cross_validation]", "cross_validation.n_folds=3", "cross_validation.n_repeats=1"]
    with pytest.raises(SystemExit):
        command("evaluate", *arguments, *folds, "protocols=[finetune]", "tasks=[sex]", "allow_leakage=true")
    assert composed(started[0])["allow_leakage"]


@pytest.mark.parametrize(
    "value",
    ["Guy's", "1e3", "01", "null", "x", "back\\", "a b/c", "é,1", "", ["F/M (1)", None], {"a": ["b c", 1.5, True]}],
)
def test_an_option_is_read_as_it_was_meant(value):
    read = OverridesParser.create().parse_override(option("dataset.cohort", value)).value()
    assert plain_text(read) == value


def plain_text(value):
    if isinstance(value, dict):
        return {key: plain_text(one) for key, one in value.items()}
    return [plain_text(one) for one in value] if isinstance(value, list) else getattr(value, "text", value)
