"""The file of --kafka-config, and what Kafka's client reads in it. No broker; tests/test_secure.py has one."""

from pathlib import Path
from unittest.mock import Mock, call

from kafka_job import Plan
from kafka_job.flink import gateway
from kafka_job.flink.connector import kafka_class
from kafka_job.kafka.broker import Broker
from kafka_job.kafka.config import fill_in, login_options, read_config
from kafka_job.options import JobOptions

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway

from secure_broker import certificate_chain, private_key

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
SHADED_SCRAM = f"org.apache.flink.kafka.shaded.{SCRAM}"
AUTHORITY = trustme.CA()


def write(folder: Path, *properties: str) -> str:
    """A file of properties that nobody else can read; its path."""
    file = folder / "client.properties"
    file.touch(mode=0o600)
    file.write_text("\n".join(properties))
    return str(file)


def test_a_file_as_it_is_in_kafkas_documentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    login = [rf"sasl.jaas.config={SCRAM} required \ ", r'  username="alice" \ ', r'  password="a\\"b\u20ac";']
    login = [line.rstrip() for line in login]  # a line that goes on ends with its backslash
    properties = read_config(
        write(tmp_path, "# a comment", "security.protocol=SASL_SSL", "sasl.mechanism : SCRAM-SHA-512", *login)
    )
    assert properties == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": f'{SHADED_SCRAM} required username="alice" password="a\\"b€";',
    }
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("jvm")
@pytest.mark.parametrize("mark", ["'", '"'])
@given(password=st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1))
def test_any_password_from_the_environment(
    mark: str,
    password: str,
) -> None:
    """It stands in quotation marks, and may have some, or backslashes, or what looks like another variable."""
    text = f"{SCRAM} required username={mark}u{mark} password={mark}${{env:PASSWORD}}{mark};"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PASSWORD", password)
        filled = fill_in("sasl.jaas.config", text, "file")
        assert fill_in("ssl.key.password", "${env:PASSWORD}", "file") == password
    assert login_options({"sasl.jaas.config": filled}) == {"username": "u", "password": password}
    assert password_in_java(filled) == password


def password_in_java(login: str) -> str:
    """The password that Kafka's Java client finds in a sasl.jaas.config; raises Py4JJavaError where it finds none."""
    gateway.start(has_python=True)
    config = get_gateway().jvm.java.util.HashMap()
    config["sasl.jaas.config"] = kafka_class("common.config.types.Password")(login)
    context = kafka_class("common.security.JaasContext").loadClientContext(config)
    return context.configurationEntries()[0].getOptions()["password"]


