"""medlike demo: index the samples, search them, draw the answers."""

EXAMPLES = ""


def demo() -> None:
    """Index."""
