"""Charts as panels of W&B."""

from collections.abc import Sequence

from wandb_workspaces.reports import v2 as wr

from neuro_ssl.dashboards.charts import STEP, Chart, Pictures

N_RUNS = 30  # the most in a chart


def chart_panel(chart: Chart) -> wr.LinePlot | wr.BarPlot:
    """Lines over optimiser steps, or bars of final values."""
    if chart.final:
        return wr.BarPlot(title=chart.title, metrics=list(chart.metrics), max_runs_to_show=N_RUNS)
    return wr.LinePlot(
        title=chart.title,
        x=STEP,
        y=list(chart.metrics),
        title_x="optimiser steps",
        metric_regex=chart.pattern,
        log_y=chart.log or None,
        max_runs_to_show=N_RUNS,
    )


def pictures_panel(pictures: Pictures) -> wr.MediaBrowser:
    """The pictures, of each run the last."""
    return wr.MediaBrowser(title=pictures.title, media_keys=list(pictures.keys), num_columns=2)


def coordinates_panel(score: str, parameters: Sequence[str]) -> wr.ParallelCoordinatesPlot:
    """A line a run through its settings to its score.

    Args:
        score: of the summary.
        parameters: keys of the configuration, such as `optimizer.learning_rate`.
    """
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name), log="learning_rate" in name or None)
        for name in parameters
    ]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(score)))
    return wr.ParallelCoordinatesPlot(title=f"{score} by settings", columns=columns)


def importance_panel(score: str) -> wr.ParameterImportancePlot:
    """Which settings a score hangs on, by a random forest that W&B fits."""
    return wr.ParameterImportancePlot(with_respect_to=score)


def efficiency_panel(score: str) -> wr.ScatterPlot:
    """A score by the share of labels that it was learnt from."""
    return wr.ScatterPlot(
        title=f"Label efficiency: {score}",
        x=wr.Config("label_fraction"),
        y=wr.SummaryMetric(score),
        log_x=True,
    )
