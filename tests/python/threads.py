"""What the programs beside this one have in common: they do something in several threads."""

import threading


def run(functions):
    """Calls each of `functions` in a thread of its own, and fails if one of them does."""
    failures = []

    def watched(function):
        try:
            function()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=watched, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
