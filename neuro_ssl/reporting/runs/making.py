"""How runs were made: data, commands, code, machine, and in which settings they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from neuro_ssl.reporting.runs.differences import differences
from neuro_ssl.reporting.runs.reading import Run
from neuro_ssl.reporting.section import Section

STAGES = {"pretraining": "Pretraining runs", "downstream": "Runs on the tasks"}


@dataclass(frozen=True)
class Differing:
    """The settings in which the runs of one stage differ: `rows` has of each run its name and its values."""

    heading: str
    keys: list[str]
    rows: list[tuple[str, list[str]]]


def made_section(runs: Sequence[Run]) -> Section:
    """Everything that is needed to do it again.

    Args:
        runs: the finished ones.
    """
    facts = [facts_of(run) for run in runs]
    shared = {name: text for name, text in facts[0].items() if all(other[name] == text for other in facts)}
    own = [{name: text for name, text in of_run.items() if name not in shared} for of_run in facts]
    datasets = list({run.info.dataset.key: run.info.dataset for run in runs}.values())
    content = {
        "runs": list(zip(runs, own, strict=True)),
        "shared": shared,
        "datasets": datasets,
        "differing": [found for stage in STAGES if (found := _differing(runs, stage)) is not None],
    }
    links = [("made-data", "Data"), ("made-runs", "Commands")]
    links += [("made-settings", "Differing settings")] if content["differing"] else []
    return Section(
        "made",
        "How it was made",
        content,
        links=links,
        sources=[f"{len(runs)} finished run{'s' if len(runs) != 1 else ''}"],
    )


def facts_of(run: Run) -> dict[str, str]:
    """Code and machine of a run, in words."""
    hardware = "; ".join(
        f"{name}: {(', '.join(map(str, value)) or 'none') if isinstance(value, list) else value}"
        for name, value in run.info.hardware.items()
    )
    commit = run.info.commit or "unknown (installed package)"
    return {
        "Commit": commit + (", with uncommitted changes" if run.info.dirty else ""),
        "Hardware": hardware,
        "Versions": ", ".join(f"{name} {version}" for name, version in run.info.versions.items()),
    }


def _differing(runs: Sequence[Run], stage: str) -> Differing | None:
    of_stage = [run for run in runs if run.info.stage == stage]
    found = differences([run.info.config for run in of_stage])
    if not found:
        return None
    values = zip(*found.values(), strict=True)
    rows = [(run.info.name, list(texts)) for run, texts in zip(of_stage, values, strict=True)]
    return Differing(STAGES[stage], list(found), rows)
