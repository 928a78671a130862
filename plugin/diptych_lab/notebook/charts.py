"""Small drawings as SVG: stacked bars of parts, intervals around a mean, points of a trade-off.

Figures stand beside them as text, for notebooks that drop drawings from untrusted pages, and for screen readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diptych_lab.notebook.elements import BAD, GOOD, GREY, Html, join, tag

# Told apart by colour-blind readers and from both a white and a black page; a tenth part begins again.
COLOURS = ("#3b82c4", "#c9722b", "#2b967a", "#a8579a", "#94801c", "#6b78d6", "#c0504d", "#4f9bb5", "#7d8590")
_WIDTH, _BAR, _LINE = 420, 16, 14


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar, as long as its value: to the right of zero, or to the left where it is negative."""

    name: str
    value: float


def bar(parts: Sequence[Part], *, low: float, high: float) -> Html:
    """Parts end to end, whose signed lengths add up to the whole, and their names and values below.

    Args:
        parts: in order.
        low, high: what the drawing's width stands for, alike for all bars that are compared; see `extent`.
    """
    span = high - low
    if not span > 0:
        return legend(parts)
    pixel = _WIDTH / span
    ends = {1: -low * pixel, -1: -low * pixel}  # where the next part to either side begins
    drawn: list[Html] = []
    for number, part in enumerate(parts):
        sign, width = (1 if part.value >= 0 else -1), abs(part.value) * pixel
        left = ends[sign] if sign > 0 else ends[sign] - width
        ends[sign] += sign * width
        place = {"x": f"{left:.3f}", "y": "0", "width": f"{width:.3f}", "height": str(_BAR)}
        about = tag("title", f"{part.name} {part.value:+z.4f}")
        drawn.append(tag("rect", about, **place, fill=COLOURS[number % len(COLOURS)]))
    zero = tag("line", x1=f"{-low * pixel:.3f}", x2=f"{-low * pixel:.3f}", y1="-2", y2=str(_BAR + 2), stroke=GREY)
    label = ", ".join(f"{part.name} {part.value:+z.4f}" for part in parts)
    return join(_svg(_WIDTH, _BAR, label, *drawn, zero), legend(parts))


def extent(bars: Sequence[Sequence[Part]]) -> tuple[float, float]:
    """From where to where these bars reach, zero included."""
    below = [sum(min(0.0, part.value) for part in parts) for parts in bars]
    above = [sum(max(0.0, part.value) for part in parts) for parts in bars]
    return min([0.0, *below]), max([0.0, *above])


def legend(parts: Sequence[Part]) -> Html:
    """The parts' names and values, each behind a square of its colour."""
    return tag(
        "div", *(_entry(number, part) for number, part in enumerate(parts)), style="font-size:12px;margin:1px 0 4px"
    )


def _entry(number: int, part: Part) -> Html:
    style = f"display:inline-block;width:9px;height:9px;background:{COLOURS[number % len(COLOURS)]};margin-right:4px"
    square = tag("span", style=f"{style};border-radius:2px")
    words = [square, tag("bdi", part.name), f" {part.value:+z.4f}"]
    return tag("span", *words, style="margin-right:12px;white-space:nowrap")


def interval(
    mean: float, low: float, high: float, *, ends: tuple[float, float], limit: float | None = None, plain: bool = False
) -> Html:
    """A dot with its interval on a line from `ends[0]` to `ends[1]`, with zero where it lies between.

    It is green above zero, red below, and grey where the interval holds zero.

    Args:
        mean, low, high: of the interval.
        ends: what the width stands for, alike for all rows of a table; see `around`.
        limit: another value to mark, such as the loss that a gate allows.
        plain: whether it is no difference, so that its side of zero means nothing.
    """
    first, last = ends
    if not last > first:
        return Html("")
    width = 180

    def place(value: float) -> str:
        return f"{6 + (min(max(value, first), last) - first) / (last - first) * (width - 12):.2f}"

    colour, middle = COLOURS[0] if plain else GOOD if low > 0 else BAD if high < 0 else GREY, _LINE / 2
    lines = [
        tag("line", x1=place(value), x2=place(value), y1="0", y2=str(_LINE), stroke=GREY, stroke_width="1", **dash)
        for value, dash in ((0.0, {}), (limit, {"stroke_dasharray": "2 2"}))
        if value is not None and first <= value <= last
    ]
    whisker = tag(
        "line", x1=place(low), x2=place(high), y1=f"{middle}", y2=f"{middle}", stroke=colour, stroke_width="2"
    )
    dot = tag("circle", cx=place(mean), cy=f"{middle}", r="4", fill=colour)
    return _svg(width, _LINE, f"{mean:z.4f} [{low:z.4f}, {high:z.4f}]", *lines, whisker, dot)


