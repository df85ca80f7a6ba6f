"""Weights & Biases: online where a key is configured and the server answers, else in the run directory."""

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from neuro_ssl.errors import InputError
from neuro_ssl.processes import say
from neuro_ssl.tracking.client import has_key, quieten, told_offline
from neuro_ssl.tracking.description import Description
from neuro_ssl.tracking.lineage import Reference
from neuro_ssl.tracking.privacy import KeyedHash

INIT_S, FINISH_S = 30.0, 60.0  # that W&B's server has to answer at a start, and to take the rest at the end
# Beside what the program logs, W&B would tell of the machine: user's command, working directory, Python's path, host,
# git's remote, packages with their file:// addresses. `facts` of the configuration holds versions and hardware instead.
KEPT_TO_ITSELF: dict[str, Any] = {
    "x_disable_meta": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "host": "",
    "program": "neuro_ssl.train",
}


class Wandb(WandbLogger):
    """Keeps pictures of scans, paths and ids off the server, and out of what may be synced to it later.

    Attributes:
        images: whether pictures may leave all the same.
        ids: `hashed`: predictions too, by keyed hashes.
        may_go_offline: what to do where the server does not answer at the start; else that is an error.
    """

    images = False
    ids: Literal["local", "hashed"] = "local"
    may_go_offline = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._shown: set[tuple[str, int | None]] = set()

    @property
    def _pictures(self) -> Path:
        """Where an offline run keeps what it was given, since a restart makes a new folder of it."""
        return Path(self._wandb_init["dir"]) / "wandb" / "pictures"

    @property
    def begun(self) -> bool:
        """Whether W&B's run is there."""
        return self._experiment is not None

    @rank_zero_only
    def log_image(
        self, key: str, images: list[Any], step: int | None = None, aggregate: bool = False, **kwargs: Any
    ) -> None:
        """Add pictures, or leave them where they are: in the run directory.

        Args:
            key: name of the picture.
            images: files, or what `wandb.Image` takes.
            step: of training.
            aggregate: whether they show nobody in particular, as a ROC curve does; these are always added.
            kwargs: lists of `caption` and the like.
        """
        if not (self.images or aggregate) or (key, step) in self._shown:  # trained again, after a restart
            return
        self._shown.add((key, step))
        _ = self.experiment
        if self._offline:
            self._keep(key, images, step, {"aggregate": aggregate, **kwargs})
        super().log_image(key, images, step, **kwargs)

    def _keep(self, key: str, images: list[Any], step: int | None, more: dict[str, Any]) -> None:
        import wandb

        self._pictures.mkdir(parents=True, exist_ok=True)
        files = [f"{key.replace('/', '-')}-{step}-{i}.png" for i in range(len(images))]
        for image, file in zip(images, files, strict=True):
            picture = wandb.Image(image).image
            assert picture is not None
            picture.save(self._pictures / file)
        with (self._pictures / "pictures.jsonl").open("a") as stream:
            stream.write(json.dumps({"key": key, "files": files, "step": step, "more": more}) + "\n")

    @property
    def experiment(self) -> Any:
        """W&B's run, begun when it is first asked for.

        Raises:
            InputError: the server does not answer, or refuses the key.
        """
        import wandb

        folder = Path(self._wandb_init["dir"]) / "wandb"
        before = set(folder.glob("run-*"))
        try:
            return super().experiment
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:  # the latter: there is no key
            why = str(error).splitlines()[-1].removeprefix("while retrying: ")
            if not self.may_go_offline:
                raise InputError(
                    f"logger.wandb.mode=online: W&B can't be reached ({why}); see to network and key, or set "
                    "logger.wandb.mode=offline"
                ) from error
            wandb.teardown()  # which else keeps the run's name in use
            for begun in set(folder.glob("run-*")) - before:
                shutil.rmtree(begun)
            self.go_offline(f"can't be reached ({why}), and this run is tracked offline")
            return super().experiment

    def go_offline(self, why: str = "is offline") -> None:
        """Write to the run directory alone, and say so.

        (Lightning notes it in WANDB_MODE, so that further runs of this process don't wait for a server again.)
        """
        self._offline = True
        self._wandb_init["settings"].mode = "offline"
        say(f"W&B {why}; to publish this run later: wandb sync {self._wandb_init['dir']}/wandb/offline-run-*")

    def describe(self, description: Description) -> None:
        """Say what the run is, before it begins.

        Raises:
            InputError: ids are to be hashed, but not by the key that lies in the folder of runs.
        """
        if self.ids == "hashed":  # at the end of a training it would be too late to say so
            KeyedHash(Path(self._wandb_init["dir"]).parent)
        about = {"name": description.name, "group": description.group, "tags": list(description.tags)}
        self._wandb_init |= {**about, "job_type": description.job_type}

    def goes_on_at(self, step: int) -> bool:
        """Begin the run; offline, one that takes the place of those from before a restart.

        Returns:
            Whether the history before the step is there; else it wants to be logged again, but for pictures.
        """
        directory = Path(self._wandb_init["dir"])
        of_before = list(directory.glob("wandb/offline-run-*"))
        _ = self.experiment  # which may show that it is to be offline
        if not self._offline or list(directory.glob("wandb/run-*")):  # the server has what was before
            return True
        for folder in of_before:
            shutil.rmtree(folder)
        return False

    def replay_pictures(self, step: int) -> None:
        """Offline, give it the pictures from before a restart again, up to the step that the run goes on at."""
        file = self._pictures / "pictures.jsonl"
        if not file.exists():
            return
        kept = {(one["key"], one["step"]): one for one in map(json.loads, file.read_text().splitlines())}
        file.unlink()
        for one in kept.values():
            if one["step"] <= step:
                paths = [str(self._pictures / name) for name in one["files"]]
                self.log_image(one["key"], paths, one["step"], **one["more"])

    def refer(self, reference: Reference, *, used: bool) -> None:
        """Note what the run starts from, or what came of it, as an artifact.

        W&B's own `use_artifact` refuses to offline, and both that and `log_artifact` wait for the server. What they
        hand on in the end does neither.

        Args:
            reference: of it.
            used: whether the run starts from it.

        Warns:
            UserWarning: this version of W&B does it otherwise.
        """
        import wandb

        artifact = wandb.Artifact(reference.name, reference.kind, metadata=dict(reference.facts))
        artifact.add_reference(reference.uri, name=reference.entry, checksum=False)
        artifact.finalize()
        try:
            self.experiment._interface.publish_artifact(
                self.experiment,
                artifact,
                aliases=[] if used else ["latest"],
                is_user_created=True,
                use_after_commit=used,
            )
        except (AttributeError, TypeError) as error:
            warnings.warn(
                f"this version of W&B draws no lineage ({error}); the configuration has it under lineage", stacklevel=2
            )

    def conclude(self, summary: dict[str, Any]) -> None:
        """Say how the run ended."""
        self.experiment.summary.update(summary)

    def log_predictions(self, file: Path) -> None:
        """The table of predictions, by keyed hashes of subjects and scans, if that was asked for.

        Age, sex and the like stay, but for the label that is predicted.

        Args:
            file: what a downstream run leaves; of pretraining there is none.
        """
        if self.ids != "hashed" or not file.exists():
            return
        import wandb

        hashed = KeyedHash(file.parent.parent)
        table = pd.read_parquet(file)
        shown = table[["split", "task", "target", "prediction"]].copy()
        for column in ("scan_id", "subject_id"):
            shown.insert(0, column.removesuffix("_id"), table[column].map(hashed))
        run, logged = self.experiment, wandb.Table(dataframe=shown)
        # As a file alone: W&B would make an artifact of it too, and note the path of its temporary copy.
        logged.bind_to_run(run, "predictions", run.step)  # type: ignore[no-untyped-call]
        run.log({"predictions": logged.to_json(run)})


