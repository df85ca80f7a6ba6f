"""What a dashboard is of: a project, some of its runs, and what sweeps are looked at by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from wandb_workspaces import expr

from neuro_ssl.errors import InputError

Stage = Literal["pretraining", "downstream"]
STAGES: Sequence[Stage] = get_args(Stage)


@dataclass(frozen=True)
class Sweep:
    """What sweeps of one stage are looked at by.

    Attributes:
        scores: names in the summary.
        parameters: keys of the configuration.
    """

    scores: Sequence[str]
    parameters: Sequence[str]


@dataclass(frozen=True)
class Plan:
    """One dashboard.

    Attributes:
        entity: the user's or the team's name at W&B; empty where it isn't known.
        project: of the runs.
        sweeps: of each stage.
        label_efficiency: scores that are drawn by the share of labels.
        stage: of the runs that are shown; None: both.
        group: the sweep or experiment whose runs are shown; None: all.
        tags: that runs must have.

    Raises:
        InputError: no such stage.
    """

    entity: str
    project: str
    sweeps: dict[str, Sweep]
    label_efficiency: Sequence[str]
    stage: Stage | None = None
    group: str | None = None
    tags: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.stage not in (None, *STAGES):
            raise InputError(f"stage must be null (both), {' or '.join(STAGES)}, got {self.stage!r}")

    @property
    def stages(self) -> Sequence[Stage]:
        """Those that are shown."""
        return [self.stage] if self.stage else STAGES

    @property
    def name(self) -> str:
        """What workspace and report are called, so that those of other runs get names of their own."""
        return " ".join(["neuro_ssl", *filter(None, (self.stage, self.group)), *self.tags])

    def filters(self, stage: Stage | None = None) -> list[expr.FilterExpr]:
        """Which runs are shown, as W&B writes it down: all of these together.

        Args:
            stage: where one part shows runs of one stage alone.
        """
        stage = stage or self.stage
        chosen = [expr.Metric("JobType") == stage] if stage else []
        chosen += [expr.Metric("Group") == self.group] if self.group else []
        return [*chosen, *(expr.Tags().isin([tag]) for tag in self.tags)]
