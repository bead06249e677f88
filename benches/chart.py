"""The bar chart: an SVG file that needs nothing but a browser."""

import html
import math

import scenarios
from results import number

_COLOURS = ["#1f6feb", "#bf5700", "#2da44e", "#8250df", "#cf222e", "#6e7781"]
_REFERENCE = "#b8bec6"
_LEFT, _WIDTH, _RIGHT = 330, 560, 130
_BAR, _GAP, _TOP = 13, 12, 84


def draw(lines, libraries, title):
    """The times at DELAY_MS, on a logarithmic scale: bars of the medians with lines from minimum to maximum, a mark at each
    figure to reach and at each limit."""
    shown = [
        line
        for line in lines
        if line.delay_ms == scenarios.DELAY_MS
        and line.row.unit == "ms"
        and not line.row.key.startswith("idle")
        and any(cell.values for cell in line.cells.values())
    ]
    has_reference = any(_reference(line) for line in shown)
    numbers = [value for line in shown for cell in line.cells.values() for value in cell.values]
    numbers += [value for line in shown for value in (line.row.target, line.limit(), _reference(line)) if value]
    low = 10 ** math.floor(math.log10(max(1.0, min([n for n in numbers if n > 0], default=10))))
    high = max(numbers, default=100) * 1.3

    def x(value):
        share = math.log10(max(value, low) / low) / math.log10(high / low)
        return _LEFT + _WIDTH * min(share, 1)

    parts, y = [], _TOP
    for line in shown:
        top = y
        for index, library in enumerate(libraries):
            cell = line.cells[library.name]
            colour = _COLOURS[index % len(_COLOURS)]
            if cell.values:
                median, least, most = cell.median(), min(cell.values), max(cell.values)
                label = number(median, line.row.unit)
                parts.append(_bar(_LEFT, x(median), y, colour))
                middle = y + _BAR / 2
                parts.append(_path(f"M{x(least):.1f} {middle}H{x(most):.1f}", "#24292f", 1.2))
                right = max(x(median), x(most))
                mark = x(line.row.target) if line.row.target else 0
                # Not across the mark.
                if right - 2 <= mark <= right + 50:
                    right = mark
                parts.append(_text(right + 5, y + _BAR - 2, label, "label"))
            else:
                parts.append(_text(_LEFT + 5, y + _BAR - 2, "none", "label"))
            y += _BAR + 1
        if reference := _reference(line):
            parts.append(_bar(_LEFT, x(reference), y, _REFERENCE))
            parts.append(_text(x(reference) + 5, y + _BAR - 2, number(reference, line.row.unit), "label"))
            y += _BAR + 1
        if limit := line.limit():
            parts.append(_path(f"M{x(limit):.1f} {top - 2}V{y + 1}", "#57606a", 1.2, "2 2"))
        if line.row.target:
            parts.append(_path(f"M{x(line.row.target):.1f} {top - 2}V{y + 1}", "#d1242f", 1.6))
        parts.append(_text(_LEFT - 8, (top + y) / 2 + 4, line.row.title, "row"))
        y += _GAP
    grid = []
    tick = low
    while tick <= high:
        grid.append(_path(f"M{x(tick):.1f} {_TOP - 8}V{y - _GAP + 4}", "#d8dee4", 1))
        words = f"{tick} ms" if tick < 1000 else f"{tick // 1000} s"
        grid.append(_text(x(tick), y + 8, words, "tick"))
        tick *= 10
    height, width = y + 24, _LEFT + _WIDTH + _RIGHT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
            "<style>text{font:12px system-ui,sans-serif;fill:#24292f}.row{text-anchor:end}.tick{text-anchor:middle;"
            "fill:#57606a}.label{font-size:11px}.title{font-size:15px;font-weight:600}</style>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            _text(12, 24, title, "title"),
            *_legend(libraries, has_reference),
            *grid,
            *parts,
            "</svg>\n",
        ]
    )


def _reference(line):
    return line.row.reference if isinstance(line.row.reference, (int, float)) else None


def _legend(libraries, has_reference):
    parts, x = [], 12
    entries = [(library.name, _COLOURS[index % len(_COLOURS)]) for index, library in enumerate(libraries)]
    if has_reference:
        entries.append(("C library 0.5.3, measured before", _REFERENCE))
    for name, colour in entries:
        parts.append(f'<rect x="{x}" y="40" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 17, 50, name, "label"))
        x += 34 + 7 * len(name)
    for name, colour, dashes in ("figure to reach", "#d1242f", None), ("limit", "#57606a", "2 2"):
        parts.append(_path(f"M{x + 4} 39V53", colour, 1.6, dashes))
        parts.append(_text(x + 12, 50, name, "label"))
        x += 30 + 7 * len(name)
    return parts


def _bar(left, right, y, colour):
    return f'<rect x="{left}" y="{y}" width="{max(right - left, 1):.1f}" height="{_BAR}" fill="{colour}"/>'


def _path(commands, colour, width, dashes=None):
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="{commands}" stroke="{colour}" stroke-width="{width}" fill="none"{dashed}/>'


def _text(x, y, words, kind):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{html.escape(words)}</text>'
