"""What tools/kafka_python.py makes of the file of --kafka-config."""

import ssl
from pathlib import Path

from kafka_job.flink.gateway import Jvm
from kafka_job.kafka.broker import Broker
from kafka_job.kafka.config import read_config

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_python import NotInPython, password_settings, python_settings
from secure_broker import certificate_chain, private_key
from test_kafka_config import AUTHORITY, SCRAM, password_in_java, write

LOGIN_LINE = 'x required username="u" password="p";'
LOGIN = {"sasl.mechanism": "PLAIN", "sasl.jaas.config": LOGIN_LINE}


def test_without_properties_it_is_plain_kafka() -> None:
    assert python_settings(Broker("a:1,b:2")) == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}


def test_tls_and_a_password(tmp_path: Path) -> None:
    own = AUTHORITY.issue_cert("localhost")
    key, chain = (pem.replace("\n", "\\n") for pem in (private_key(own), certificate_chain(own)))
    trusted = AUTHORITY.cert_pem.bytes().decode().replace("\n", "\\n")
    properties = read_config(
        write(
            tmp_path,
            "client.id=me",
            "security.protocol=SASL_SSL",
            "sasl.mechanism=SCRAM-SHA-512",
            rf'sasl.jaas.config={SCRAM} required username="alice" password="a\\"b\u20ac";',
            f"ssl.truststore.certificates={trusted}",
            f"ssl.keystore.key={key}",
            f"ssl.keystore.certificate.chain={chain}",
        )
    )
    found = python_settings(Broker("a:1", properties))
    context = found.pop("ssl_context")
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
    assert found == {
        "bootstrap_servers": ["a:1"],
        "client_id": "me",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "alice",
        "sasl_plain_password": 'a"b€',
    }


@given(parts=st.lists(st.characters(codec="utf-8", exclude_characters='"\\\n\r') | st.from_regex(r"(?s)\A\\.\Z")))
def test_what_is_typed_in_quotation_marks(
    parts: list[str],
    jvm: Jvm,
) -> None:
    """Either both clients read the same password, or kafka-python is not asked."""
    typed = f'{SCRAM} required username="u" password="{"".join(parts)}";'
    try:
        found = password_settings({"sasl.mechanism": "PLAIN", "sasl.jaas.config": typed})
    except NotInPython:
        return
    assert found["sasl_plain_password"] == password_in_java(typed)


def test_a_broker_may_have_a_certificate_for_any_name() -> None:
    properties = {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": ""}
    context = python_settings(Broker("a:1", properties))["ssl_context"]
    assert not context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("properties", "what"),
    [
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "sasl.mechanism=OAUTHBEARER"),
        ({"security.protocol": "sasl_plaintext"}, "sasl.mechanism=GSSAPI"),
        ({"security.protocol": "SSL", "ssl.truststore.location": "ca.jks"}, "ssl.truststore.type=JKS"),
        (
            {"security.protocol": "SSL", "ssl.keystore.location": "k", "ssl.keystore.type": "PKCS12"},
            "ssl.keystore.type=PKCS12",
        ),
        ({"security.protocol": "SSL", "ssl.cipher.suites": "A"}, "ssl.cipher.suites"),
        ({"security.protocol": "SASL_SSL", "ssl.engine.factory.class": "A", **LOGIN}, "ssl.engine.factory.class"),
        ({"security.providers": "A"}, "security.providers"),
        (
            {"security.protocol": "SASL_SSL", "sasl.login.callback.handler.class": "A", **LOGIN},
            "sasl.login.callback.handler.class",
        ),
        (
            {"security.protocol": "SASL_SSL", **LOGIN, "sasl.jaas.config": LOGIN_LINE.replace(";", " tokenauth=true;")},
            "a sasl.jaas.config with tokenauth",
        ),
        (
            {"security.protocol": "SASL_SSL", **LOGIN, "sasl.jaas.config": LOGIN_LINE.replace('"p"', r'"\t"')},
            "a sasl.jaas.config with a backslash before a letter or a digit",
        ),
    ],
)
def test_what_it_cannot_do(properties: dict[str, str], what: str) -> None:
    with pytest.raises(NotInPython) as refused:
        python_settings(Broker("a:1", properties))
    assert str(refused.value) == what
