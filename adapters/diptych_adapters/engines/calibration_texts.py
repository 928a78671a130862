"""Texts of many kinds and lengths for measuring int8 ranges, in addition to texts of a collection."""

from __future__ import annotations

_LONG = (
    "The museum keeps letters, maps and instruments of the expedition, among them a sextant that still works. "
    "Visitors may read the diaries in facsimile; the originals are shown once a year, in dim light. "
    "A second room tells of the ships: how they were built, who sailed them, and what became of each. "
)
GENERAL = (
    "a",
    "museum",
    "How long do boiled eggs keep?",
    "cheap flights to Lisbon in March with one bag",
    "Error 0x80070057: the parameter is incorrect",
    "SELECT name, price FROM items WHERE price < 9.99 ORDER BY name;",
    "https://example.org/a/b?c=1&d=two#three",
    "Die Brücke wurde 1932 erbaut; heute fahren darüber nur noch Straßenbahnen.",
    "La fièvre a baissé, mais la toux persiste depuis trois jours.",
    "Сколько стоит билет до вокзала?",
    "明日の天気は晴れ、最高気温は二十五度です。",
    "0.25 mg twice daily, 14 days; AUC 0.91 (95% CI 0.88-0.94), p < .001",
    "WARRANTY DISCLAIMED. NO LIABILITY FOR INCIDENTAL OR CONSEQUENTIAL DAMAGES",
    "tick " * 60,
    _LONG,
    _LONG * 5,
)
