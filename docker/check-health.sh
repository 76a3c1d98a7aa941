#!/bin/sh
# Exit code 0 if the address answers with success within 5 seconds, for health checks and for those who wait.
set -eu
exec python3 - "$1" <<'EOF'
import sys, urllib.request

try:
    urllib.request.urlopen(sys.argv[1], timeout=5)
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
EOF