@pytest.mark.usefixtures("jvm")
@pytest.mark.parametrize("password", ["one\n", "two\r\n", "in\nit"])
def test_a_line_end_in_a_password(password: str, tmp_path: Path) -> None:
    """Java cannot read it, so it is refused; a private key has some."""
    with pytest.raises(Py4JJavaError):
        password_in_java(f'{SCRAM} required username="u" password="{password}";')
    lines = f'sasl.jaas.config={SCRAM} required username="u" password="${{env:PASSWORD}}";', "client.id=${env:PASSWORD}"
    file = write(tmp_path, *lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PASSWORD", password)
        said = rf"^{file} names the environment variable PASSWORD, which has a line end, .* in place of echo$"
        with pytest.raises(SystemExit, match=said):
            read_config(file)
        assert read_config(write(tmp_path, lines[1])) == {"client.id": password.strip()}


def test_a_variable_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_PASSWORD", raising=False)
    file = write(tmp_path, "ssl.key.password=${env:KAFKA_PASSWORD}")
    said = rf"^{file} names the environment variable KAFKA_PASSWORD, which is not set; export it first$"
    with pytest.raises(SystemExit, match=said):
        read_config(file)


def test_what_makes_kafkas_own_tools_read_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They need two lines more; these are not for Flink, whose workers have another environment."""
    monkeypatch.setenv("KAFKA_CLIENT", "me")
    provider = "config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider"
    found = read_config(write(tmp_path, "config.providers=env", provider, "client.id=${env:KAFKA_CLIENT}"))
    assert found == {"client.id": "me"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bootstrap.servers=a:1", r"sets bootstrap\.servers, for which there is a flag; .*: --bootstrap-servers$"),
        ("group.id=mine", r"sets group\.id, for which there is a flag; leave it out there: --group-id$"),
        ("isolation.level=read_uncommitted", r"sets isolation\.level, which the job sets itself, to count rightly"),
        ("auto.offset.reset=latest", r"sets auto\.offset\.reset, which the job sets itself"),
        ("ssl.key.password=${file:/etc/secrets:key}", r"has \$\{file:\.\.\.\} in ssl\.key\.password; of Kafka.s con"),
        ("client.id=${env:A-B}", r"has \$\{env:\.\.\.\} in client\.id; .* environment variables: \$\{env:NAME\}$"),
        ("client.id=${env:A}${dir:b}", r"has \$\{dir:\.\.\.\} in client\.id; of"),
        ("acks=0", r"sets acks, which the job sets itself, to count rightly; leave it out there$"),
        ("commit.offsets.on.checkpoint=false", r"sets commit\.offsets\.on\.checkpoint, which the job sets itself"),
        ("register.consumer.metrics=false", r"sets register\.consumer\.metrics, which the job sets itself"),
        ("client.id.prefix=me", r"sets client\.id\.prefix, which the job sets itself"),
        ("group.instance.id=me", r"sets group\.instance\.id, which the job sets itself"),
        ("transaction.timeout.ms=9", r"sets transaction\.timeout\.ms, which the job sets itself"),
        ("security.protocol=TLS", r"says security\.protocol=TLS; there are: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL$"),
        (
            "ssl.keystore.location=-----BEGIN KEY----- secret",
            r"client\.properties has a text in ssl\.keystore\.location, whi",
        ),
        ("ssl.key.password=\\u12", r"has a \\u that no four hexadecimal digits follow; write a backslash as \\\\$"),
        ("ssl.truststore.location=/nowhere.pem", r"=/nowhere\.pem, which cannot be read: No such file or directory$"),
    ],
)
def test_what_is_refused(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=said):
        read_config(write(tmp_path, line))


def test_white_space_and_a_byte_order_mark(tmp_path: Path) -> None:
    """Kafka takes white space off, and so do editors that write such a mark."""
    file = write(tmp_path, "\ufeffsecurity.protocol = SSL  ", "client.id=me\t")
    assert read_config(file) == {"security.protocol": "SSL", "client.id": "me"}


def test_no_such_file() -> None:
    with pytest.raises(SystemExit, match=r"^--kafka-config /nowhere cannot be read: No such file or directory$"):
        read_config("/nowhere")


def test_a_file_that_all_can_read_gets_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "client.id=me")
    Path(file).chmod(0o644)
    assert read_config(file) == {"client.id": "me"}
    said = f"{file} may hold passwords, and every user can read it; run: chmod 600 {file}\n"
    assert capsys.readouterr().err == said


def test_lists_of_kafkas_classes(tmp_path: Path) -> None:
    """Each of them has another name in the connector; what is in a password stays."""
    login = f'{SCRAM} required username="u" password="a,org.apache.kafka.b";'
    found = read_config(
        write(tmp_path, "metric.reporters=org.apache.kafka.A, B,org.apache.kafka.C", f"sasl.jaas.config={login}")
    )
    shaded = "org.apache.flink.kafka.shaded.org.apache.kafka"
    assert found["metric.reporters"] == f"{shaded}.A, B,{shaded}.C"
    assert found["sasl.jaas.config"] == login.replace(SCRAM, SHADED_SCRAM)


def test_a_name_for_flinks_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flink makes one of it for each of them; with the same name they would be in each other's way."""
    monkeypatch.setattr(Plan, "_initializer", Mock())
    source = Mock()
    Plan(Broker("localhost:1", {"client.id": "me"}), "input", start={0: 0})._configure(source)
    source.set_properties.assert_called_once_with({"client.id": "me"})
    assert dict(call.args for call in source.set_property.call_args_list)["client.id.prefix"] == "me"


def test_clients_do_not_begin_anew_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """What that would do to a log is in test_chaos.py; a user may have it otherwise."""
    monkeypatch.setattr(Plan, "_initializer", Mock())
    source = Mock()
    Plan(Broker("localhost:1"), "input", start={0: 0})._configure(source)
    names = [call.args[0] for call in source.method_calls if call.args]
    assert call("metadata.recovery.strategy", "none") in source.set_property.call_args_list
    assert names.index("metadata.recovery.strategy") < names.index({})  # those of --kafka-config come behind it


# --- Where secrets are not; what a whole job shows is in tests/test_secure.py -----------------------------------------


def test_options_that_are_printed(tmp_path: Path) -> None:
    options = JobOptions.parse("what it does", ["--kafka-config", write(tmp_path, "ssl.key.password=secret")])
    broker = Broker(options.bootstrap_servers, read_config(options.kafka_config))
    assert broker.properties == {"ssl.key.password": "secret"}
    assert "secret" not in repr(options) + repr(broker) + repr(broker.properties)


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_pem_files_become_texts(tmp_path: Path) -> None:
    """A worker on another machine does not have the files."""
    own = AUTHORITY.issue_cert("localhost")
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "own.pem").write_bytes(b"bag attributes\n" + own.private_key_and_cert_chain_pem.bytes())
    found = read_config(
        write(
            tmp_path,
            "security.protocol=SSL",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={tmp_path}/ca.pem",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={tmp_path}/own.pem",
        )
    )
    assert not [name for name in found if name.endswith(".location")]
    assert found["ssl.truststore.certificates"] == AUTHORITY.cert_pem.bytes().decode().strip()
    assert found["ssl.keystore.key"] == private_key(own)
    assert found["ssl.keystore.certificate.chain"] == own.cert_chain_pems[0].bytes().decode().strip()


