import socket

import pytest

from tinytl.errors import ConfigError
from tuner.ports import HOST, check_free, check_port


def test_a_port_in_use_names_the_flag_and_one_that_is_free_passes():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: nothing can listen at 127.0.0.1:{port}"):
            check_free(port, "--port")
    check_free(port, "--port")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port(port):
    with pytest.raises(ConfigError, match="a port is a number from 1 to 65535"):
        check_port(port, "--dashboard-port")
