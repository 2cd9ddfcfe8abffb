"""What the two readers of rows make of a body that neither may accept."""

from __future__ import annotations

import pytest

from inference.errors import Refused
from inference.wire import QUICK_FROM_BYTES, RowsReader, Signature


def test_a_whole_number_beyond_64_bits_is_refused_and_not_a_fault_of_the_quick_reader() -> None:
    reader = RowsReader(Signature(input_name="x", dtype="float32", row_shape=(4,), outputs=()))
    body = b'{"data":[[%b,1,1,1]]}' % (b"9" * QUICK_FROM_BYTES)
    with pytest.raises(Refused, match=r"out of range - at `\$.data\[0\]\[0\]`"):
        reader.read(body)
