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


def _row(*numbers: str) -> str:
    return f"[{','.join(numbers or ['0.25'] * 4)}]"


LONG = ["0.12345678901234567890123456789"] * 4
BODIES = {
    "plain": f'{{"data":[{_row(*LONG)},{_row(*LONG)},{_row(*LONG)},{_row(*LONG)}]}}',
    "many rows": f'{{"data":[{",".join([_row()] * 40)}]}}',
    "largest": f'{{"data":[{_row("3.4e38", *LONG[1:])},{_row("-3.4e38", *LONG[1:])}]}}',
    "too large": f'{{"data":[{_row("3.5e38", *LONG[1:])}]}}',
    "far too large": f'{{"data":[{_row("1e300", *LONG[1:])}]}}',
    "two keys": f'{{"data":[{_row(*LONG)}],"data":[{_row("1", *LONG[1:])}]}}',
    "another key": f'{{"x":[[1]],"data":[{_row(*LONG)}]}}',
    "brackets in a text": f'{{"x":"[[","data":[{_row(*LONG)}]}}',
    "a list in a row": f'{{"data":[{_row("[1]", *LONG[1:])}]}}',
    "an empty list beside": f'{{"data":[{_row(*LONG)},[]]}}',
    "a short row": f'{{"data":[{_row(*LONG[1:])},{_row(*LONG)}]}}',
    "an odd end": f'{{"data":[{_row(*LONG)}]',
    "only numbers": f'{{"data":{_row(*LONG)}}}',
}


@pytest.mark.parametrize("case", BODIES)
def test_the_quick_reader_says_what_the_definition_says(case: str) -> None:
    body = BODIES[case].encode().ljust(QUICK_FROM_BYTES)

    def said(reader: RowsReader) -> object:
        try:
            return reader.read(body)
        except Refused as refused:
            return (refused.status, refused.detail)

    both, definition = (
        RowsReader(Signature(input_name="x", dtype="float32", row_shape=(4,), outputs=())) for _ in "12"
    )
    definition._parser = None
    assert said(both) == said(definition)
    if case in {"plain", "many rows"}:
        assert both._quick(body) is not None
