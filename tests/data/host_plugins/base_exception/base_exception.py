"""Raises what `except Exception` lets through, and whose message cannot be shown."""


class Odd(BaseException):
    def __str__(self):
        raise RuntimeError("no message")


raise Odd
