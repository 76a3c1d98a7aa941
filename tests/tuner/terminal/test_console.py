import os
import subprocess
import sys


def test_what_an_encoding_lacks_is_a_question_mark():
    code = "from tuner.terminal.console import terminal; terminal().print('a ± b ● …')"
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout == "a ? b ? ?\n" and done.stderr == ""
