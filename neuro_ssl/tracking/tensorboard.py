"""TensorBoard: the same scalars, and pictures, in the run directory's `tensorboard` folder."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from neuro_ssl.errors import InputError


class _TensorBoard(TensorBoardLogger):
    """Shows the configuration as text, and takes pictures, which lie beside it in the run directory anyway."""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """(TensorBoard's own tab for these wants scores from the start.)"""
        self.hparams = params  # what Lightning writes as hparams.yaml
        text = yaml.safe_dump(params, sort_keys=False, allow_unicode=True)
        self.experiment.add_text("configuration", "\n".join(f"    {line}" for line in text.splitlines()))

    @rank_zero_only
    def log_image(
        self, key: str, images: list[Any], step: int | None = None, aggregate: bool = False, **kwargs: Any
    ) -> None:
        """Add pictures.

        Args:
            key: name of the picture.
            images: files, or (rows, columns, channels).
            step: of training.
            aggregate: whether they show nobody in particular; others stay on this machine too.
            kwargs: captions and the like, which are for others.
        """
        from matplotlib.image import imread

        for i, image in enumerate(images):
            name = key if len(images) == 1 else f"{key}/{i}"
            pixels = imread(image) if isinstance(image, str | Path) else image
            self.experiment.add_image(name, pixels, step, dataformats="HWC")

    def goes_on_at(self, step: int) -> bool:
        """Take what was logged from this step on for never logged, as it will be logged again.

        Returns:
            Whether there is a history before it.
        """
        self._kwargs["purge_step"] = step
        return any(Path(self.log_dir).glob("events.*"))


def tensorboard_logger(directory: str) -> TensorBoardLogger:
    """TensorBoard; `tensorboard --logdir runs` shows all runs of a folder.

    Args:
        directory: the run directory.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise InputError("logger=tensorboard needs TensorBoard: pip install 'neuro_ssl[tensorboard]'")
    return _TensorBoard(save_dir=directory, name="tensorboard", version="", default_hp_metric=False)
