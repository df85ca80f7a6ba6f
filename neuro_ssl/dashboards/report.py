"""The report: the workspace's charts with what each tells, and when to worry."""

from collections.abc import Sequence
from typing import Any

from wandb_workspaces.reports import v2 as wr

from neuro_ssl.dashboards.charts import DOWNSTREAM, LOCAL, MEDIA, PRETRAINING, TRAINING, Chart, Pictures
from neuro_ssl.dashboards.panels import (
    chart_panel,
    coordinates_panel,
    efficiency_panel,
    importance_panel,
    pictures_panel,
)
from neuro_ssl.dashboards.plan import Plan, Stage

WIDTH, HEIGHT = 12, 8  # of a panel; 24 are a line
INTRODUCTION = (
    "What to look at while models train, and what of it should worry you. Scores with paired comparisons, tables and "
    "figures for papers are on the page that python -m neuro_ssl.report writes."
)
COORDINATES = (
    "A line a run, through its settings to its score. Look for bundles: settings that good runs share. Choose by "
    "validation scores alone: a search that looks at test scores finds what fits the test split."
)
IMPORTANCE = (
    "A random forest that W&B fits to the runs at hand tells which settings the score hangs on, and in which "
    "direction. Of a few dozen runs it is a hint; of settings that were hardly varied it says nothing."
)
EFFICIENCY = (
    "Score by the share of training subjects whose labels were used (python -m neuro_ssl.train -m "
    "+sweep=label_efficiency). Where the pretrained encoder's curve lies above that of runs from scratch, pretraining "
    "saves labels; colour the runs by tag to see."
)


def report_of(plan: Plan) -> wr.Report:
    """Headings, words and charts, each part of the runs of its stage.

    Nothing is asked of a server.
    """
    blocks: list[Any] = [wr.P(INTRODUCTION), wr.TableOfContents()]
    if "pretraining" in plan.stages:
        blocks += [wr.H1("Pretraining health"), *_explained([*PRETRAINING, *TRAINING], plan, "pretraining")]
    if "downstream" in plan.stages:
        blocks += [wr.H1("Downstream"), *_explained(DOWNSTREAM, plan, "downstream")]
    blocks += [wr.H1("Sweeps"), wr.P(COORDINATES), wr.P(IMPORTANCE)]
    for stage in plan.stages:
        sweep = plan.sweeps[stage]
        panels = [one for s in sweep.scores for one in (coordinates_panel(s, sweep.parameters), importance_panel(s))]
        blocks += [wr.H2(f"Sweeps, {stage}"), _grid(panels, plan, stage)] if panels else []
    if "downstream" in plan.stages and plan.label_efficiency:
        panels = [efficiency_panel(score) for score in plan.label_efficiency]
        blocks += [wr.H2("Label efficiency"), wr.P(EFFICIENCY), _grid(panels, plan, "downstream")]
    blocks += [wr.H1("Media"), wr.P(LOCAL), *_explained(MEDIA, plan, None)]
    return wr.Report(entity=plan.entity, project=plan.project, title=plan.name, width="fluid", blocks=blocks)


def _explained(charts: Sequence[Chart] | Sequence[Pictures], plan: Plan, stage: Stage | None) -> list[Any]:
    """For each chart its title and what it tells; then all of them."""
    words = [f"{chart.title}. {chart.tells}" for chart in charts]
    panels = [chart_panel(one) if isinstance(one, Chart) else pictures_panel(one) for one in charts]
    return [wr.UnorderedList(items=words), _grid(panels, plan, stage)]


def _grid(panels: Sequence[Any], plan: Plan, stage: Stage | None) -> wr.PanelGrid:
    """Panels side by side, of runs of this project, which is the report's."""
    for i, panel in enumerate(panels):
        panel.layout = wr.Layout(x=i % 2 * WIDTH, y=i // 2 * HEIGHT, w=WIDTH, h=HEIGHT)
    runs = wr.Runset(name=stage or plan.name, filters=plan.filters(stage))
    return wr.PanelGrid(runsets=[runs], panels=list(panels))
