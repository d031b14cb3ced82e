#!/usr/bin/env python3
"""Adds up what the test runners said.

Owns: reading each runner's own closing lines. A runner that ended badly, or said nothing, counts as a failure whatever else it
printed. Refuses to know: what was tested.
"""

import pathlib
import re
import sys

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def count(kind, text, status):
    """(passed, failed) of one runner; None where its closing line is missing."""
    text = COLOURS.sub("", text)
    if kind == "one":
        return (1, 0) if status == 0 else (0, 1)
    if kind == "cargo":
        lines = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed;", text, re.M)
        return (sum(int(p) for p, _ in lines), sum(int(f) for _, f in lines)) if lines else None
    if kind == "vitest":
        line = re.findall(r"^\s*Tests\s+(.*)$", text, re.M)
        if not line:
            return None
        passed = re.search(r"(\d+) passed", line[-1])
        failed = re.search(r"(\d+) failed", line[-1])
        return (int(passed[1]) if passed else 0, int(failed[1]) if failed else 0)
    if kind == "unittest":
        ran = re.search(r"^Ran (\d+) tests?", text, re.M)
        if not ran:
            return None
        bad = sum(int(n) for n in re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", text))
        skipped = sum(int(n) for n in re.findall(r"skipped=(\d+)", text))
        return (int(ran[1]) - bad - skipped, bad)
    raise ValueError(f"no such kind: {kind}")


def judge(kind, text, status):
    """(passed, failed), with at least one failure where the runner did not end well or counted nothing."""
    counted = count(kind, text, status)
    if counted is None or sum(counted) == 0:
        return (0, 1)
    passed, failed = counted
    return (passed, max(failed, 1)) if status != 0 else (passed, failed)


def main(folder):
    folder = pathlib.Path(folder)
    passed = failed = 0
    bad = []
    for line in (folder / "results.tsv").read_text().splitlines():
        name, kind, status, seconds = line.split("\t")
        text = (folder / f"{name}.log").read_text(errors="replace")
        p, f = judge(kind, text, int(status))
        passed, failed = passed + p, failed + f
        print(f"{name:12} {p:>5} passed {f:>3} failed  {seconds:>4} s")
        if f:
            bad.append((name, text))
    for name, text in bad:
        print(f"\n-- the end of {name}")
        print("\n".join(text.splitlines()[-40:]))
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
