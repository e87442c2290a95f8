"""docs/api.md has the properties of the registry, and every method and type of the wire."""

import re

from asyncvarlink import VarlinkInterface
from tests.api.reference import PAGE, with_table

from openbits.core.properties import PROPERTIES
from openbits.service.interface import ServiceInterface


def test_the_table_of_properties_is_that_of_the_registry() -> None:
    assert PAGE.read_text() == with_table(PAGE.read_text()), "write it anew: python -m tests.api.reference"
    for name in PROPERTIES:
        assert f"| `{name}` |" in PAGE.read_text()


def test_every_method_of_the_interface_is_on_the_page() -> None:
    page = PAGE.read_text()
    rows = {word for row in re.findall(r"^\| ([A-Z][^|]*) \|", page, re.MULTILINE) for word in re.findall(r"\w+", row)}
    own = set(dir(ServiceInterface)) - set(dir(VarlinkInterface))
    methods = {name for name in own if name[0].isupper()}
    assert methods >= {"CreateJob", "SetProperties"}
    assert methods - rows == set(), "a method that docs/api.md does not have"
