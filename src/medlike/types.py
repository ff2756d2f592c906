"""Names of types that several rooms share. Shapes are said where the names are used."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

#: x0, y0, x1, y1, half-open, in pixels of the source frame.
Box = tuple[float, float, float, float]

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
#: An array whose type is known only when the program runs, such as one that a file holds.
Array = NDArray[Any]
Type = np.dtype[np.generic]

#: A picture for showing: uint8 [H, W], or [H, W, 3] in RGB.
Picture = U8

#: A value as JSON holds it, and an object of JSON. What comes from a file is checked where it is read.
Json = Any
JsonObject = dict[str, Json]

Report = TypeVar("Report")
#: Called with the report so far while work goes on.
Progress = Callable[[Report], None]
