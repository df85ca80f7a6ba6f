import copy

import pytest
import torch

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.tasks.supervised import Supervised
from neuro_ssl.views.standard import Standard


def supervised(**changes):
    settings = {
        "encoder": ResNet3D(width=8),
        "views": None,
        "optimizer": Optimizer(),
        "seed": 0,
        "frozen": False,
        "target_mean": 50.0,
        "target_sd": 10.0,
        "target": "age_years",
    }
    return Supervised(**(settings | changes))


def batch(n=3, **more):
    volume = torch.rand(n, 1, 12, 14, 13, generator=torch.Generator().manual_seed(0)).half()
    return {"volume": volume, "scan": torch.arange(n), "target": torch.linspace(40, 60, n)[:, None]} | more


def steps(task, n=3):
    task.train()
    optimizer = task.optimizer.build(task.parameters(), n)["optimizer"]
    for _ in range(n):
        loss = task.loss(task(batch()), batch()["target"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_frozen_encoder_is_byte_identical_after_training_in_train_mode():
    task = supervised(frozen=True)
    before = copy.deepcopy(task.encoder.state_dict())
    head = task.head.weight.clone()
    steps(task)
    for name, tensor in task.encoder.state_dict().items():  # batch-norm statistics and counters included
        assert tensor.numpy().tobytes() == before[name].numpy().tobytes(), name
    assert not torch.equal(task.head.weight, head)


def test_otherwise_the_encoder_and_its_statistics_move():
    task = supervised()
    before = copy.deepcopy(task.encoder.state_dict())
    steps(task)
    moved = {name for name, tensor in task.encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"conv1.weight", "bn1.running_mean"} <= moved


def test_regression_trains_on_standardised_and_reports_natural_units():
    task = supervised()
    target = torch.tensor([[50.0], [60.0]])
    assert task.loss(torch.tensor([[0.0], [1.0]]), target) == 0
    assert task.loss(torch.tensor([[1.0], [1.0]]), target) == 0.5  # one standard deviation off, squared, over two
    assert task.natural(torch.tensor([[0.0], [-2.0]])).tolist() == [[50], [30]]


def test_the_papers_regression_is_on_raw_targets():
    task = supervised(standardise_target=False)
    output, target = torch.tensor([[50.0], [59.0]]), torch.tensor([[50.0], [60.0]])
    assert task.loss(output, target) == 0.5
    assert torch.equal(task.natural(output), output)


@pytest.mark.parametrize("standardise", [True, False])
def test_the_head_sees_frozen_features_standardised_or_as_they_are(standardise):
    """The head is made the identity on one feature at a time."""

    class Cached:
        def cache_features(self, extract, splits):
            generator = torch.Generator().manual_seed(0)
            self.features = torch.randn(50, 64, generator=generator) * torch.linspace(1, 2, 64) + 3
            self.datasets = {"train": self}

    task, data = supervised(frozen=True, standardise_features=standardise), Cached()
    task.cache_features(data, torch.device("cpu"))
    torch.nn.init.zeros_(task.head.bias)
    expected = (data.features - data.features.mean(0)) / data.features.std(0, correction=0)
    for i in (0, 40):
        task.head.weight.data = torch.eye(64)[i : i + 1]
        seen = task(batch(features=data.features)).squeeze(1)
        torch.testing.assert_close(seen, expected[:, i] if standardise else data.features[:, i])


def test_classification_gives_probabilities_of_the_second_class():
    task = supervised(target="sex", classes=["F", "M"])
    expected = -torch.log(torch.tensor(0.8)) / 2 - torch.log(torch.tensor(0.5)) / 2
    output = torch.logit(torch.tensor([[0.8], [0.5]]))
    torch.testing.assert_close(task.loss(output, torch.tensor([[1.0], [1.0]])), expected)
    torch.testing.assert_close(task.natural(output), torch.tensor([[0.8], [0.5]]))


def test_standardised_volumes_make_scanner_gain_irrelevant():
    task = supervised().eval()
    brighter = batch(volume=batch()["volume"] * 4)
    torch.testing.assert_close(task(batch()), task(brighter), atol=1e-2, rtol=1e-2)


def test_refuses():
    with pytest.raises(InputError, match="task.classes"):
        supervised(classes=["A", "B", "C"])
    with pytest.raises(InputError, match="views=none"):
        supervised(frozen=True, views=Standard())
    encoder = ResNet3D(width=8)
    with pytest.raises(InputError, match="views=none"):
        SimCLR(encoder, None, Optimizer(), 0)
    with pytest.raises(InputError, match="task.temperature"):
        SimCLR(encoder, Standard(), Optimizer(), 0, temperature=0.0)


def test_the_papers_head():
    task = SimCLR(ResNet3D(), Standard(), Optimizer(), 0)
    assert {name: tuple(p.shape) for name, p in task.projector.named_parameters()} == {
        "0.weight": (512, 512),
        "2.weight": (64, 512),
    }


def test_a_checkpoint_of_one_target_is_laid_out_as_before_there_could_be_several():
    state = {name: tuple(value.shape) for name, value in supervised().state_dict().items()}
    assert {name: shape for name, shape in state.items() if not name.startswith("encoder.")} == {
        "head.weight": (1, 64),
        "head.bias": (1,),
        "feature_mean": (64,),
        "feature_sd": (64,),
        "target_mean": (),
        "target_sd": (),
        "train_loss.mean_value": (),
        "train_loss.weight": (),
    }
