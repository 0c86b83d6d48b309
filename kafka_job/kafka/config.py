"""How to get in: TLS, passwords and other properties of a Kafka client, from a file that Kafka's own tools take, too.

The properties are in no log, and on no page of Flink's, but they are part of the job that is handed to a cluster. Where
one is bad, or a file that it names, all functions here end the program with one sentence: SystemExit.
"""

import codecs
import os
import re
import stat
import sys
import textwrap
from pathlib import Path

from kafka_job.flink.connector import SHADED
from kafka_job.terminal import say

import javaproperties

Properties = dict[str, str]


class Hidden(Properties):
    """Properties that show no values where they are printed; scripts reach them as plan.broker.properties."""

    def __repr__(self) -> str:
        return "<properties of --kafka-config>"


FLAGS = {"bootstrap.servers": "--bootstrap-servers", "group.id": "--group-id"}
SET_BY_THE_JOB = {  # with others it would not count rightly, or show less of itself
    "acks", "auto.offset.reset", "client.id.prefix", "commit.offsets.on.checkpoint", "enable.auto.commit",
    "enable.idempotence", "group.instance.id", "isolation.level", "key.deserializer", "key.serializer",
    "partition.discovery.interval.ms", "register.consumer.metrics", "transaction.timeout.ms", "transactional.id",
    "value.deserializer", "value.serializer",
}  # fmt: skip
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
ENVIRONMENT = re.compile(r"\$\{env:(\w+)\}")
REFERENCE = re.compile(r"\$\{([\w.-]+):[^}]*\}")  # to what one of Kafka's config providers has
PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----(.+?)-----END \1-----", re.DOTALL)


def read_config(file: str) -> Properties:
    """The properties in a file. Environment variables and PEM files are filled in: other machines have neither."""
    try:
        written = javaproperties.loads(Path(file).read_bytes().removeprefix(codecs.BOM_UTF8).decode("latin-1"))
        warn_of_readers(file, "may hold passwords")
    except OSError as error:
        sys.exit(f"--kafka-config {file} cannot be read: {error.strerror}")
    except ValueError:
        sys.exit(f"--kafka-config {file} has a \\u that no four hexadecimal digits follow; write a backslash as \\\\")
    check_names(written, file)
    properties = {
        name: shade(name, fill_in(name, value, file).strip())
        for name, value in written.items()
        if not name.startswith("config.providers")  # which Kafka's own tools need; here `fill_in` does their work
    }
    protocol = properties.get("security.protocol", "PLAINTEXT")
    if protocol.upper() not in PROTOCOLS:
        sys.exit(f"{file} says security.protocol={protocol}; there are: {', '.join(PROTOCOLS)}")
    for store in ("ssl.truststore", "ssl.keystore"):
        properties = with_pem_file(properties, store, file)
    for name in ("ssl.truststore.certificates", "ssl.keystore.certificate.chain", "ssl.keystore.key"):
        if name in properties:
            properties[name] = PEM_BLOCK.sub(in_lines, properties[name])
    return Hidden(with_plain_key(properties, file))


def warn_of_readers(file: str, why: str) -> None:
    """Say so where every user of this machine can read a file."""
    if Path(file).stat().st_mode & stat.S_IROTH:
        say(f"{file} {why}, and every user can read it; run: chmod 600 {file}")


def check_names(properties: Properties, file: str) -> None:
    """Exit with one sentence where a property is not for the file to set."""
    for name, value in properties.items():
        if name in FLAGS:
            sys.exit(f"{file} sets {name}, for which there is a flag; leave it out there: {FLAGS[name]}")
        if name in SET_BY_THE_JOB:
            sys.exit(f"{file} sets {name}, which the job sets itself, to count rightly; leave it out there")
        for reference in REFERENCE.finditer(value):
            if not ENVIRONMENT.fullmatch(reference[0]):  # it may be a part of a password: most of it is not shown
                here = "of Kafka's config providers there is one here, for environment variables: ${env:NAME}"
                sys.exit(f"{file} has ${{{reference[1]}:...}} in {name}; {here}")


def fill_in(name: str, value: str, file: str) -> str:
    """A value with environment variables, which it names as ${env:NAME}, as Kafka's EnvVarConfigProvider has it."""

    def variable(reference: re.Match[str]) -> str:
        found = os.environ.get(reference[1])
        if found is None:
            sys.exit(f"{file} names the environment variable {reference[1]}, which is not set; export it first")
        if name != "sasl.jaas.config":
            return found
        if "\n" in found or "\r" in found:  # Java reads no further there
            mend = "as the last line of a file has; leave it out: printf %s in place of echo"
            sys.exit(f"{file} names the environment variable {reference[1]}, which has a line end, {mend}")
        return re.sub(r"""(["'\\])""", r"\\\1", found)  # it stands in quotation marks, which it must not end

    return ENVIRONMENT.sub(variable, value)


