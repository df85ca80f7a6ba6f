"""`python -m neuro_ssl.dashboard`: a workspace and a report at Weights & Biases, laid out for these runs."""

from neuro_ssl.commands import entry_point
from neuro_ssl.config import plain
from neuro_ssl.errors import InputError
from neuro_ssl.schemas import DashboardConfig


@entry_point("dashboard")
def main(cfg: DashboardConfig) -> None:
    """Write workspace and report down; where a key is configured, publish them too."""
    from importlib.util import find_spec
    from pathlib import Path

    if find_spec("wandb_workspaces") is None:
        raise InputError("neuro_ssl.dashboard needs wandb-workspaces: pip install 'neuro_ssl[dashboard]'")

    from neuro_ssl.dashboards.plan import Plan, Sweep
    from neuro_ssl.dashboards.publishing import default_entity, publish, write
    from neuro_ssl.dashboards.report import report_of
    from neuro_ssl.dashboards.workspace import workspace_of
    from neuro_ssl.tracking.client import has_key, told_offline

    config, offline = plain(cfg), told_offline()
    publishing = not offline and has_key()
    entity = cfg.entity or (default_entity() if publishing else "")
    sweeps = {stage: Sweep(**looked_at) for stage, looked_at in config["sweeps"].items()}
    chosen = {key: config[key] for key in ("project", "label_efficiency", "stage", "group", "tags")}
    plan, output = Plan(entity=entity, sweeps=sweeps, **chosen), Path(cfg.output)
    workspace, report = workspace_of(plan), report_of(plan)
    write(output, workspace, report)
    print(f"workspace and report as W&B's app reads them: {output}")
    if not publishing:
        why, remedy = (offline, "unset that") if offline else ("no key of W&B is configured", "wandb login")
        print(f"{why}, so nothing was published; to publish: {remedy}, then the same command")
        return
    urls = publish(output, workspace, report)
    print(f"workspace: {urls.workspace}\nreport: {urls.report}")


if __name__ == "__main__":
    main()
