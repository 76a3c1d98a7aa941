"""Processes that a benchmark started itself, found by their parents in /proc (Linux)."""

from pathlib import Path


def command_line(process: int) -> list[str]:
    """Returns the words of a process's command, or what it calls itself; nothing if it has ended."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return [word.decode(errors="replace") for word in words if word]


def descendants(ancestor: int) -> list[int]:
    """Returns the children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name is in brackets and may hold anything; the parent is the second word after it.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, queue = [], [ancestor]
    while queue:
        own = children.get(queue.pop(), [])
        found += own
        queue += own
    return found
