import pytest

from neuro_ssl.errors import InputError
from neuro_ssl.points import Point
from neuro_ssl.reporting.sources import find

RUNS = ("finetune-sex-0a", "finetune-sex-0b", "deep/er/from_scratch-sex-0c")


@pytest.fixture
def runs_dir(tmp_path):
    folder = tmp_path / "runs"
    records = [f"{name}/run.yaml" for name in RUNS]
    records += [f"evaluation-ixi-1a/results-{digit}/evaluation.yaml" for digit in "23"]
    records += ["explanations/finetune-sex-0a/occlusion-4d/explanation.yaml"]
    for record in records:
        (folder / record).parent.mkdir(parents=True)
        (folder / record).touch()
    for i, name in enumerate((RUNS[2], RUNS[0])):
        Point(folder / ".sweeps" / "2026-01-02_03-04-05", i).note(run=folder / name)
    return folder


def names(runs_dir, asked):
    found = find(runs_dir, asked)
    return [path.relative_to(runs_dir).as_posix() for path in found.runs + found.evaluations + found.explanations]


EVALUATIONS = ["evaluation-ixi-1a/results-2", "evaluation-ixi-1a/results-3"]
EXPLANATION = "explanations/finetune-sex-0a/occlusion-4d"
ASKED = {
    "everything": (None, [RUNS[2], RUNS[0], RUNS[1], *EVALUATIONS, EXPLANATION]),
    "a run": ([RUNS[1]], [RUNS[1]]),
    "a pattern": (["finetune-*"], [RUNS[0], RUNS[1]]),
    "a folder of runs": (["deep"], [RUNS[2]]),
    "an evaluation": (["evaluation-ixi-1a"], EVALUATIONS),
    "one of its results": (["evaluation-ixi-1a/results-3"], EVALUATIONS[1:]),
    "a sweep": ([".sweeps/2026-01-02_03-04-05"], [RUNS[2], RUNS[0]]),
    "every sweep": ([".sweeps/*"], [RUNS[2], RUNS[0]]),
    "a mixture, each once": ([RUNS[0], "finetune-*", EXPLANATION], [RUNS[0], RUNS[1], EXPLANATION]),
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_named_is_found(runs_dir, asked):
    given, expected = ASKED[asked]
    assert names(runs_dir, given) == expected


@pytest.mark.parametrize("asked", ["a run", "a pattern", "an evaluation", "a sweep"])
def test_paths_count_from_the_working_directory_too(runs_dir, asked, monkeypatch):
    monkeypatch.chdir(runs_dir.parent)
    given, expected = ASKED[asked]
    found = find(runs_dir, [f"runs/{name}" for name in given])
    assert [(runs_dir.parent / path).relative_to(runs_dir).as_posix() for path in found.runs + found.evaluations] == (
        expected
    )
    if asked != "a pattern":
        assert names(runs_dir, [str(runs_dir / name) for name in given]) == expected


def test_what_is_not_there_is_named_with_what_is(runs_dir):
    with pytest.raises(InputError, match=r"runs=finetune-sex-0x: no run.*of 6 in .*: finetune-sex-0"):
        find(runs_dir, [RUNS[0], "finetune-sex-0x"])
    with pytest.raises(InputError, match="no runs here"):
        find(runs_dir / "nothing")
    with pytest.raises(InputError, match=r"runs=\*: .*has none"):
        find(runs_dir / "nothing", ["*"])