def shade(name: str, value: str) -> str:
    """The value of a property. Where it names classes of Kafka's, these have other names in the connector."""
    # Some are lists; but what is behind a comma in a login module's options may be a password.
    start = "^" if name == "sasl.jaas.config" else r"(?:^|,)\s*"
    return re.sub(rf"({start})(?=org\.apache\.kafka\.)", rf"\1{SHADED}", value)


def with_pem_file(properties: Properties, store: str, file: str) -> Properties:
    """The properties with the text of a PEM file in place of its name. `store`: ssl.truststore or ssl.keystore."""
    path = properties.get(f"{store}.location")
    if path is None:
        return properties
    if "-----BEGIN" in path:
        sys.exit(f"{file} has a text in {store}.location, which names a file; a text has a property of its own")
    try:
        text = Path(path).read_text("latin-1")
        if store == "ssl.keystore":
            warn_of_readers(path, "holds a private key")
    except OSError as error:
        sys.exit(f"{file} names {store}.location={path}, which cannot be read: {error.strerror}")
    blocks = {match[0]: match[1] for match in PEM_BLOCK.finditer(text)}
    is_pem = properties.get(f"{store}.type") == "PEM"
    if is_pem and not blocks:
        sys.exit(f"{path} has nothing in it that PEM files have, but {file} says {store}.type=PEM")
    if blocks and not is_pem:
        sys.exit(f"{path} is a PEM file; {file} must say so, in capitals: {store}.type=PEM")
    if not is_pem:  # JKS or PKCS12, which Java reads where it runs, in another working directory
        # Not `resolve`: in a container it may be a link, to a file whose name changes.
        return properties | {f"{store}.location": str(Path(path).absolute())}
    others = {name: value for name, value in properties.items() if name != f"{store}.location"}
    keys = [block for block, kind in blocks.items() if kind.endswith("PRIVATE KEY")]
    certificates = "\n".join(block for block in blocks if block not in keys)
    if store == "ssl.truststore":
        return others | {"ssl.truststore.certificates": certificates}
    return others | {"ssl.keystore.certificate.chain": certificates, "ssl.keystore.key": "\n".join(keys)}


def in_lines(block: re.Match[str]) -> str:
    """A match of PEM_BLOCK in lines, which Python needs; in a property it may be in one, with spaces."""
    if "\n" in block[0]:
        return block[0]
    content = textwrap.fill("".join(block[2].split()), 64)
    return f"-----BEGIN {block[1]}-----\n{content}\n-----END {block[1]}-----"


def with_plain_key(properties: Properties, file: str) -> Properties:
    """The properties with a private key in the one form that Kafka's client reads: PKCS #8, and not encrypted."""
    # How openssl encrypts keys today is nothing that Java can name to Kafka: JDK-8231581.
    if "ssl.keystore.key" not in properties:
        return properties
    from cryptography.exceptions import UnsupportedAlgorithm  # only here: few need it
    from cryptography.hazmat.primitives import serialization

    others = {name: value for name, value in properties.items() if name != "ssl.key.password"}
    password = properties.get("ssl.key.password")
    try:
        pem = properties["ssl.keystore.key"].encode()
        key = serialization.load_pem_private_key(pem, password.encode() if password else None)
    except TypeError:  # there is a password, and nothing is encrypted; or the other way round
        mend = "not encrypted; leave out" if password else "encrypted; add to it"
        sys.exit(f"The private key that {file} names is {mend}: ssl.key.password")
    except (ValueError, UnsupportedAlgorithm):
        mend = "or ssl.key.password is another one; mend either of them" if password else "or no key; name another one"
        sys.exit(f"The private key that {file} names is damaged, {mend}")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return others | {"ssl.keystore.key": key.private_bytes(*form).decode()}


def login_options(properties: Properties) -> dict[str, str]:
    """What a login module is told in quotation marks, as username and password."""
    login = properties.get("sasl.jaas.config", "")
    found = re.findall(r"""(\w+)=(["'])((?:(?!\2)[^\\]|\\.)*)\2""", login, re.DOTALL)
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, _, value in found}
