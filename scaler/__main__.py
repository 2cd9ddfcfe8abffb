"""``python -m scaler``: the command line."""

import sys


def main() -> None:
    """Run the command line. ``decide`` is started by programs, many times over, so it goes past the framework."""
    if sys.argv[1:2] == ["decide"] and not {"-h", "--help"} & set(sys.argv):
        from scaler.cli.deciding import main as decide_main  # noqa: PLC0415

        sys.exit(decide_main(sys.argv[2:]))
    from scaler.cli.app import main as app_main  # noqa: PLC0415

    app_main()


if __name__ == "__main__":
    main()
