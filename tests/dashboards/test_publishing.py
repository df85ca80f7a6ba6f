"""Publishing, with W&B's own client, to as much of W&B's server as it needs, on loopback."""

import json

import pytest
import wandb

from tests.conftest import run_command
from tests.faults import wandb_server
from tests.faults.wandb_server import WandbServer

PROJECT = {"id": "p", "internalId": "1", "name": "neuro_ssl", "entityName": "team", "entity": {"name": "team"}}
NO_PROJECTS = {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}


class Server(WandbServer):
    """Keeps the views that it is given."""

    @property
    def views(self):
        bodies = [json.loads(body) for path, body in self.asked if path.endswith("graphql") and "upsertView" in body]
        return [body["variables"] for body in bodies]


@pytest.fixture
def server(monkeypatch):
    view = {
        "id": "VIEW",
        "name": "nw-given-v",
        "type": "runs",
        "displayName": "d",
        "description": "",
        "project": PROJECT,
    }
    view |= {"spec": json.dumps({"blocks": []}), "updatedAt": "2026-01-02T03:04:05"}
    answers = {
        "upsertView": {"upsertView": {"view": view, "inserted": True}},
        "GetDefaultEntity": {"viewer": {"id": "u", "entity": "team", "username": "u"}},
        "GetProjects": {"models": NO_PROJECTS},
        "upsertModel": {"upsertModel": {"project": PROJECT, "model": PROJECT, "inserted": True}},
    }
    monkeypatch.setattr(wandb_server, "ANSWERS", answers | wandb_server.ANSWERS)
    wandb.teardown()  # which has looked for a key already
    server = Server()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    yield server
    wandb.teardown()


def specifications(folder):
    return {name: json.loads((folder / f"{name}.json").read_text())["spec"] for name in ("report", "workspace")}


def without_ids(spec):
    """Panels and sets of runs get an id each time that they are laid out."""
    if isinstance(spec, dict):
        return {key: without_ids(value) for key, value in spec.items() if key not in ("__id__", "id")}
    return [without_ids(one) for one in spec] if isinstance(spec, list) else spec


@pytest.mark.slow
def test_both_are_published_and_the_same_command_renews_them(server, tmp_path, capsys):
    run_command("dashboard", f"output={tmp_path}")
    assert any("upsertModel" in body for _, body in server.asked)  # the project, which wasn't there
    report, workspace = server.views
    assert (report["type"], workspace["type"]) == ("runs", "project-view")
    for view, (name, spec) in zip(server.views, specifications(tmp_path).items(), strict=True):
        assert (view["entityName"], view["projectName"], view["displayName"]) == ("team", "neuro_ssl", "neuro_ssl")
        assert without_ids(json.loads(view["spec"])) == without_ids(spec), name
    assert not report.get("id") and not workspace.get("id")  # new ones
    told = capsys.readouterr().out
    assert f"workspace: {server.url}/team/neuro_ssl?nw=" in told
    assert f"report: {server.url}/team/neuro_ssl/reports/neuro_ssl--VIEW" in told

    run_command("dashboard", f"output={tmp_path}")
    run_command("dashboard", f"output={tmp_path}", "stage=pretraining")
    assert [view.get("id") or None for view in server.views[2:]] == ["VIEW", "VIEW", None, None]
    assert {view["name"] for view in server.views if view["type"] == "project-view"} > {workspace["name"]}
    assert server.views[3]["name"] == "nw-given-v"  # which the server gave it


@pytest.mark.slow
def test_a_server_that_refuses_or_is_not_there(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(wandb_server.ANSWERS, "upsertView", {"errors": [{"message": "no write access"}]})
    with pytest.raises(SystemExit):
        run_command("dashboard", f"output={tmp_path}", "entity=team")
    assert "error: W&B did not take the dashboard of team/neuro_ssl/neuro_ssl: " in (told := capsys.readouterr().err)
    assert "no write access" in told
    server.off()
    wandb.teardown()
    with pytest.raises(SystemExit):
        run_command("dashboard", f"output={tmp_path}")
    assert "error: W&B: " in capsys.readouterr().err
