"""Running a bundle: `Encoder.encode(images) -> Encodings`; the golden check; outlier verdicts."""

from importlib import import_module
from typing import TYPE_CHECKING

# Loaded on first use: Encodings must not cost the import of what runs the network.
_EXPORTS = {
    "CrossEncoder": "medlike.inference.cross_encoder",
    "Crossed": "medlike.inference.cross_encoder",
    "Encoder": "medlike.inference.encoder",
    "same_content": "medlike.inference.cross_encoder",
    "check": "medlike.inference.encoder",
    "Encoding": "medlike.inference.encoding",
    "Encodings": "medlike.inference.encoding",
    "Outlier": "medlike.inference.encoding",
    "Outliers": "medlike.inference.encoding",
    "SentenceEncoder": "medlike.inference.sentences",
    "quantised": "medlike.inference.encoding",
    "similarity": "medlike.inference.encoding",
    "OutlierSettings": "medlike.inference.outlier",
    "fit_outlier": "medlike.inference.outlier",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'medlike.inference' has no attribute {name!r}")
    value: object = getattr(import_module(_EXPORTS[name]), name)
    return value


if TYPE_CHECKING:
    from medlike.inference.cross_encoder import Crossed as Crossed
    from medlike.inference.cross_encoder import CrossEncoder as CrossEncoder
    from medlike.inference.cross_encoder import same_content as same_content
    from medlike.inference.encoder import Encoder as Encoder
    from medlike.inference.encoder import check as check
    from medlike.inference.encoding import Encoding as Encoding
    from medlike.inference.encoding import Encodings as Encodings
    from medlike.inference.encoding import Outlier as Outlier
    from medlike.inference.encoding import Outliers as Outliers
    from medlike.inference.encoding import quantised as quantised
    from medlike.inference.encoding import similarity as similarity
    from medlike.inference.outlier import OutlierSettings as OutlierSettings
    from medlike.inference.outlier import fit_outlier as fit_outlier
    from medlike.inference.sentences import SentenceEncoder as SentenceEncoder
