"""`python -m neuro_ssl.explain`: what an encoder looks at, as maps of each scan and of their mean."""

from neuro_ssl.commands import entry_point
from neuro_ssl.config import build, check_components, plain
from neuro_ssl.errors import InputError
from neuro_ssl.schemas import ExplainConfig

METHODS = ("gradient_x_input", "integrated_gradients", "occlusion", "grad_cam")  # keys of the configuration


@entry_point("explain")
def main(cfg: ExplainConfig) -> None:
    """Make the maps of each method, go on with what was interrupted, or say that they are there."""
    check_components(cfg, dict.fromkeys(("dataset", *METHODS), ()))
    if not cfg.weights:
        raise InputError("weights: give a run directory, an imported folder or a published file")
    if unknown := [name for name in cfg.methods if name not in METHODS]:
        raise InputError(f"methods: {unknown[0]!r} is none of {', '.join(METHODS)}")
    if not cfg.methods:
        raise InputError(f"methods: name at least one of {', '.join(METHODS)}")

    from pathlib import Path

    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.console import quiet_libraries
    from neuro_ssl.explaining.explanation import Explanation
    from neuro_ssl.explaining.making import Maker, chosen_device
    from neuro_ssl.explaining.models import ExplainedModel
    from neuro_ssl.explaining.scans import CHOSEN, choose_scans

    quiet_libraries()
    config = plain(cfg)
    dataset = build(config["dataset"])
    if dataset.transform is not None:
        raise InputError("maps are those of the scans as they are: leave dataset.transform out")
    device = chosen_device(cfg.device)
    model = ExplainedModel.of(Weights.load(cfg.weights), cfg.target)
    volumes = dataset.open(cfg.grid)
    scans = choose_scans(volumes, model.weights, config["scans"], cfg.max_scans)
    split = cfg.scans if isinstance(cfg.scans, str) else CHOSEN
    where = Path(cfg.runs_dir) / "explanations"
    explanations = [
        Explanation(where, model, volumes, scans, split, name, build(config[name]), config["baseline"])
        for name in dict.fromkeys(cfg.methods)
    ]
    makers = [Maker(explanation, device, cfg.batch_size) for explanation in explanations]
    for explanation in explanations:
        explanation.check()
    wanted = {"native": cfg.native, "sanity_check": cfg.sanity_check}
    for explanation, maker in zip(explanations, makers, strict=True):
        if explanation.is_finished(**wanted):
            print(f"already there: {explanation.path}")
        else:
            print(f"{explanation.title}")
            maker.make(**wanted)
            print(f"finished: {explanation.path}")
        print(explanation.summary)


if __name__ == "__main__":
    main()
