"""Runs to and from other tools' formats."""
