import subprocess
import sys

from tinytl.commands.pipe import run_for_reader


def test_the_exit_code_is_the_commands_own():
    assert run_for_reader(lambda: 3) == 3


def test_a_reader_that_leaves_is_no_error():
    script = (
        "import sys; from tinytl.commands.pipe import run_for_reader;"
        "sys.exit(run_for_reader(lambda: print('line\\n' * 100_000) or 0))"
    )
    command = f'set -o pipefail; {sys.executable} -c "{script}" | head -1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "line\n", "")