def test_strings_in_one_line_as_kafka_takes_them(tmp_path: Path) -> None:
    own = AUTHORITY.issue_cert("localhost")
    both = (private_key(own), certificate_chain(own))
    key, chain = (pem.strip().replace("\n", " \\\n    ") for pem in both)
    found = read_config(write(tmp_path, f"ssl.keystore.key={key}", f"ssl.keystore.certificate.chain={chain}"))
    assert (found["ssl.keystore.key"], found["ssl.keystore.certificate.chain"] + "\n") == both


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_opened_here(form: PrivateFormat, tmp_path: Path) -> None:
    """Java cannot do it."""
    own = AUTHORITY.issue_cert("localhost")
    key = load_pem_private_key(own.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"unlock")).decode()
    assert "ENCRYPTED" in encrypted
    line = f"ssl.keystore.key={encrypted}".replace("\n", "\\n")
    assert read_config(write(tmp_path, line, "ssl.key.password=unlock")) == {"ssl.keystore.key": private_key(own)}
    with pytest.raises(SystemExit, match=r"client\.properties names is encrypted; add to it: ssl\.key\.password$"):
        read_config(write(tmp_path, line))
    with pytest.raises(SystemExit, match=r" is damaged, or ssl\.key\.password is another one; mend either of them$"):
        read_config(write(tmp_path, line, "ssl.key.password=wrong"))


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    own = private_key(AUTHORITY.issue_cert("localhost")).replace("\n", "\\n")
    with pytest.raises(SystemExit, match=r" names is not encrypted; leave out: ssl\.key\.password$"):
        read_config(write(tmp_path, f"ssl.keystore.key={own}", "ssl.key.password=unlock"))
    with pytest.raises(SystemExit, match=r" names is damaged, or no key; name another one$"):
        read_config(write(tmp_path, f"ssl.keystore.key={own[:80]}"))


@pytest.mark.parametrize("store", ["truststore", "keystore"])
def test_a_store_of_another_type_than_the_file_says(store: str, tmp_path: Path) -> None:
    pem, other = tmp_path / "ca.pem", tmp_path / "ca.jks"
    AUTHORITY.cert_pem.write_to_path(pem)
    other.write_bytes(b"\xfe\xed\xfe\xed")
    with pytest.raises(
        SystemExit, match=rf"ca\.pem is a PEM file; .* must say so, in capitals: ssl\.{store}\.type=PEM$"
    ):
        read_config(write(tmp_path, f"ssl.{store}.location={pem}"))
    with pytest.raises(SystemExit, match=rf"ca\.jks has nothing in it that PEM .* says ssl\.{store}\.type=PEM$"):
        read_config(write(tmp_path, f"ssl.{store}.location={other}", f"ssl.{store}.type=PEM"))


def test_the_path_of_another_store_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java reads it, and a worker has another working directory."""
    monkeypatch.chdir(tmp_path)
    Path("ca.jks").write_bytes(b"\xfe\xed\xfe\xed")
    found = read_config(write(tmp_path, "ssl.truststore.location=ca.jks"))
    assert found == {"ssl.truststore.location": f"{tmp_path}/ca.jks"}
