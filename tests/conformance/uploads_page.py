"""docs/upload-conformance.md from the tables of `uploads`."""

from collections.abc import Iterator
from pathlib import Path

from tests.conformance.uploads import CHECKLIST, CHECKS, DECISIONS, FRAGMENTS, OPEN, REQUIREMENTS

PAGE = Path(__file__).parents[2] / "docs" / "upload-conformance.md"

HEAD = """# Conformance of uploads

The rules of the BITS upload protocol by the numbers of upload-protocol.md, and the tests of server and client that
prove each of them. Made from the tables in tests/conformance/uploads.py (`python -m tests.conformance page`), which are
typed from the specification; a test fails when a number is missing here, when none of its tests has the number in its
name, or when a named test does not exist. Test files are below `tests/`; a dash: that side has no part in it.

`transfer/test_upload_misbehaviours.py` plays its cells by plain HTTP, over TLS and through proxies; here the plain one
stands for all.
"""

SECTIONS = {
    "Requirements on HTTP (§2)": REQUIREMENTS,
    "Order of the checks (§5.1)": CHECKS,
    "Fragments (§6)": FRAGMENTS,
    "Decisions (§15)": DECISIONS,
    "Open ambiguities (§15)": OPEN,
    "Checklist (§14)": CHECKLIST,
}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections()]) + "\n"


def _sections() -> Iterator[str]:
    for title, rules in SECTIONS.items():
        yield f"## {title}\n"
        yield "| Rule | What | Server | Client |\n|---|---|---|---|"
        for rule in rules:
            yield f"| {rule.number} | {rule.what} | {_shown(rule.server)} | {_shown(rule.client)} |"
        yield ""


def _shown(proofs: tuple[str, ...]) -> str:
    return "<br>".join(f"`{proof.removeprefix('tests/')}`" for proof in proofs) or "—"
