"""`python -m protocol` is the command `actorpool`."""

from protocol.command import main

if __name__ == "__main__":
    main()
