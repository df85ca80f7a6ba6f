"""`python -m neuro_ssl.rerun RUN_DIR`: train a recorded run again, by its own configuration, and say where it differs.

The original stays as it is. Its repetition goes to `reruns/` beside it, is named like it, and holds `rerun.md` and
`rerun.json`; reports leave it out, since it is neither another seed nor a second look at the test split. It opens the
test split if the original did. Exit status: 0 the same, 3 not the same, 1 nothing was repeated, or not to its end.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro_ssl.errors import InputError

if TYPE_CHECKING:
    from neuro_ssl.rerunning.circumstances import Difference
    from neuro_ssl.rerunning.recorded import Recorded

NOT_THE_SAME = 3  # exit status; argparse's own is 2
# Keys of the recorded configuration that are not for options to change.
SETTLED = {
    **dict.fromkeys(("runs_dir", "name", "rerun_of"), "--output says where a rerun goes, and it is named as the run"),
    "open_test": "a rerun opens the test split if the run did",
    "logger": "a rerun goes to no tracker, which would take it for the run",
}


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        prog="python -m neuro_ssl.rerun",
        description="Train a recorded run again, from its own configuration, and say where it differs.",
        epilog="Exit status: 0 the same, 3 not the same, 1 nothing was repeated, or not to its end.",
    )
    parser.add_argument("run", type=Path, help="a finished run's directory; nothing in it is changed")
    parser.add_argument(
        "options",
        nargs="*",
        default=[],
        metavar="key=value",
        help="what lies elsewhere now, or is to differ: data_dir=/data2 weights=runs/… strategy=cpu num_workers=8",
    )
    parser.add_argument("--output", type=Path, help="folder of reruns; by default reruns/ beside the run")
    parser.add_argument(
        "--allow-changes", action="store_true", help="train though data or weights are not what they were"
    )
    return parser


def main() -> None:
    """Parse the command line, repeat the run, and compare."""
    arguments = command_line().parse_intermixed_args()
    try:
        same = rerun(arguments.run, arguments.options, arguments.output, arguments.allow_changes)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(0 if same else NOT_THE_SAME)


def rerun(path: Path, options: Sequence[str] = (), output: Path | None = None, allow_changes: bool = False) -> bool:
    """Train a run again, and compare; of processes that were started together, the first one compares.

    Args:
        path: the run's directory.
        options: `key=value` of `neuro_ssl.train`, in place of what is recorded.
        output: folder of reruns; None: `reruns` beside the run.
        allow_changes: train though data or weights are not what they were.

    Returns:
        Whether the two are the same.

    Raises:
        InputError: it cannot be repeated, or data or weights changed.
    """
    from neuro_ssl.console import plain_warnings
    from neuro_ssl.environment import environment
    from neuro_ssl.processes import launched_rank, say
    from neuro_ssl.rerunning.circumstances import code_and_machine, differences, settings
    from neuro_ssl.rerunning.outcome import outcome
    from neuro_ssl.rerunning.recorded import Recorded
    from neuro_ssl.rerunning.repetition import check_settings, train, write
    from neuro_ssl.rerunning.verdict import Verdict, listed
    from neuro_ssl.run import RunDirectory

    plain_warnings()
    original = Recorded.read(path)
    folder = (output or path.resolve().parent / "reruns") / original.name
    if folder.resolve() == path.resolve():
        raise InputError(f"{folder} is the run itself; choose another --output")
    config = _of_this_version(original.config) | {"runs_dir": str(folder.parent.absolute())}
    config = original.placed(_given(config, options))
    check_settings(folder, config)
    again = RunDirectory(folder)
    if again.finished:
        say(f"already repeated: {folder}; delete it to train again")
    else:
        changes = {"data": _data(original, config), "initial weights": _weights(original, config)}
        now = {**original.record, **environment(original.record["hardware"].get("processes", 1))}
        now["hardware"] |= original.threads
        say(
            "\n".join(
                [f"repeating {path}", *listed({"code and machine": code_and_machine(original.record, now)} | changes)]
            )
        )
        _refuse(changes, allow_changes)
        write(config, original, folder)
        train(folder, original)
        changed = [one.after for one in changes["data"] if one.what == "volumes"]
        if changed and not launched_rank():
            again.note(dataset={**again.record["dataset"], "volumes": changed[0]})
    if launched_rank():
        return True
    record = again.record
    before = {
        "code and machine": code_and_machine(original.record, record),
        "settings": settings(original.record["config"], record["config"]),
        "data": differences(original.data, Recorded(folder, record).data),
        "initial weights": differences(original.weights, Recorded(folder, record).weights),
    }
    verdict = Verdict(path, folder, before, outcome(path, folder), original.notes(record))
    verdict.write()
    print(f"\n{verdict}\nwritten: {folder / 'rerun.md'}")
    return verdict.same


def _given(config: dict[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """The configuration with what the command line says in place of it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from neuro_ssl.config import suggestion
    from neuro_ssl.files import CONF_DIR

    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key.split(".")[0] not in {*config, "strategy"}:
            raise InputError(
                f"{option}: expected key=value of the recorded configuration; {suggestion(key, list(config))}"
            )
        if key.split(".")[0] in SETTLED:
            raise InputError(f"{option}: {SETTLED[key.split('.')[0]]}")
        if isinstance(config.get(key), dict) and key != "strategy":
            part = next((one for one in config[key] if one != "_target_"), "…")
            raise InputError(f"{option}: another {key} is another run; to change a setting of it, {key}.{part}=…")
        if key == "strategy":
            file = Path(CONF_DIR, "strategy", f"{value}.yaml")
            if not file.is_file():
                names = [one.stem for one in file.parent.glob("*.yaml")]
                raise InputError(f"{option}: no such strategy; {suggestion(value, sorted(names))}")
            where: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
            # (Precision is part of the result.)
            placed = {k: v for k, v in where.items() if k not in ("precision", "sync_batchnorm")}
            config = config | {"trainer": config["trainer"] | placed}
            continue
        try:
            merged: Any = OmegaConf.to_container(
                OmegaConf.merge(OmegaConf.create(config), OmegaConf.from_dotlist([option]))
            )
        except (OmegaConfBaseException, ValueError) as error:
            raise InputError(f"{option}: {str(error).splitlines()[0]}") from error
        config = merged
    return config


