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
    """A figure with as many digits as mean something, and its unit."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if unit == "calls/s":
        return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.0f} k/s"
    return f"{digits(value, unit)} {unit}".rstrip()


def digits(value, unit):
    if unit == "calls/s":
        return number(value, unit)
    places = 0 if unit in ("", "kB") or abs(value) >= 1000 else 1
    return f"{value:.{places}f}".removesuffix(".0")


def target(line):
    """The figure to reach, in words; "" where there is none at this delay."""
    row = line.row
    if row.target is None or line.delay_ms != scenarios.DELAY_MS:
        return ""
    return ("≥ " if row.at_least else "≤ ") + number(row.target, row.unit)


def table(lines, libraries, judged=True):
    """The rows as lists of words, the first of them the head."""
    counts = [len(cell.values) for line in lines for cell in line.cells.values() if cell.values]
    usual = statistics.mode(counts) if counts else 1
    head = ["scenario", "to reach", "limit"]
    for library in libraries:
        head += [library.name, "min – max", *([""] if judged else [])]
    head.append("[C 0.5.3]")
    rows = [head]
    for line in lines:
        row = line.row
        words = [line.title(), target(line), number(line.limit(), row.unit)]
        for library in libraries:
            cell = line.cells[library.name]
            runs = len(cell.values) + len(cell.problems)
            if cell.values:
                least, most = digits(min(cell.values), row.unit), digits(max(cell.values), row.unit)
                words.append(number(cell.median(), row.unit))
                # One run, or runs that cannot differ.
                words.append(f"{least} – {most}" if len(cell.values) > 1 else "")
            else:
                words += ["no figure" if cell.problems else "", ""]
            if judged:
                verdict = cell.verdict(row, line.delay_ms) or "" if runs else ""
                if cell.problems or (runs not in (0, 1, usual)):
                    came = f"{len(cell.values)} of {runs}" if cell.problems else str(runs)
                    verdict += f" ({came} runs)"
                words.append(verdict.strip())
        words.append(number(row.reference, row.unit) if line.delay_ms == scenarios.DELAY_MS else "")
        rows.append(words)
    return rows


def plain(rows):
    """Columns of the same width; what is a verdict, and the first, to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = [column == 0 or rows[0][column] == "" for column in range(len(widths))]
    lines = []
    for row in rows:
        words = [word.ljust(width) if to_left else word.rjust(width) for word, width, to_left in zip(row, widths, left)]
        lines.append("  ".join(words).rstrip())
    return "\n".join(lines)


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
        # Major and minor: what follows names whose kernel it is, not what it can do.
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
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
        f"# Measured {headline(about)}\n\n{described}\n\n![Chart]({stem}.svg)\n\n"
        f"Medians, {scenarios.DELAY_MS} ms a round trip where no other is named.\n\n{markdown(table(lines, libraries))}\n\n"
        "[C 0.5.3]: the C library, measured before in such a set-up; no part of this run.\n"
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
