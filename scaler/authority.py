"""The deployment's own certificate authority: it signs one certificate for each replica, and is kept nowhere.

Its key is derived from one secret by scrypt (RFC 7914), so that every process with the secret has the same authority
and there is nothing to make, store or renew beside it. Its certificate is the same bytes each time (RFC 6979), because
Envoy's bootstrap holds it and another one would renew the front. A replica gets its own key and never the secret.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from scaler.errors import Unavailable

REALM = "aci-autoscaler.internal"  # looked up nowhere: who connects says which name it expects
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
FROM, UNTIL = datetime(2025, 1, 1, tzinfo=UTC), datetime(2075, 1, 1, tzinfo=UTC)
CLOCKS_DIFFER = timedelta(days=1)
REPLICA_LIVES = timedelta(days=3650)  # longer than any replica: an expired one would only fall out of sight


def name_of_replica(replica: str) -> str:
    """What the autoscaler expects when it asks this very replica."""
    return f"{replica}.replicas.{REALM}"


def name_of_service(service: str) -> str:
    """What Envoy expects of whatever replica of a service."""
    return f"{service}.services.{REALM}"


class Authority:
    """Signs with the first of its secrets and trusts all of them, so that a new one can come before the old one goes.

    ``secrets`` are separated by white space and must be hard to guess: whoever holds a certificate can try guesses on
    it, each at the price of one scrypt.
    """

    def __init__(self, secrets: str) -> None:
        self._signers = tuple(_signer(secret) for secret in secrets.split())

    @property
    def signer(self) -> str:
        """Names the key that signs: another secret, another name. Nothing in it is secret."""
        return str(self._signers[0][1].subject.rfc4514_string())

    def stands_for(self, secret: str) -> str:
        """What may be read in its place: nobody who has not our own secret can try guesses on it. Empty for none."""
        key = self._signers[0][0].private_numbers().private_value.to_bytes(32)
        return hmac.digest(key, secret.encode(), "sha256").hex() if secret else ""

    @property
    def trusted(self) -> str:
        """The certificates to trust, as PEM. Nothing in it is secret."""
        return "".join(certificate.public_bytes(Encoding.PEM).decode() for _, certificate in self._signers)

    def certify(self, service: str, replica: str, now: float) -> str:
        """A new key with its certificate for one replica, as PEM: the key, then the certificate. ``now`` is in seconds
        since 1970; a replica whose clock differs by less than a day is fine."""
        signing, issuer = self._signers[0]
        at = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name_of_replica(replica)), x509.DNSName(name_of_service(service))]
        certificate = (
            _builder(x509.Name([]), issuer.subject, key.public_key(), signing.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - CLOCKS_DIFFER)
            .not_valid_after(at + REPLICA_LIVES)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)  # the subject is empty: RFC 5280, 4.2.1.6
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(signing, SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return (private + certificate.public_bytes(Encoding.PEM)).decode()

    def proved(self, service: str, replica: str, now: float) -> datetime:
        """Sign a certificate, see that whoever trusts this authority takes it at ``now``, and give when it ends. Raises
        ``Unavailable``."""
        certificate = x509.load_pem_x509_certificate(self.certify(service, replica, now).encode())
        trusted = Store([signed for _, signed in self._signers])
        try:
            for name in (name_of_replica(replica), name_of_service(service)):
                policy = PolicyBuilder().store(trusted).time(datetime.fromtimestamp(now, UTC))
                policy.build_server_verifier(x509.DNSName(name)).verify(certificate, [])
        except VerificationError as error:
            raise Unavailable(f"a certificate made now does not hold: {error}") from error
        return min(certificate.not_valid_after_utc, self._signers[0][1].not_valid_after_utc)

    def __repr__(self) -> str:
        return "Authority()"


@lru_cache(maxsize=4)
def _signer(secret: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The key that the secret stands for, and its own certificate."""
    salt, length = b"aci-autoscaler authority", 48  # 16 bytes more than the order has: the remainder is not biased
    derived = hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1, dklen=length)
    key = ec.derive_private_key(int.from_bytes(derived) % (P256_ORDER - 1) + 1, ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = f"ACI Autoscaler {identifier.digest.hex()[:8]}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), key.public_key())
        .serial_number(int.from_bytes(identifier.digest[:8]) + 1)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, SHA256(), ecdsa_deterministic=True)
    )
    return key, certificate


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """What both kinds have: names, key, and how to find the signer's."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
