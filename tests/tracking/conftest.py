import pytest
import wandb

from tests.conftest import run_command, store_of_noise

WHO = "Quernmore"  # in every id, and in every folder


@pytest.fixture(scope="session")
def tracked(tmp_path_factory):
    """A pretraining run, and one that fine-tunes it as a point of a sweep, each tracked by all that there is."""
    folder = tmp_path_factory.mktemp(f"{WHO} place")
    (folder / "data").mkdir()
    store_of_noise(folder / "data", prefix=f"sub-{WHO}")
    runs = folder / "runs"
    common = [
        *("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir='{folder / 'data'}'", f"runs_dir='{runs}'"),
        *(f"dataset.root='{folder}'", "strategy=cpu", "num_workers=0", "batch_size=3", "trainer.max_epochs=2"),
        *("logger=[wandb,tensorboard]", "logger.ids=hashed", "trainer.log_every_n_steps=1"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder / "home"))
        for name in ("USER", "LOGNAME", "USERNAME"):
            patch.setenv(name, WHO.lower())
        patch.setattr("socket.gethostname", lambda: f"{WHO}-host")
        wandb.teardown()  # its service may know another home
        run_command("train", "+experiment=simclr_pretrain", "encoder.width=8", *common)
        (pretraining,) = runs.glob("simclr_pretrain-*")
        sweep = [f"hydra.sweep.dir='{runs / '.sweeps' / 'of seeds'}'", "seed=1"]
        run_command("train", "-m", "+experiment=finetune", "task=sex", f"weights='{pretraining}'", *common, *sweep)
        wandb.teardown()
    (downstream,) = runs.glob("finetune-*")
    return pretraining, downstream
