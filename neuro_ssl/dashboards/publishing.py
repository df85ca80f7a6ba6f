"""Writing a dashboard down, and publishing it where a key is configured.

workspace.json, report.json  what W&B's app is given, as wandb-workspaces makes it
published.json               where they were published, so that the same command renews them
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import wandb
import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports import v2 as wr

from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing

PUBLISHED = "published.json"


class Published(NamedTuple):
    """Where a dashboard is to be seen."""

    workspace: str
    report: str


def default_entity() -> str:
    """Of the key that is configured.

    Raises:
        InputError: the server does not answer, refuses the key, or knows no entity for it.
    """
    try:
        entity = wandb.Api().default_entity
    except Exception as error:  # of W&B's client, which doesn't export all of its kinds
        raise InputError(f"W&B: {_first_line(error)}; see to network and key (wandb login --relogin)") from error
    if not entity:
        raise InputError("entity: W&B has none for this key; give the name of your account or team")
    return str(entity)


def write(folder: Path, workspace: ws.Workspace, report: wr.Report) -> None:
    """Write what publishing would send.

    Raises:
        InputError: the folder cannot be written.
    """
    for name, part in (("workspace", workspace), ("report", report)):
        content = part._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
        _write(folder / f"{name}.json", content)


def publish(folder: Path, workspace: ws.Workspace, report: wr.Report) -> Published:
    """Save both at W&B: as new ones, or over those that were published from this folder before.

    Args:
        folder: see `write`.
        workspace: whose project is made if it isn't there.
        report: of the same project.

    Raises:
        InputError: the server does not answer, or refuses.
    """
    file, place = folder / PUBLISHED, f"{workspace.entity}/{workspace.project}/{workspace.name}"
    known: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if before := known.get(place):
        # (What `from_url` would set, which asks the server for the whole old layout.)
        workspace._internal_name, workspace._internal_id = before["workspace_name"], before["workspace_id"]
        report.id = before["report_id"]
    try:
        report.save()  # which makes the project
        workspace.save()
    except Exception as error:  # as above
        again = f", or, if it was deleted there, delete {file}" if before else ""
        raise InputError(
            f"W&B did not take the dashboard of {place}: {_first_line(error)}; see to network and key{again}, and give "
            "the command again"
        ) from error
    now = {"workspace_name": workspace._internal_name, "workspace_id": workspace._internal_id, "report_id": report.id}
    _write(file, known | {place: now})
    return Published(str(workspace.url), str(report.url))


def _write(file: Path, content: dict[str, Any]) -> None:
    with appearing(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