def strip(values: Sequence[float]) -> Html:
    """A thin column for each value, lowest first: above the line where it is positive, below where it is negative."""
    width, height, middle = 180, 32, 16
    ordered, largest = sorted(values), max((abs(value) for value in values), default=0.0)
    if not largest > 0:
        return Html("")
    step = width / len(ordered)
    # One path for each side: thousands of queries stay a few kilobytes.
    sides = []
    for colour, side in ((BAD, [v for v in ordered if v < 0]), (GOOD, [v for v in ordered if v > 0])):
        begin = 0 if colour == BAD else len(ordered) - len(side)
        columns = _columns(side, most=width)
        pixels = step * len(side) / max(1, len(columns))
        tops = [(begin * step + n * pixels, -value / largest * middle) for n, value in enumerate(columns)]
        path = "".join(f"M{left:.1f} {middle}v{up:.1f}h{pixels:.2f}V{middle}z" for left, up in tops)
        sides.append(tag("path", d=path, fill=colour))
    line = tag("path", d=f"M0 {middle}H{width}", stroke=GREY, stroke_width="0.5")
    return _svg(width, height, f"{len(ordered)} queries from {ordered[0]:+z.3f} to {ordered[-1]:+z.3f}", *sides, line)


def _columns(values: Sequence[float], *, most: int) -> list[float]:
    """The values, or where there are more than fit, the mean of every few."""
    size = -(-len(values) // most) or 1
    return [sum(part) / len(part) for part in (values[at : at + size] for at in range(0, len(values), size))]


def differences(
    found: Iterable[tuple[float, float, float]], *, digits: int = 4, limit: float | None = None
) -> list[tuple[str, str, Html]]:
    """Three cells per difference (mean, low, high): the mean, the interval, and both as a line."""
    listed, limits = [*found], [] if limit is None else [limit]
    ends = around(0.0, *limits, *(end for own in listed for end in own[1:]))
    return [
        (
            f"{mean:+z.{digits}f}",
            f"{low:+z.{digits}f} to {high:+z.{digits}f}",
            interval(mean, low, high, ends=ends, limit=limit),
        )
        for mean, low, high in listed
    ]


def around(*values: float) -> tuple[float, float]:
    """From where to where a line reaches that holds these values, with a little room at its ends."""
    finite = [value for value in values if abs(value) < float("inf")] or [0.0]
    room = 0.04 * (max(finite) - min(finite))
    return min(finite) - room, max(finite) + room


def scatter(
    points: Sequence[tuple[float, float]], *, chosen: int, front: Sequence[int], names: tuple[str, str]
) -> Html:
    """Points of a trade-off: filled on the front, ringed where chosen.

    Args:
        points: x and y of each.
        chosen: place of the chosen one.
        front: places of those that no other beats in both.
        names: of the axes.
    """
    width, height, edge = _WIDTH, 190, 30
    across_all, up_all = [point[0] for point in points], [point[1] for point in points]
    left, right, low, high = min(across_all), max(across_all), min(up_all), max(up_all)

    def x(value: float) -> float:
        return edge + 8 + (value - left) / (right - left or 1) * (width - 2 * edge - 16)

    def y(value: float) -> float:
        return height - edge - 8 - (value - low) / (high - low or 1) * (height - 2 * edge - 16)

    dots = []
    for number in sorted(range(len(points)), key=lambda n: (n == chosen, n in front)):  # the last is drawn on top
        across, up = points[number]
        place = {"cx": f"{x(across):.1f}", "cy": f"{y(up):.1f}"}
        style = {"fill": COLOURS[0]} if number in front else {"fill": "none", "stroke": GREY}
        dots.append(
            tag("circle", tag("title", f"{names[0]} {across:.4g}, {names[1]} {up:.4g}"), **place, r="4", **style)
        )
        if number == chosen:
            dots.append(tag("circle", **place, r="8", fill="none", stroke=COLOURS[1], stroke_width="2"))
    corners = [
        (edge, height - 10, "start", f"{names[0]} {left:.3g}"),
        (width - edge, height - 10, "end", f"{right:.3g}"),
        (edge, 16, "start", f"{names[1]} {low:.3g} to {high:.3g}"),
    ]
    texts = [
        tag("text", text, x=str(a), y=str(b), text_anchor=anchor, font_size="11", fill=GREY)
        for a, b, anchor, text in corners
    ]
    axes = tag("path", d=f"M{edge} {edge - 6}V{height - edge}H{width - edge}", fill="none", stroke=GREY)
    return _svg(width, height, f"{names[1]} against {names[0]}", axes, *dots, *texts)


def _svg(width: int, height: int, label: str, *content: Html) -> Html:
    # What stands alone becomes smaller on a narrow page; in a cell, it would give way to every other column.
    fits = "max-width:100%;height:auto;" if width == _WIDTH else "max-width:none;"
    style = f"{fits}vertical-align:middle;overflow:visible"
    size = {"width": str(width), "height": str(height), "viewBox": f"0 0 {width} {height}"}
    return tag("svg", *content, **size, role="img", aria_label=label, style=style)
