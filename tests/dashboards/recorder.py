"""A tracker that notes what runs give it: names of metrics, keys of pictures, keys of the configuration."""

import json
from pathlib import Path

from lightning.pytorch.loggers import Logger


class Recorder(Logger):
    name, version = "recorder", ""

    def __init__(self, directory, name, images):
        super().__init__()
        self.file = Path(directory) / "recorded.jsonl"

    def _note(self, kind, names):
        with self.file.open("a") as stream:
            stream.writelines(json.dumps([kind, name]) + "\n" for name in names)

    def log_metrics(self, metrics, step=None):
        self._note("metric", metrics)

    def log_image(self, key, images, step=None, aggregate=False):
        assert all(Path(image).is_file() for image in images)
        self._note("picture", [key])

    def log_hyperparams(self, params, *args, **kwargs):
        self._note("key", flat(params))


def flat(node, above=""):
    """Dotted keys of all leaves."""
    if not isinstance(node, dict):
        return [above]
    return [key for name, value in node.items() for key in flat(value, f"{above}.{name}" if above else name)]
