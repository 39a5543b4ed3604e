"""The command line: parse, call, print. Nothing heavy is imported before a command runs."""

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from manikin.cli.app import run

        run()
    except KeyboardInterrupt:  # before anything began
        raise SystemExit(130) from None
