"""`python -m tests.conformance page` writes docs/conformance.md and docs/upload-conformance.md anew."""

import sys

from tests.conformance import page, uploads_page

if __name__ == "__main__":
    if sys.argv[1:] != ["page"]:
        sys.exit("usage: python -m tests.conformance page")
    for made in (page, uploads_page):
        made.PAGE.write_text(made.page())
