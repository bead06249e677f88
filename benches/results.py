"""Figures of many runs: median, minimum, maximum, what they are worth, and how they are written down."""

import datetime
import json
import os
import platform
import statistics

import scenarios

REACHED, AT_BEST, MISSED = "reached", "at best", "not reached"


class Cell:
    """The runs of one row with one library."""

    def __init__(self):
        self.values, self.problems = [], []

    def median(self):
        return statistics.median(self.values)

    def verdict(self, row, delay_ms):
        """Whether the figure is reached; None: there is none."""
        if row.target is None or delay_ms != scenarios.DELAY_MS:
            return None
        if not self.values:
            return MISSED
        reaches = [value >= row.target if row.at_least else value <= row.target for value in self.values]
        wanted = len(reaches) + len(self.problems)
        if row.judged_by == "all":
            return REACHED if sum(reaches) == wanted else MISSED
        if row.judged_by == "19 of 20":
            return REACHED if sum(reaches) >= 0.95 * wanted else MISSED
        median = self.median()
        if median >= row.target if row.at_least else median <= row.target:
            return REACHED
        # A busy machine adds to times and never takes from them.
        return AT_BEST if any(reaches) else MISSED


class Line:
    """One row at one delay, with a cell for each library."""

    def __init__(self, row, delay_ms, libraries):
        self.row, self.delay_ms = row, delay_ms
        self.cells = {library.name: Cell() for library in libraries}

    def limit(self):
        return self.row.limit(self.delay_ms) if self.row.limit else None

    def title(self):
        at = f" ({self.delay_ms} ms)" if self.delay_ms != scenarios.DELAY_MS else ""
        return self.row.title + at


def number(value, unit):
    """A figure with as many digits as mean something."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if unit == "calls/s":
        return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.0f} k/s"
    digits = 0 if unit in ("", "kB") or abs(value) >= 1000 else 1
    text = f"{value:.{digits}f}"
    text = text.removesuffix(".0")
    return f"{text} {unit}".rstrip()


def table(lines, libraries):
    """The rows as lists of words, the first of them the head."""
    head = ["scenario", "figure", "limit"]
    for library in libraries:
        prefix = f"{library.name}: " if len(libraries) > 1 else ""
        head += [f"{prefix}median", "min", "max", "runs", ""]
    head.append("[C 0.5.3]")
    rows = [head]
    for line in lines:
        row = line.row
        sign = "≥ " if row.at_least else "≤ "
        here = line.delay_ms == scenarios.DELAY_MS
        target = sign + number(row.target, row.unit) if here and row.target is not None else ""
        words = [line.title(), target, number(line.limit(), row.unit)]
        for library in libraries:
            cell = line.cells[library.name]
            if cell.values:
                figures = [cell.median(), min(cell.values), max(cell.values)]
                words += [number(value, row.unit) for value in figures]
            else:
                words += ["none" if cell.problems else "", "", ""]
            runs = len(cell.values) + len(cell.problems)
            words.append(f"{len(cell.values)}/{runs}" if cell.problems else str(runs or ""))
            words.append(cell.verdict(row, line.delay_ms) or "" if runs else "")
        words.append(number(row.reference, row.unit) if here else "")
        rows.append(words)
    return rows


def plain(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = []
    for row in rows:
        words = [row[0].ljust(widths[0])]
        for word, width in zip(row[1:], widths[1:]):
            is_verdict = word in (REACHED, AT_BEST, MISSED)
            words.append(word.ljust(width) if is_verdict else word.rjust(width))
        text.append("  ".join(words).rstrip())
    return "\n".join(text)


def markdown(rows):
    head, *body = rows
    text = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    text += [f"| {' | '.join(row)} |" for row in body]
    return "\n".join(text)


def machine():
    model = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    with open("/proc/meminfo") as file:
        memory_gb = int(file.readline().split()[1]) / 1024 / 1024
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{memory_gb:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "load before": os.getloadavg()[0],
    }


def document(lines, libraries, about, notes):
    """Everything, for the JSON file."""
    rows = []
    for line in lines:
        row = line.row
        here = line.delay_ms == scenarios.DELAY_MS
        cells = {}
        for name, cell in line.cells.items():
            if not cell.values and not cell.problems:
                continue
            cells[name] = {"runs": [round(value, 3) for value in cell.values], "problems": cell.problems}
            if cell.values:
                cells[name] |= {
                    "median": round(cell.median(), 3),
                    "min": round(min(cell.values), 3),
                    "max": round(max(cell.values), 3),
                }
            cells[name]["verdict"] = cell.verdict(row, line.delay_ms)
        rows.append(
            {
                "key": row.key,
                "title": row.title,
                "unit": row.unit,
                "delay_ms": line.delay_ms,
                "target": row.target if here else None,
                "at_least": row.at_least,
                "judged_by": row.judged_by,
                "limit": line.limit(),
                "reference": row.reference if here else None,
                "libraries": cells,
            }
        )
    described = [library.describe() for library in libraries]
    return {**about, "libraries": described, "rows": rows, "notes": notes}


def headline(about):
    machine = about["machine"]
    return f"{about['date']}, {machine['cores']} cores of {machine['processor']}, {machine['system']}"


def write(directory, stem, lines, libraries, about, notes, chart):
    """Writes stem.json, stem.md and stem.svg; gives their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    everything = document(lines, libraries, about, notes)
    described = "\n".join(
        f"- {library['name']}: {library['soname']}, ABI {library['abi']}, {library['version']}"
        for library in everything["libraries"]
    )
    noted = "".join(f"- {note}\n" for note in notes)
    text = (
        f"# Measured {headline(about)}\n\n{described}\n\n![Chart]({stem}.svg)\n\n{markdown(table(lines, libraries))}\n\n"
        f"[C 0.5.3] is what the C library was measured with before, in such a set-up; it was not part of this run.\n"
        + (f"\nNoticed:\n\n{noted}" if noted else "")
    )
    paths = []
    for suffix, content in (
        ("json", json.dumps(everything, indent=1, ensure_ascii=False) + "\n"),
        ("md", text),
        ("svg", chart),
    ):
        path = directory / f"{stem}.{suffix}"
        path.write_text(content)
        paths.append(path)
    return paths


def today():
    return datetime.date.today().isoformat()
