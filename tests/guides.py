#!/usr/bin/env python3
"""Runs README.md and docs/*.md as a newcomer does: every command of every console block, in order, in a fresh clone of its own for each page.

    python3 tests/guides.py [--quick] [--binary target/release/samara] [PAGE ...]

A line that begins with `$ ` is a command, with the lines that end in a backslash; other lines of a block are its output, each of which must be
printed, in this order. An … stands for anything, on a line of its own for any lines. A comment before a block marks it:

    <!-- guide: skip, REASON -->   it is not run
    <!-- guide: long -->           it is left out with --quick
    <!-- guide: exit N -->         its last command ends with this exit code

Ends with exit code 1 at the first command that does otherwise than its page says, and at a link to a file that is not there.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MARK = re.compile(r"<!-- guide: (skip, .+|long|exit \d+) -->")
TIME_LIMIT_S = 1800


class Wrong(Exception):
    """A page that cannot be run, or a command that does otherwise than it says."""


class Command:
    def __init__(self, place, text):
        self.place, self.text, self.shown, self.exit = place, text, [], 0


class Block:
    def __init__(self, mark):
        self.mark, self.commands = mark, []

    def close(self):
        if self.commands and (self.mark or "").startswith("exit "):
            self.commands[-1].exit = int(self.mark.removeprefix("exit "))

    def left_out(self, quick):
        """Why the block is not run, or None."""
        mark = self.mark or ""
        if mark.startswith("skip, "):
            return mark.removeprefix("skip, ")
        return "long" if mark == "long" and quick else None


def blocks_of(page):
    """The console blocks of a page."""
    blocks, block, fence, mark = [], None, False, None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        place = f"{page.name}:{number}"
        if line.startswith("```"):
            if fence:
                if block:
                    block.close()
                block, fence = None, False
                continue
            language, fence = line[3:], True
            if language in ("sh", "bash", "shell"):
                raise Wrong(f"{place}: a block of {language}; expected console, whose commands begin with `$ `")
            if language == "console":
                block = Block(mark)
                blocks.append(block)
            mark = None
        elif not fence:
            found = MARK.fullmatch(line)
            if line.startswith("<!-- guide:") and not found:
                raise Wrong(f"{place}: expected one of the marks of tests/guides.py, found {line}")
            mark = found[1] if found else (mark if not line.strip() else None)
        elif block:
            last = block.commands[-1] if block.commands else None
            if line.startswith("$ "):
                block.commands.append(Command(place, line[2:]))
            elif last and last.text.endswith("\\"):
                last.text += "\n" + line
            elif last:
                last.shown.append(line)
            else:
                raise Wrong(f"{place}: output before a command, which begins with `$ `")
    return blocks


def missing_line(shown, printed):
    """The first line of `shown` that is not printed after those before it, or None."""
    lines = iter(line.rstrip() for line in printed.splitlines())
    for line in shown:
        if line.strip() in ("", "…"):
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in line.rstrip().split("…")))
        if not any(pattern.fullmatch(found) for found in lines):
            return line
    return None


def run(command, clone, environment):
    print(f"{command.place}: {command.text}", flush=True)
    done = subprocess.run(["bash", "-c", command.text], cwd=clone, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", timeout=TIME_LIMIT_S, check=False)
    if done.returncode != command.exit:
        raise Wrong(f"{command.place}: expected exit code {command.exit}, found {done.returncode}\n{done.stdout[-4000:]}")
    missing = missing_line(command.shown, done.stdout)
    if missing is not None:
        raise Wrong(f"{command.place}: expected the line\n{missing}\nfound\n{done.stdout[-4000:]}")


def fresh_clone(clone):
    """What git would have in a commit of this folder, and nothing that was built or written here."""
    shutil.rmtree(clone, ignore_errors=True)
    git = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, stdout=subprocess.PIPE, check=False)
    if listed.returncode != 0:
        print("note: this is no work tree of git: everything is copied but target, runs and hidden folders")
        shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns("target", "runs", ".*"))
        return
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)


def check_links(page):
    """Links to files lead somewhere."""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        for name in LINK.findall(line):
            if not (page.parent / name).exists():
                raise Wrong(f"{page.name}:{number}: the link leads to {name}, which is not there")


def run_page(page, quick, clone, environment):
    blocks = blocks_of(page)
    check_links(page)
    fresh_clone(clone)
    count = 0
    for block in blocks:
        why = block.left_out(quick)
        for command in block.commands:
            if why:
                print(f"{command.place}: not run ({why}): {command.text}")
            else:
                run(command, clone, environment)
                count += 1
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out blocks that are marked long")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/samara", help="what `samara` is in the pages")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="pages to run; none: README.md and docs/*.md")
    args = parser.parse_args()
    if not args.binary.is_file():
        sys.exit(f"{args.binary} is not there: cargo build --release")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        path = os.pathsep.join([str(scratch / "installed/bin"), str(args.binary.resolve().parent), os.environ["PATH"]])
        # What cargo installs and builds stays in the scratch folder, unless CARGO_TARGET_DIR says where earlier builds are.
        kept = {"CARGO_TARGET_DIR": str(scratch / "target")}
        environment = kept | os.environ | {"PATH": path, "CARGO_INSTALL_ROOT": str(scratch / "installed")}
        try:
            for page in args.pages or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
                before = children_s()
                count = run_page(page, args.quick, scratch / "clone", environment)
                print(f"== {page.name}: {count} commands do as the page says, {children_s() - before:.1f} CPU-seconds", flush=True)
        except Wrong as wrong:
            sys.exit(str(wrong))


def children_s():
    """CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
