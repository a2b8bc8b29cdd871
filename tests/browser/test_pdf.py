"""A page printed to PDF: on A4, over several sheets, with its pictures, tagged and with an outline."""

import re
from pathlib import Path

import pytest
from pdf import print_page

pytestmark = pytest.mark.built

HTML = Path(__file__).resolve().parent.parent.parent / "_build" / "quick" / "html"


def test_a_page_is_printed_with_its_pictures(chromium, tmp_path):
    print_page(chromium(), HTML / "00_tour.html", tmp_path / "tour.pdf")
    made = (tmp_path / "tour.pdf").read_bytes()
    assert made.startswith(b"%PDF-")
    sheets = re.findall(rb"/MediaBox\s*\[0 0 (\d+)[.\d]* (\d+)", made)
    assert len(sheets) >= 4 and set(sheets) <= {(b"594", b"841"), (b"595", b"841"), (b"595", b"842")}
    assert len(re.findall(rb"/Subtype\s*/Image", made)) >= 3
    assert b"/StructTreeRoot" in made and b"/Outlines" in made
