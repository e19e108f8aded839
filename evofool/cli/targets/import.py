"""`evofool targets import`: published weights that are in a format of their own, as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evofool.cli import output
from evofool.cli.options import Json, file_path
from evofool.cli.targets import targets_app
from evofool.errors import ConfigError


@targets_app.command("import")
def import_(
    file: Annotated[
        Path, Argument(metavar="FILE", help="compressed_SqueezeNet.net, SqueezeNet v1.0.", parser=file_path)
    ],
    out: Annotated[Path, Option(help="File to write (safetensors); a new one.", parser=file_path)],
    as_json: Json = False,
) -> None:
    """Make published weights a file that a target can be opened from: SqueezeNet v1.0, 0.68 MB, for ImageNet."""
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out: {out} does not end in .safetensors; name a file that does.")
    if out.exists():
        raise ConfigError(f"--out: {out} is there already; name a new file, or remove it.")
    try:
        blob = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"FILE: {file} cannot be read ({error.strerror}); give compressed_SqueezeNet.net of the repository "
            "songhan/SqueezeNet-Deep-Compression."
        ) from None
    from evofool.targets.zoo.squeezenet import SPEC, decompressed, metadata
    from evofool.targets.zoo.writing import check_place, write_safetensors

    tensors, published = decompressed(blob, str(file))
    if not published:
        output.tell(f"{file} is not the published file, by its sha256: damaged, or of another training")
    check_place(out)
    write_safetensors(out, tensors, metadata())
    spec, weights = f"{SPEC}/{out}", sum(tensor.numel() for tensor in tensors.values())
    if as_json:
        output.print_json({"file": str(out), "spec": spec, "weights": weights, "published": published})
        return
    print(f"{out}: {weights:,} weights; it is the target {spec}")
