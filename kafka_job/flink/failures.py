"""Why a job has failed: a Python traceback where a Python function was the cause, else the last cause in Java.

Leans on: how Java prints a failure; among its frames those of Python, as pemja writes them in thread mode, or a
traceback, as Beam does in process mode.
"""

import re
import traceback


def why_it_failed(java: str) -> str:
    """The cause of a failure, from what Java says of it: a Python traceback, or else a sentence."""
    causes = re.findall(r"^Caused by: (.*)", java, re.MULTILINE)
    return error_in_thread(java) or error_in_process(java) or no_longer_let_in(causes) or (causes or [java])[-1]


def no_longer_let_in(causes: list[str]) -> str | None:
    """That a broker refuses what it has granted before, as after a change of password; None where it does not."""
    refused = re.compile(r"\S+\.kafka\.common\.errors\.\w+(?:Authentication|Authorization)Exception: (.*)")
    for why in filter(None, map(refused.match, causes)):
        mend = "mend its rights, what has changed, or --kafka-config; then the same command goes on"
        return f"The broker does not let this client in, or not any more ({why[1]}); {mend}"
    return None


def error_in_thread(java: str) -> str | None:
    """The traceback of a Python function that has failed inside Flink's JVM; None where there is none.

    Its frames are among those of Java, the innermost first: at FOLDER/MODULE.FUNCTION(FILE:LINE)
    """
    errors = re.findall(r"pemja.core.PythonException: <class '(.*)'>: (.*)((?:\n\tat .*)*)", java)
    if not errors:
        return None
    kind, message, stack = errors[-1]
    frames = [
        (f"{folder}/{file}", int(line), function, None)
        for folder, function, file, line in re.findall(r"at (/.*)/[^/]+?\.([^/(]+)\((.+\.py):(\d+)\)", stack)
        if "/pyflink/" not in folder  # says nothing about the script
    ]
    calls = "".join(traceback.StackSummary.from_list(reversed(frames)).format())
    return f"Traceback (most recent call last):\n{calls}{kind.removeprefix('builtins.')}: {message}"


def error_in_process(java: str) -> str | None:
    """The traceback of a Python function that has failed in a process of its own; None where there is none."""
    error = re.search(r"Traceback \(most recent call last\):\n.*?(?=\n\n|\n\tat )", java, re.DOTALL)
    if not error:
        return None
    # Without the frames of Flink and Beam, which say nothing about the script.
    return re.sub(r'^  File "[^"]*(?:pyflink|apache_beam)/.*?(?=^  File|^\S)', "", error[0], flags=re.M | re.S)
