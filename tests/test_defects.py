"""The table of seeded defects keeps up with the sources and with its page; `make campaign-defects` carries it out."""

import pytest
from tests.defects import DEFECTS, PAGE, ROOT, Defect, page, source


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_can_be_put_in_and_its_tests_are_there(defect: Defect) -> None:
    compile(source(defect), defect.file, "exec")
    for test in defect.tests:
        path, _, name = test.partition("::")
        function = name.rpartition("::")[2].partition("[")[0]
        assert f"def {function}(" in (ROOT / path).read_text() if name else (ROOT / path).is_file()


def test_there_are_twenty_defects_or_more_and_the_page_lists_them() -> None:
    assert len(DEFECTS) >= 20
    assert PAGE.read_text() == page()
