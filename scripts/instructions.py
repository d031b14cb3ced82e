#!/usr/bin/env python3
"""Counts the instructions of the hot paths, and holds them against the numbers that were accepted.

Owns: building `homeroom-instructions`, running it under Valgrind in a world that stands still, and what counts as too many.
Refuses to know: what the paths do (server/src/instructions.rs and its neighbours).

usage: scripts/instructions.py check     fail where a path takes another number of instructions than server/instructions.tsv says
       scripts/instructions.py accept    write the numbers of this build there
"""

import os
import pathlib
import re
import resource
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ACCEPTED = pathlib.Path("server/instructions.tsv")
OUT = pathlib.Path("target/instructions")
STILL = OUT / "still.so"
COUNTED = OUT / "counted"
PROGRAM = "target/debug/homeroom-instructions"
# What a path may differ by. Two runs of one build differ by nothing, another processor by less than one in a hundred.
LEEWAY = 0.05
# Another compiler alone moves numbers by more than that: with one, only what nobody would call noise is found.
LEEWAY_OF_ANOTHER_COMPILER = 0.25
# A thousand sockets, and what a program has besides.
FILES = 4096


def build():
    OUT.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", STILL, "scripts/still.c"], check=True)
    cargo = ["cargo", "build", "--workspace", "--locked", "--features", "homeroom/instructions", "--bin", "homeroom-instructions"]
    without_increments = os.environ | {"CARGO_INCREMENTAL": "0"}
    subprocess.run([*cargo, "--config", "scripts/instructions.toml"], check=True, env=without_increments)


def count():
    """{path: instructions} of one run. The environment is part of what stands still: it lies on the stack."""
    for old in OUT.glob("counted*"):
        old.unlink()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard), hard))
    # The two patterns say the same; Valgrind would take one option only for one pattern.
    counting = ["--toggle-collect=*counted_*", "--dump-after=*::counted_*", f"--callgrind-out-file={COUNTED}"]
    valgrind = ["valgrind", "--quiet", "--tool=callgrind", *counting, PROGRAM]
    still = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(STILL)}
    said = subprocess.run(valgrind, check=True, env=still, stdout=subprocess.PIPE, text=True, timeout=300).stdout
    return named(said.split(), [path.read_text() for path in in_order(OUT.glob("counted.*"))])


def in_order(dumps):
    return sorted(dumps, key=lambda path: int(path.suffix[1:]))


def named(paths, dumps):
    """The names that the program said, with the totals that Valgrind wrote down after each path."""
    if len(paths) != len(dumps) or not paths:
        raise ValueError(f"{len(paths)} paths were gone and {len(dumps)} counted: has the compiler joined two of them, or none been found?")
    return {path: total(dump) for path, dump in zip(paths, dumps)}


def total(dump):
    found = re.search(r"^totals: (\d+)$", dump, re.M)
    if found is None or int(found[1]) == 0:
        raise ValueError("nothing was counted for a path")
    return int(found[1])


def read(text):
    """({path: instructions}, compiler) as accepted."""
    compiler = re.search(r"^# by (.*)$", text, re.M)
    lines = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return {path: int(number) for path, number in lines}, compiler[1] if compiler else ""


def written(counted, compiler):
    head = [
        "# Owns: how many instructions each hot path takes (server/src/instructions.rs says what they are), as accepted.",
        "# To accept others on purpose: scripts/instructions.py accept, and say in the commit why.",
        f"# by {compiler}",
    ]
    return "\n".join(head + [f"{path}\t{number}" for path, number in counted.items()]) + "\n"


def compare(accepted, counted, leeway):
    """(a line for each path, what is wrong)."""
    lines, wrong = [], []
    for path in [*accepted, *(path for path in counted if path not in accepted)]:
        was, now = accepted.get(path), counted.get(path)
        if was is None or now is None:
            wrong.append(f"{path} is {'not in ' + str(ACCEPTED) if was is None else 'not counted any more'}")
            continue
        change = now / was - 1
        lines.append(f"{path:32} {was:>12,} {now:>12,} {change:>+8.1%}")
        if abs(now - was) > leeway * was:
            rose = "more" if change > 0 else "fewer"
            wrong.append(f"{path} takes {now:,} instructions where {was:,} were accepted: {abs(change):.1%} {rose}, {leeway:.0%} is the leeway")
    return lines, wrong


def compiler():
    said = dict(line.split(": ", 1) for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if ": " in line)
    return f"rustc {said['release']} for {said['host']}"


def check():
    accepted, by = read(ACCEPTED.read_text())
    here = compiler()
    if by.split()[-1:] != here.split()[-1:]:
        print(f"not checked: the accepted numbers are {by}, and this is {here}")
        return 0
    leeway = LEEWAY
    if by != here:
        leeway = LEEWAY_OF_ANOTHER_COMPILER
        print(f"the accepted numbers are by {by}, and this is {here}: {leeway:.0%} is the leeway instead of {LEEWAY:.0%}")
    build()
    counted = count()
    lines, wrong = compare(accepted, counted, leeway)
    print("\n".join([f"{'':32} {'accepted':>12} {'now':>12}", *lines]))
    if not wrong:
        return 0
    print("", *wrong, sep="\n")
    print(f"\nWhere they are: callgrind_annotate {COUNTED}.N, with N the path's place in the list, from 1.")
    print(f"If it is meant: scripts/instructions.py accept, and commit {ACCEPTED} with the reason.")
    return 1


def accept():
    build()
    ACCEPTED.write_text(written(count(), compiler()))
    print(ACCEPTED.read_text(), end="")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    commands = {"check": check, "accept": accept}
    if sys.argv[1:] not in [[name] for name in commands]:
        sys.exit(__doc__)
    sys.exit(commands[sys.argv[1]]())
