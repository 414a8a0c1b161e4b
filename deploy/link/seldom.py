"""Prints what was never called: seldom.py PROGRAM TRACE..., where the traces are callgrind's and the program has its symbols.

A line is the largest module, type, `<type as trait>` or function of Rust, or function of C (with brackets), of which no trace called
anything. Smaller ones than 1,000 bytes are left out: they cost more lines than they save pages.
"""

import re
import subprocess
import sys

SMALLEST = 1_000


def called(trace, program):
    """The symbols of the program that a trace of callgrind saw running."""
    objects, functions, seen, here = {}, {}, set(), None
    for line in open(trace):
        if found := re.match(r"c?ob=\((\d+)\)(?: (.*))?$", line):
            objects.setdefault(found[1], found[2])
            if line[0] == "o":
                here = objects[found[1]]
        elif found := re.match(r"c?fn=\((\d+)\)(?: (.*))?$", line):
            functions.setdefault(found[1], found[2])
            if line[0] == "f" and here == program:
                # callgrind marks the depth of a recursion.
                seen.add(re.sub(r"'\d+$", "", functions[found[1]]))
    return seen


def parts(symbol):
    """The path of a symbol: ["tokio", "runtime", ...], of a trait's method that of its type, of C's functions ["name()"]."""
    if not symbol.startswith("_ZN"):
        # The standard library as it is delivered has other names; hand-written assembly of aws-lc has no section for each function.
        return [] if symbol.startswith(("_R", "aws_lc_", "Ledwards")) else [symbol + "()"]
    path, at = [], 3
    while number := re.compile(r"\d+").match(symbol, at):
        at = number.end() + int(number[0])
        path.append(symbol[number.end() : at])
    if of_type := re.match(r"_\$LT\$(\w+(?:\.\.\w+)+)(.*)", path[0]):
        of_trait = re.fullmatch(r"\$u20\$as\$u20\$(\w+(?:\.\.\w+)*)\$GT\$", of_type[2])
        # Types and traits with parameters cannot be named by a line.
        behind = ["as " + of_trait[1].replace("..", "::"), *path[1:-1]] if of_trait else ["<" + of_type[2]]
        return of_type[1].split("..") + behind
    # The last part is the compiler's hash. Methods of primitive types and of type parameters belong to no crate.
    return path[:-1] if path[0][0] != "_" else []


class Node:
    def __init__(self):
        self.children, self.size, self.runs = {}, 0, False


def tree(program, seen):
    """All functions by their paths, with their sizes and whether they were called."""
    root, functions = Node(), {}
    for line in subprocess.run(["nm", "-S", program], check=True, capture_output=True, text=True).stdout.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "tTwW":
            functions.setdefault((int(fields[0], 16), int(fields[1], 16)), []).append(fields[3])
    for (_, size), names in functions.items():
        node = root
        for part in parts(names[0]):
            node = node.children.setdefault(part, Node())
        node.size += size
        # Functions with the same code are one.
        node.runs |= any(name in seen for name in names)
    return root


def line(path):
    """A path as a line of the list; `None` if there is none for it."""
    if not path or not all(re.fullmatch(r"(as )?\w+(::\w+)*(\(\))?", part) for part in path):
        return None
    for at, part in enumerate(path):
        if part.startswith("as "):
            return "::".join([f"<{'::'.join(path[:at])} {part}>", *path[at + 1 :]])
    return "::".join(path)


def seldom(node, path=()):
    """Size, whether anything runs, and the largest parts of which nothing does."""
    size, runs, found = node.size, node.runs, []
    for part, child in node.children.items():
        of_child = seldom(child, (*path, part))
        size, runs = size + of_child[0], runs or of_child[1]
        found += of_child[2]
    if not runs and line(path):
        found = [(size, line(path))]
    return size, runs, found


def main(program, *traces):
    seen = set().union(*(called(trace, program) for trace in traces))
    if len(seen) < 1_000:
        sys.exit(f"seldom.py: only {len(seen)} functions of {program} were called in {len(traces)} traces: is it that program, with its symbols?")
    _, _, found = seldom(tree(program, seen))
    print(*sorted(name for size, name in found if size >= SMALLEST), sep="\n")


main(*sys.argv[1:])
