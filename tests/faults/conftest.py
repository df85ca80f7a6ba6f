import functools

import pytest

from tests.conftest import run_command
from tests.faults.disturbance import options
from tests.test_resume import only_run


@pytest.fixture(scope="package")
def undisturbed(random_scans, tmp_path_factory):
    """By recipe, the run that nothing disturbs, made once."""

    @functools.cache
    def run(recipe):
        runs = tmp_path_factory.mktemp("undisturbed")
        run_command("train", *options(recipe, runs, random_scans.path.parents[2]))
        return only_run(runs)

    return run
