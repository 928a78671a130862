"""Who is told of what, and who is left in peace."""

from __future__ import annotations

from typing import Any

import pytest

from diptych import Registry, hookimpl
from diptych.errors import PluginWarning
from diptych.registry import notifying_failure
from diptych.reports import FailureReport, SearchReport

REPORT = SearchReport("c", "Retrieve('dense', 100)", 1, {}, texts=("a secret",), tenant="acme")


class Listener:
    def __init__(self, wants: bool) -> None:
        self.wants, self.asked, self.told = wants, list[str](), list[Any]()

    @hookimpl
    def diptych_listens(self, hook: str) -> bool:
        self.asked.append(hook)
        return self.wants

    @hookimpl
    def diptych_after_search(self, report: SearchReport) -> None:
        self.told.append(report)

    @hookimpl
    def diptych_after_failure(self, report: FailureReport) -> None:
        self.told.append(report)


class Always:
    def __init__(self) -> None:
        self.told = list[Any]()

    @hookimpl
    def diptych_after_search(self, report: SearchReport) -> None:
        self.told.append(report)


class Deaf:
    @hookimpl
    def diptych_listens(self) -> bool:
        return False

    @hookimpl
    def diptych_after_search(self) -> None:
        raise AssertionError


class Broken:
    @hookimpl
    def diptych_after_failure(self, report: FailureReport) -> None:
        raise RuntimeError("no")


def fails() -> None:
    raise ValueError("words of a user")


def test_a_plugin_that_does_not_want_it_is_not_told() -> None:
    silent, keen, always = Listener(False), Listener(True), Always()
    registry = Registry(silent, keen, always, installed=False)
    assert registry.tell("diptych_after_search", REPORT) == []
    assert ([len(plugin.told) for plugin in (silent, keen)], len(always.told)) == ([0, 1], 1)
    assert silent.asked == ["diptych_after_search"]


def test_nobody_listens_when_none_wants_to() -> None:
    assert not Registry(Listener(False), installed=False).listening("diptych_after_search")
    assert not Registry(installed=False).listening("diptych_after_search")
    assert not Registry(Deaf(), installed=False).listening("diptych_after_search")
    assert not Registry(Always(), installed=False).listening("diptych_after_failure")
    assert Registry(Listener(False), Always(), installed=False).listening("diptych_after_search")


def test_a_failure_is_told_with_its_class_and_goes_on() -> None:
    listener = Listener(True)
    with pytest.raises(ValueError, match="words of a user"):
        notifying_failure(Registry(listener, installed=False), "c", "search", fails)
    (report,) = listener.told
    assert (report.collection, report.operation, report.error) == ("c", "search", "ValueError")
    assert 0 < report.started <= report.ended
    assert "words" not in repr(report)


def test_a_plugin_that_fails_while_it_is_told_of_a_failure_hides_nothing() -> None:
    registry = Registry(Broken(), installed=False)
    with pytest.warns(PluginWarning, match="RuntimeError: no"), pytest.raises(ValueError, match="words"):
        notifying_failure(registry, "c", "search", fails)


def test_neither_the_texts_of_queries_nor_their_tenant_are_in_a_reports_repr() -> None:
    assert "secret" not in repr(REPORT)
    assert "acme" not in repr(REPORT)
