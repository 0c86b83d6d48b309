"""The embedded broker with doors: TLS, users with passwords or certificates, and rights (ACLs).

    python tools/secure_broker.py                # on localhost:19093 until Ctrl-C; what clients need is in secure/

Whom it lets in, and who may do what, is as on a broker in production: nothing is allowed that was not granted. The
certificates and the passwords are made anew at each start, and are good for nothing else.
"""

import argparse
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

from broker import (
    TOPIC,
    Broker,
    BrokerError,
    activate,
    as_java_reads_it,
    create_topic,
    data_folder,
    end_on_signals,
    free_port,
    is_kafka,
    is_listening,
    running,
)

PORT = 19093  # passwords; the next port is for certificates
FOLDER = Path("secure")
USER = "word-counter"
SUPER_USER = "broker"  # may do everything: the broker itself, and whoever has its certificate

# Properties that come later in the file win over those of the plain broker.
PROPERTIES = """
# --- With doors ---
controller.quorum.voters=1@localhost:{controller_port}
listeners={listeners},CONTROLLER://localhost:{controller_port}
advertised.listeners={listeners}
listener.security.protocol.map=CONTROLLER:SSL,{protocols}
inter.broker.listener.name=CERTIFICATE
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
# Without a certificate of its own nobody comes in; where a password is asked for, none is needed.
ssl.client.auth=required
# Who has a certificate is the user that its common name (CN) says.
ssl.principal.mapping.rules=RULE:^CN=([^,]+),.*$/$1/,DEFAULT
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{super_user}
"""
LOGIN_MODULES = {
    "scram-sha-256": "scram.ScramLoginModule",
    "scram-sha-512": "scram.ScramLoginModule",
    "plain": "plain.PlainLoginModule",
}


def private_key(certificate: trustme.LeafCert, password: str | None = None) -> str:
    """The private key of a certificate in the one form of PEM that Kafka reads, PKCS #8; encrypted with a password."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def certificate_chain(certificate: trustme.LeafCert) -> str:
    """A certificate and those that vouch for it, as PEM."""
    return "".join(pem.bytes().decode() for pem in certificate.cert_chain_pems)


def authority(ca: trustme.CA) -> str:
    """The certificate of an authority, as PEM: who trusts it trusts what it has signed."""
    return ca.cert_pem.bytes().decode()


def quoted(text: str) -> str:
    """A text as it stands between the quotation marks of a login module's options, in a file of properties."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\\", "\\\\")


def write_secret(file: Path, text: str) -> None:
    """Write a file that nobody else can read."""
    file.touch(mode=0o600)
    file.chmod(0o600)  # it may have been there
    file.write_bytes(as_java_reads_it(text))


@dataclass(frozen=True)
class Listener:
    """One more door of a secure broker. Settings are Kafka's, without listener.name.NAME."""

    port: int
    protocol: str  # as in Kafka's security.protocol
    settings: Mapping[str, str]


