"""Java's classes and objects, by way of PyFlink's connection to the JVM.

Leans on: get_gateway. Whoever calls `private` leans on a field that its class does not promise.
"""

from functools import reduce
from typing import Any

from py4j.java_gateway import JavaObject
from pyflink.java_gateway import get_gateway


def java_class(name: str) -> Any:
    """A Java class by its full name; the JVM must have been started, see gateway.py."""
    return reduce(getattr, name.split("."), get_gateway().jvm)


def private(java: JavaObject, *names: str) -> JavaObject:
    """The value of a private field, the first of these names that there is; raises AttributeError: Flink has others."""
    owner = java.getClass()
    while owner:
        fields = {field.getName(): field for field in owner.getDeclaredFields()}
        for name in names:
            if name in fields:
                fields[name].setAccessible(True)
                return fields[name].get(java)
        owner = owner.getSuperclass()
    raise AttributeError(f"{java.getClass().getName()} has no field {' or '.join(names)}; see tests/test_seams.py")