def wandb_logger(
    directory: str,
    name: str,
    project: str = "neuro_ssl",
    mode: Literal["auto", "online", "offline"] = "auto",
    images: Literal["local", "upload"] = "local",
    ids: Literal["local", "hashed"] = "local",
) -> Wandb:
    """Weights & Biases; without an account it works offline, and asks nothing.

    A server that does not answer within half a minute of the start is given up, for this start. One that is lost
    meanwhile neither stops nor slows a training: what it did not get lies in the run directory's `wandb` folder.

    Args:
        directory: the run directory; the tracker's files go to its `wandb` folder.
        name: of the run.
        project: on the dashboard.
        mode: `online`: a server that can't be reached is an error; `offline`; or `auto`: online when a key is
            configured, the server answers, and WANDB_MODE doesn't say otherwise.
        images: `upload`: pictures of scans too. Data-use agreements commonly forbid that they leave the machine.
        ids: `hashed`: of downstream runs the table of predictions too, by keyed hashes of subjects and scans; the key
            lies in the folder of runs.

    Raises:
        InputError: what is configured can't be a key.
    """
    quieten()
    import wandb

    if wandb.run is not None:  # of a point of a sweep that failed
        wandb.run.finish(exit_code=1)
    logger = Wandb(
        project=project,
        name=name,
        id=name,
        resume="allow",
        save_dir=directory,
        settings=wandb.Settings(
            mode="online",
            console="off",
            init_timeout=INIT_S,
            finish_timeout=FINISH_S,
            finish_timeout_raises=True,
            x_stats_sampling_interval=60.0,  # s, of the machine's load, which W&B's service would else look at every 15
            **KEPT_TO_ITSELF,
        ),
    )
    logger.images, logger.ids, logger.may_go_offline = images == "upload", ids, mode == "auto"
    del logger._wandb_init["anonymous"]  # a setting of Lightning's, which W&B warns has no effect
    if mode == "offline" or (mode == "auto" and (told_offline() or not has_key())):
        logger.go_offline()
    return logger


def finish_wandb(exit_code: int = 0) -> None:
    """Close W&B's run, so that the next run of the same process gets one of its own.

    Args:
        exit_code: 0 for success.

    Warns:
        UserWarning: the server did not take all of it in time.
    """
    if "wandb" not in sys.modules or (run := sys.modules["wandb"].run) is None:
        return
    folder = Path(run.dir).parent
    try:
        run.finish(exit_code)
    except TimeoutError:
        warnings.warn(
            f"W&B's server did not take all of the run within {FINISH_S:g} s; to publish the rest later: wandb sync "
            f"{folder}",
            stacklevel=2,
        )