class SecureBroker(Broker):
    """One broker on localhost that asks for passwords at `port`, and for certificates at `certificate_port`.

    `users`: their passwords, by name. Until it is started, more doors may be added to `listeners`.
    """

    def __init__(self, folder: Path, port: int, certificate_port: int, users: Mapping[str, str]) -> None:
        super().__init__(folder.resolve(), port)
        self.users = dict(users)
        self.ca = trustme.CA()
        self.certificate_port = certificate_port
        self.listeners = {
            "PASSWORD": Listener(port, "SASL_SSL", self._logins()),
            "CERTIFICATE": Listener(certificate_port, "SSL", {}),
        }

    def _logins(self) -> dict[str, str]:
        known = {"plain": "".join(f' user_{user}="{quoted(password)}"' for user, password in self.users.items())}
        return {
            f"{mechanism}.sasl.jaas.config": (
                f"org.apache.kafka.common.security.{module} required{known.get(mechanism, '')};"
            )
            for mechanism, module in LOGIN_MODULES.items()
        }

    @property
    def access(self) -> dict[str, Any]:
        """The settings of kafka-python with which one may do everything."""
        return {
            "bootstrap_servers": f"localhost:{self.certificate_port}",
            "security_protocol": "SSL",
            "ssl_cafile": str(self.folder / "ca.pem"),
            "ssl_certfile": str(self.folder / "broker.pem"),
        }

    def admin(self) -> KafkaAdminClient:
        """A client that may do everything."""
        return KafkaAdminClient(**self.access)

    def certificate_for(self, user: str) -> trustme.LeafCert:
        """A certificate with which the broker takes someone for this user."""
        return self.ca.issue_cert("localhost", common_name=user)

    def properties(self) -> str:
        """Those of the plain broker, and what is different here."""
        doors = PROPERTIES.format(
            listeners=",".join(f"{name}://localhost:{one.port}" for name, one in self.listeners.items()),
            protocols=",".join(f"{name}:{one.protocol}" for name, one in self.listeners.items()),
            controller_port=free_port(),
            folder=self.folder,
            super_user=SUPER_USER,
        )
        for name, listener in self.listeners.items():
            for key, value in listener.settings.items():
                doors += f"listener.name.{name.lower()}.{key}={value}\n"
        return super().properties() + doors

    def start(self) -> None:
        """Start it as a plain one; then make its users."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # its files hold passwords
        own = self.certificate_for(SUPER_USER)
        write_secret(self.folder / "broker.pem", private_key(own) + certificate_chain(own))
        (self.folder / "ca.pem").write_text(authority(self.ca))
        super().start()
        for user, password in self.users.items():
            self.set_password(user, password)

    def answers(self) -> bool:
        """Whether it answers a client with a certificate."""
        return is_kafka(timeout=2, **self.access)

    def set_password(self, user: str, password: str) -> None:
        """Give a user another password: at once for SCRAM, for PLAIN at the next start; raises BrokerError: refused."""
        self.users[user] = password
        mechanisms = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
        with self.admin() as admin:
            for mechanism in mechanisms:
                wanted = UserScramCredentialUpsertion(user, mechanism, password)
                if refused := admin.alter_user_scram_credentials([wanted])[user]:
                    raise BrokerError(f"Cannot set the password of {user}: {refused}")

    def allow(self, user: str, kind: ResourceType, name: str, *operations: ACLOperation) -> None:
        """Grant rights to a topic or a group; the name * stands for all. Raises BrokerError: the broker refuses."""
        resource = ResourcePattern(kind, name)
        granted = [ACL(f"User:{user}", "*", one, ACLPermissionType.ALLOW, resource) for one in operations]
        with self.admin() as admin:
            if refused := admin.create_acls(granted)["failed"]:
                raise BrokerError(f"Cannot grant {user} rights to {name}: {refused}")


def login(user: str, password: str, mechanism: str = "SCRAM-SHA-256") -> str:
    """The properties with which a client says who it is, by password."""
    module = LOGIN_MODULES[mechanism.lower()]
    return (
        f"sasl.mechanism={mechanism}\n"
        f"sasl.jaas.config=org.apache.kafka.common.security.{module} required"
        f' username="{quoted(user)}" password="{quoted(password)}";\n'
    )


def trust(file: Path) -> str:
    """The properties with which a client trusts whom a file of certificates names."""
    return f"ssl.truststore.type=PEM\nssl.truststore.location={file}\n"


def write_client_files(broker: SecureBroker, folder: Path) -> None:
    """Write what the client of a user needs, as Kafka's own tools take it."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    folder = folder.resolve()
    write_secret(folder / "ca.pem", authority(broker.ca))
    trusted = trust(folder / "ca.pem")
    password = login(USER, broker.users[USER])
    write_secret(folder / "client.properties", f"security.protocol=SASL_SSL\n{password}{trusted}")
    own = broker.certificate_for(USER)
    write_secret(folder / "client.pem", private_key(own) + certificate_chain(own))
    key = f"ssl.keystore.type=PEM\nssl.keystore.location={folder / 'client.pem'}\n"
    write_secret(folder / "certificate.properties", f"security.protocol=SSL\n{key}{trusted}")


def what_to_run(broker: SecureBroker, folder: Path) -> str:
    """The commands that send words and count them, from the top folder."""
    to_it = f"--bootstrap-servers {broker.bootstrap_servers} --kafka-config {folder}/client.properties"
    return (
        f"The user {USER} may read and write its topic {TOPIC}; name and password are in {folder}/client.properties.\n"
        f"To type lines of words into it, run in another terminal:\n"
        f"{activate()}  python tools/produce.py --topic {TOPIC} {to_it}\n"
        f"To count them, in a third one:\n"
        f"{activate()}  python word_count.py {to_it}\n"
        f"Or without a password, with a certificate: --bootstrap-servers localhost:{broker.certificate_port} "
        f"--kafka-config {folder}/certificate.properties"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Run an embedded Kafka broker with TLS and passwords until Ctrl-C.")
    parser.add_argument("--port", type=int, default=PORT, help="for passwords; the next one is for certificates")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for what clients need (default: %(default)s)")
    arguments = parser.parse_args()
    ports = (arguments.port, arguments.port + 1)
    end_on_signals()
    try:
        for port in ports:
            if is_listening(port):
                raise BrokerError(f"Port {port} is taken; stop what listens there, or choose another: --port")
        print(f"Starting Kafka on localhost:{arguments.port} ...", flush=True)
        password = {USER: secrets.token_urlsafe(16)}
        with data_folder(None) as data, running(SecureBroker(data, *ports, password)) as broker:
            create_topic(topic=TOPIC, **broker.access)
            broker.allow(USER, ResourceType.TOPIC, TOPIC, ACLOperation.READ, ACLOperation.WRITE)
            broker.allow(USER, ResourceType.GROUP, "*", ACLOperation.READ)
            write_client_files(broker, arguments.folder)
            print(f"Kafka with TLS and passwords is up on {broker.bootstrap_servers}; Ctrl-C ends it.", flush=True)
            print(what_to_run(broker, arguments.folder), flush=True)
            broker.wait()
    except (BrokerError, KafkaError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nKafka is stopped.")


if __name__ == "__main__":
    main()
