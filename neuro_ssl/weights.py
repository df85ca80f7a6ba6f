"""`python -m neuro_ssl.weights`: others' weights in this package's form, and what any weights are."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neuro_ssl.errors import InputError

if TYPE_CHECKING:
    from neuro_ssl.checkpoint import Weights

TRUST_RISK = (
    "unpickle the file, which runs whatever program its author, or whoever changed it, put into it, with your rights: "
    "for files from a source that you trust alone"
)


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        prog="python -m neuro_ssl.weights", description="Import others' published weights, or say what weights are."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="import | show")
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
    show = commands.add_parser("show", help="encoder, input, cohorts, licence, advice, tensors")
    show.add_argument("weights", help="a run directory, an imported folder, or a published file")
    return parser


def main() -> None:
    """Parse the command line and run one command."""
    arguments = command_line().parse_args()
    try:
        if arguments.command == "import":
            options = {"pooling": arguments.pooling} if arguments.pooling else {}
            import_weights(Path(arguments.file), Path(arguments.output), arguments.trust, arguments.layout, options)
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
