"""Why a broker does not let a client in: one sentence, from what kafka-python logs while it tries in vain."""

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from kafka_job.clients import host_and_port

from kafka.errors import (
    IllegalSaslStateError,
    KafkaTimeoutError,
    RequestTimedOutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

TIMEOUT = 3.0  # seconds that a broker has to answer before the job starts
# OpenSSL's X509_V_ERR_..., see the manual page of X509_STORE_CTX_get_error
EXPIRED, OTHER_NAME, UNKNOWN_AUTHORITY = {10}, {62, 64}, {2, 18, 19, 20, 21}


@contextlib.contextmanager
def errors_of_kafka_python() -> Iterator[list[BaseException]]:
    """The errors that kafka-python logs in the `with` block: it tries again, and raises only that it took too long."""
    errors: list[BaseException] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = record.args if isinstance(record.args, tuple) else ()
            errors.extend(one for one in found if isinstance(one, BaseException))

    logger, collect = logging.getLogger("kafka.net"), Collect()
    logger.addHandler(collect)
    try:
        yield errors
    finally:
        logger.removeHandler(collect)


def accepts_connections(host: str, port: int) -> bool:
    """Whether something accepts TCP connections there."""
    try:
        socket.create_connection((host, port), TIMEOUT).close()
    except OSError:
        return False
    return True


def speaks_tls(host: str, port: int) -> bool:
    """Whether what listens there speaks TLS, with any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), TIMEOUT) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # that is TLS, too: it wants a certificate, or another name
    except OSError:
        return False


def why_not_in(errors: list[BaseException], settings: dict[str, Any], bootstrap_servers: str) -> str:
    """One sentence. `errors` and `settings`: those of a client of kafka-python that could not get in."""
    broker = f"The broker on {bootstrap_servers}"
    addresses = [host_and_port(address) for address in settings["bootstrap_servers"]]
    if not any(accepts_connections(*address) for address in addresses):
        return f"No Kafka broker answers on {bootstrap_servers}; start one: docker compose up -d (or: make broker)"
    protocol = settings["security_protocol"]
    if "SSL" in protocol:
        if not any(speaks_tls(*address) for address in addresses):
            return f"{broker} does not speak TLS; mend --kafka-config: security.protocol=PLAINTEXT (or SASL_PLAINTEXT)"
        for error in errors:
            if why := why_not_by_tls(error):
                return f"{broker} {why}"
    elif any(speaks_tls(*address) for address in addresses):
        tls = f"security.protocol={'SASL_SSL' if 'SASL' in protocol else 'SSL (or SASL_SSL)'}"
        return f"{broker} asks for TLS; say so in a file, and name it: {tls}, --kafka-config FILE"
    if any(isinstance(error, IllegalSaslStateError) for error in errors):
        plain = protocol.replace("SASL_PLAINTEXT", "PLAINTEXT").replace("SASL_", "")
        return f"{broker} asks for no user and password; mend --kafka-config: security.protocol={plain}"
    if any(isinstance(error, UnsupportedSaslMechanismError) for error in errors):
        return f"{broker} does not know sasl.mechanism={settings['sasl_mechanism']}; mend --kafka-config"
    if errors and all(isinstance(error, KafkaTimeoutError | RequestTimedOutError) for error in errors):
        return f"What listens on {bootstrap_servers} does not answer within {TIMEOUT:.0f} seconds; see what it is"
    if "SASL" in protocol:
        said = f"{broker} does not let in the user {settings['sasl_plain_username']} with {settings['sasl_mechanism']}"
        mend = "mend name or password in --kafka-config: sasl.jaas.config"
        if any(isinstance(error, SaslAuthenticationFailedError) for error in errors):
            return f"{said}; {mend}"
        # Kafka says why as it closes the connection, and kafka-python often sees that it is closed, and reads no more.
        return f"{said} (it closes the connection); {mend}, or ask whoever runs it"
    why = (
        f"is not Kafka, or asks for user and password; say so in a file, and name it: security.protocol=SASL_{protocol}"
    )
    return f"What listens on {bootstrap_servers} {why}, --kafka-config FILE"


def why_not_by_tls(error: BaseException) -> str | None:
    """What is wrong with certificates, as the end of a sentence; None where nothing is, as far as this error says."""
    cause = error.__context__ or (error.args[0] if error.args else None)  # of a KafkaConnectionError
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in EXPIRED:
            return "has a certificate that has expired; let whoever runs it renew that"
        if cause.verify_code in OTHER_NAME:
            return f"has a certificate for another name ({cause.verify_message}); mend --bootstrap-servers"
        if cause.verify_code in UNKNOWN_AUTHORITY:
            return (
                "has a certificate of an authority that is not trusted; name its own: ssl.truststore.location=FILE.pem"
            )
        return f"has a certificate that is not valid ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
        mend = "name one that its authority has signed: ssl.keystore.location=FILE.pem"
        return f"asks for a certificate, and got none, or one that it does not take ({cause.reason}); {mend}"
    if isinstance(cause, ssl.SSLError):
        return "does not speak TLS; mend --kafka-config: security.protocol=PLAINTEXT (or SASL_PLAINTEXT)"
    return None
