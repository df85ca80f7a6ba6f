"""`python -m neuro_ssl.weights`: others' weights in this package's form, ours for others, and what any weights are."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neuro_ssl.errors import InputError

if TYPE_CHECKING:
    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.exporting.folder import Choices

TRUST_RISK = (
    "unpickle the file, which runs whatever program its author, or whoever changed it, put into it, with your rights: "
    "for files from a source that you trust alone"
)


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        prog="python -m neuro_ssl.weights",
        description="Import others' published weights, export a run's, or say what weights are.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="import | export | show")
    importing = commands.add_parser(
        "import",
        help="write a published file as a folder that weights= takes",
        description=(
            "Write a published file as a folder that weights= takes. Known, by their keys: 3D-Neuro-SimCLR, BrainIAC "
            "v1 and v2, OpenMind ResEnc-L, MedicalNet, MONAI's ResNets."
        ),
    )
    importing.add_argument("file", help="as it was downloaded, or what was extracted from it")
    importing.add_argument("output", help="a new folder")
    importing.add_argument("--trust", action="store_true", help=TRUST_RISK)
    importing.add_argument("--layout", help="what the file is, where keys don't tell: medicalnet, monai_resnet, …")
    importing.add_argument(
        "--pooling",
        choices=["mean", "first"],
        help="BrainIAC v2: mean of the tokens, by default, or the first",
    )
    exporting = commands.add_parser(
        "export",
        help="write a run's weights as a folder for others, with a model card",
        description="Write a run's weights as a folder that weights= takes, with a model card. Nothing is uploaded.",
    )
    exporting.add_argument("run", help="a finished run's directory")
    exporting.add_argument("output", help="a new folder")
    exporting.add_argument("--licence", help="of the weights, as the Hugging Face hub names it: cc-by-4.0, mit, …")
    exporting.add_argument("--runs", type=Path, help="runs that started from the weights, for the card's scores")
    exporting.add_argument(
        "--subject-hashes",
        action="store_true",
        help="put in the hashes of training subjects and images, for others' leakage check; whoever knows a cohort's "
        "ids can tell who is in it, so look into its data-use agreement first",
    )
    exporting.add_argument("--onnx", action="store_true", help="write model.onnx too: pip install 'neuro_ssl[onnx]'")
    exporting.add_argument("--torch-export", action="store_true", help="write model.pt2, of torch.export, too")
    show = commands.add_parser("show", help="encoder, input, cohorts, licence, advice, tensors")
    show.add_argument("weights", help="a run directory, a folder of weights, hf://org/name, or a published file")
    return parser


def main() -> None:
    """Parse the command line and run one command."""
    arguments = command_line().parse_args()
    try:
        if arguments.command == "import":
            options = {"pooling": arguments.pooling} if arguments.pooling else {}
            import_weights(Path(arguments.file), Path(arguments.output), arguments.trust, arguments.layout, options)
        elif arguments.command == "export":
            from neuro_ssl.exporting.folder import Choices

            given = vars(arguments)
            names = ("licence", "runs", "subject_hashes", "onnx", "torch_export")
            export_weights(arguments.run, Path(arguments.output), Choices(**{name: given[name] for name in names}))
        else:
            from neuro_ssl.checkpoint import Weights

            print(describe(Weights.load(arguments.weights)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def import_weights(file: Path, output: Path, trust: bool, layout: str | None, options: dict[str, str]) -> None:
    """Write a published file as a folder, and say what became of it.

    Raises:
        InputError: it cannot be imported, or the folder not written.
    """
    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.encoders.published import import_published, table

    published = import_published(file, trust=trust, layout=layout, **options)
    weights = Weights.of_published(file, published)
    weights.save(output)
    print(f"{describe(weights)}\nwhat became of the file's tensors:\n{table(published)}\nwritten: {output}")


def export_weights(run: str, output: Path, choices: "Choices") -> None:
    """Write a run's weights as a folder, and say what is in it and how to publish it.

    Raises:
        InputError: they cannot be exported, or the folder not written.
    """
    from neuro_ssl.exporting.folder import export

    weights = export(run, output, choices)
    print(f"{describe(weights)}\nwritten: {output}: {', '.join(sorted(file.name for file in output.iterdir()))}")
    if not choices.subject_hashes:
        print("seen.json names cohorts and no subjects; --subject-hashes puts their hashes in, if you may share them")
    if choices.licence is None:
        print(f"before you publish: export again with --licence=…, which {output / 'README.md'} and config.json lack")
    print(f"nothing is uploaded; to publish: {shlex.join(['hf', 'upload', f'ORG/{weights.name}', str(output)])}")


def describe(weights: "Weights") -> str:
    """What weights are, for people.

    Raises:
        InputError: they don't fit their encoder.
    """
    encoder = weights.build_encoder()
    target = str(weights.encoder["_target_"])
    settings = ", ".join(f"{key} {value}" for key, value in weights.encoder.items() if key != "_target_")
    parameters = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    lines = [
        f"{weights.name}: {weights.card.get('title', 'a run of this package')}",
        f"encoder: {target.rpartition('.')[2]} ({settings}), {parameters:.2f} M parameters, "
        f"{encoder.embed_dim} features",
    ]
    if (contract := weights.contract) is not None:
        spacing = "any spacing" if contract.spacing_mm is None else f"{contract.spacing_mm:g} mm"
        shape = "any shape" if contract.shape is None else "×".join(map(str, contract.shape))
        lines += [
            f"input: {shape} along (z, y, x), {spacing}, {contract.intensity}; preprocess with grid={contract.grid}",
            f"their preprocessing: {contract.preprocessing}",
        ]
    else:
        dataset = weights.record["dataset"]
        preprocessing = ", ".join(f"{key} {value}" for key, value in dataset["preprocessing"].items())
        lines += [f"input: grid={dataset['grid']}, {weights.intensity}", f"preprocessing: {preprocessing}"]
    seen = weights.seen
    n_subjects = f", {len(seen.subjects)} hashed subjects" if seen.subjects else ""
    lines.append(
        f"trained on: {', '.join(sorted(seen.cohorts)) or 'not known here'}{n_subjects}"
        f"{'' if seen.complete else ' (not a complete list of subjects)'}"
    )
    lines += [f"{key}: {weights.carried[key]}" for key in ("licence", "advice", "citation") if key in weights.carried]
    tensors = weights.state.values()
    kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))
    lines.append(f"tensors: {len(tensors)} of {kinds}, {sum(t.numel() for t in tensors) / 1e6:.2f} M numbers")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
