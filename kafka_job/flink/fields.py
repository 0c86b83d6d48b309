"""Private fields of Java objects, for what Flink knows and does not hand out."""

from py4j.java_gateway import JavaObject


def private(java: JavaObject, name: str) -> JavaObject:
    """The value of a private field.

    Raises:
        AttributeError: there is none of this name, as where another version of Flink has renamed it.
    """
    owner = java.getClass()
    while owner is not None:
        if name in [field.getName() for field in owner.getDeclaredFields()]:
            field = owner.getDeclaredField(name)
            field.setAccessible(True)
            return field.get(java)
        owner = owner.getSuperclass()
    raise AttributeError(f"Flink's class {java.getClass().getName()} has no field {name}; see tests/test_seams.py")
