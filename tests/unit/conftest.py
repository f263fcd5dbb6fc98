"""What several files of unit tests use."""

import sys

import pytest


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the command line in this process: (exit code, standard output, standard error)."""

    from crossbar_sim import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["crossbar-sim", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as done:
            code = done.code or 0
        return (code, *capsys.readouterr())

    return run
