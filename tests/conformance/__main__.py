"""`python -m tests.conformance page` writes docs/conformance.md anew."""

import sys

from tests.conformance.page import PAGE, page

if __name__ == "__main__":
    if sys.argv[1:] != ["page"]:
        sys.exit("usage: python -m tests.conformance page")
    PAGE.write_text(page())