def _of_this_version(config: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded configuration with keys that are new since, at their defaults.

    And without trackers, which would take the repetition for the original, whose name it has.

    Raises:
        InputError: a recorded key is gone.
    """
    from dataclasses import fields

    import hydra

    from neuro_ssl.config import plain
    from neuro_ssl.files import CONF_DIR
    from neuro_ssl.schemas import TrainConfig

    known = [field.name for field in fields(TrainConfig)]
    if gone := [key for key in config if key not in known]:
        raise InputError(f"config.{gone[0]} of its run.yaml is no key any more")
    with hydra.initialize_config_dir(CONF_DIR, version_base="1.3"):
        today = hydra.compose("train", ["logger=csv"])
        return {key: plain(today[key]) if key == "logger" or key not in config else config[key] for key in known}


def _data(original: "Recorded", config: dict[str, Any]) -> "list[Difference]":
    """How scans and splits differ from those of then, and whether volumes still are what was written.

    Raises:
        InputError: they cannot be read.
    """
    from neuro_ssl.config import build, check_components
    from neuro_ssl.data.checks import listed, verify_volumes
    from neuro_ssl.data.protocols import divide
    from neuro_ssl.data.store import VolumeStore
    from neuro_ssl.data.targets import fraction_label, read_targets
    from neuro_ssl.rerunning.circumstances import differences

    check_components(config, {"dataset": (), "split": ()})
    labels = None
    if original.record["stage"] == "downstream":
        targets = read_targets(original.record["task"], config["task"])
        labels = fraction_label(targets, config["label_fraction"])
    try:
        store = build(config["dataset"]).open(config["grid"])
        _, summary = divide(store, build(config["split"]), config["label_fraction"], labels, config["label_seed"])
    except InputError as error:
        raise InputError(f"{error}\n  (where this run's data lie now, data_dir=… says)") from error
    if isinstance(store, VolumeStore) and (bad := verify_volumes(store, max(1, config["num_workers"]))):
        summary = summary | {"volumes": f"{len(bad)} of {len(store.manifest)} changed ({listed(bad)})"}
    return differences(original.data, original.of_data(summary))


def _weights(original: "Recorded", config: dict[str, Any]) -> "list[Difference]":
    """How the initial weights differ from those of then.

    Raises:
        InputError: they cannot be read.
    """
    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.modules import state_hash
    from neuro_ssl.rerunning.circumstances import differences

    if not config["weights"]:
        return []
    try:
        weights = Weights.load(config["weights"])
    except InputError as error:
        raise InputError(f"{error}\n  (where they lie now, weights=… says)") from error
    return differences(original.weights, {"weights": weights.name, "weights_hash": state_hash(weights.state)})


def _refuse(changes: "dict[str, list[Difference]]", allowed: bool) -> None:
    """Refuse to train on other data or from other weights.

    Raises:
        InputError: they differ.
    """
    from neuro_ssl.rerunning.circumstances import UNKNOWN

    told = {name: [one for one in found if one.before != UNKNOWN] for name, found in changes.items()}
    if not allowed and (changed := [name for name, found in told.items() if found]):
        raise InputError(
            f"the {' and '.join(changed)} of this run are not what they were, as shown above; put them back, or train "
            "all the same with --allow-changes"
        )


if __name__ == "__main__":
    main()
