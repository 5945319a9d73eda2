"""`python -m coordeval`."""

from coordeval.cli.app import main

if __name__ == "__main__":
    main()
