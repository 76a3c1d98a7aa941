"""What a terminal shows as an SVG: the picture of the live view in docs/.

tmux new-session -d -s study -x 100 -y 24 'python launch.py --set resolution=32; sleep 60'
tmux capture-pane -t study -e -p | python -m benchmarks.service.terminal_picture docs/terminal.svg --width 100
"""

import argparse
import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main() -> None:
    """Reads the terminal's text, colours included, from standard input, and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=100, help="columns of the terminal")
    parser.add_argument("--title", default="python launch.py")
    args = parser.parse_args()
    console = Console(record=True, width=args.width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(sys.stdin.read().rstrip()), soft_wrap=True)
    # Without Rich's fonts from the network: the reader's own are good enough.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=args.title), flags=re.DOTALL)
    args.out.write_text(picture)


if __name__ == "__main__":
    main()
