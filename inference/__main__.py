"""`python -m inference`: serves the model at MODEL_PATH on HOST:PORT; `--check` is the health check of the image."""

from __future__ import annotations

import signal
import sys

from inference import settings
from inference.errors import BadSetting


def main(arguments: list[str]) -> int:
    if arguments and arguments != ["--check"]:
        print("usage: python -m inference [--check]   (settings are environment variables)", file=sys.stderr)
        return 2
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server listens to it
    try:
        found = settings.read()
        if arguments:
            from inference.check import check  # noqa: PLC0415 - a health check should not load the server

            return check(found)
        from inference import logs, server, tls, workers  # noqa: PLC0415 - wrong settings should be told at once

        logs.set_up(found.log_level)
        if found.certificate:
            tls.context(found.certificate)
        bound = server.listen(found)
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    if found.workers > 1:
        return workers.Master(found, bound).run()
    server.leave(server.serve(found, bound))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
