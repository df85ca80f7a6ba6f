from types import SimpleNamespace

from neuro_ssl.callbacks.offering import offer_picture


class Plain:
    """As Lightning's loggers are."""

    def __init__(self):
        self.got = []

    def log_image(self, key, images, step=None, **kwargs):
        self.got.append((key, step, kwargs))


class Knowing(Plain):
    def log_image(self, key, images, step=None, aggregate=False):
        super().log_image(key, images, step, aggregate=aggregate)


def test_a_logger_that_cannot_tell_people_from_aggregates_gets_no_people(tmp_path):
    plain, knowing = Plain(), Knowing()
    trainer = SimpleNamespace(loggers=[plain, object(), knowing], global_step=3)
    offer_picture(trainer, "saliency", tmp_path / "saliency.png")
    offer_picture(trainer, "test/roc", tmp_path / "roc.png", aggregate=True)
    assert plain.got == [("test/roc", 3, {})]
    assert knowing.got == [("saliency", 3, {"aggregate": False}), ("test/roc", 3, {"aggregate": True})]
