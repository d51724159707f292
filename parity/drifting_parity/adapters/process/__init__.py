"""Judged code in a process of its own, so that it cannot reach what judges it.

``isolated`` is the adapter that the harness sees. It sends every call over a private socket
(``wire``: a JSON header, then the arrays' bytes) to a ``worker``, which imported the code under
judgement and answers. A ``warden`` between them ends the worker with all that it started, watches
its memory and keeps what it prints. Checks, reference and verdicts stay with the judge; an answer
is data, held to the type that the method promises.

This is a guard against accidents and against code that would rather not be judged, with the same
rights as the judge: no sandbox for code that you would not run at all.
"""
