"""The workspace: what a project's page at W&B shows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import wandb_workspaces.workspaces as ws

from neuro_ssl.dashboards.charts import DOWNSTREAM, MEDIA, PRETRAINING, STEP, TRAINING, Chart
from neuro_ssl.dashboards.panels import (
    N_RUNS,
    chart_panel,
    coordinates_panel,
    efficiency_panel,
    importance_panel,
    pictures_panel,
)
from neuro_ssl.dashboards.plan import Plan

SCORES = ("best/val/auroc", "best/val/loss", "test/auroc", "test/mae")
COLUMNS = ("run:jobType", "run:group", "tags:__ALL__", "run:state", *(f"summary:{score}" for score in SCORES))


def workspace_of(plan: Plan) -> ws.Workspace:
    """Sections on pretraining, downstream tasks, sweeps and media; those of another stage than the plan's are left out.

    Nothing is asked of a server.
    """
    sections = []
    if "pretraining" in plan.stages:
        sections.append(ws.Section(name="Pretraining health", panels=_panels([*PRETRAINING, *TRAINING], plan)))
    if "downstream" in plan.stages:
        sections.append(ws.Section(name="Downstream", panels=_panels(DOWNSTREAM, plan)))
    sweeps = []
    for stage in plan.stages:
        sweep = plan.sweeps[stage]
        for score in sweep.scores:
            sweeps += [coordinates_panel(score, sweep.parameters), importance_panel(score)]
    if "downstream" in plan.stages:
        sweeps += [efficiency_panel(score) for score in plan.label_efficiency]
    sections.append(ws.Section(name="Sweeps", panels=sweeps))
    sections.append(ws.Section(name="Media", panels=[pictures_panel(pictures) for pictures in MEDIA]))
    for section in sections:
        section.is_open = True
    return ws.Workspace(
        entity=plan.entity,
        project=plan.project,
        name=plan.name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=N_RUNS),
        runset_settings=ws.RunsetSettings(filters=plan.filters(), pinned_columns=list(COLUMNS)),
    )


def _panels(charts: Sequence[Chart], plan: Plan) -> list[Any]:
    """Of metrics that both stages log, a workspace of both shows both: unlike a report, it has one set of runs."""
    mixed = " (filter by Job Type)" if plan.stage is None else ""
    return [chart_panel(replace(chart, title=chart.title + mixed) if chart.both else chart) for chart in charts]
