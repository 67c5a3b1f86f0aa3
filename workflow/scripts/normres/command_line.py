"""What the command lines of all commands share."""

import argparse


def make_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose help is a command's docstring: its first line, the options, all else."""
    summary, _, details = doc.partition("\n")
    return argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def require_positive(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, *names: str
) -> None:
    """End with the parser's error where one of these options is given and below 1."""
    for name in names:
        if (value := getattr(arguments, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} is at least 1, not {value}")
