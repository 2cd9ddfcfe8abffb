"""TLS by a certificate that comes in the environment: it never touches a disk, and the image needs none to write to."""

from __future__ import annotations

import os
import ssl

from inference.errors import BadSetting


def context(certificate: str) -> ssl.SSLContext:
    """What the server speaks TLS 1.2 or later with. `certificate` is a PEM with a key and its certificate; raises
    BadSetting where the two do not belong together or cannot be read."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    file = os.memfd_create("certificate")  # OpenSSL's loader wants a file
    try:
        with open(file, "wb", closefd=False) as opened:
            opened.write(certificate.encode())
        made.load_cert_chain(f"/proc/self/fd/{file}", password="")  # or it would ask a terminal
    except ssl.SSLError as error:
        raise BadSetting(
            f"TLS_CERTIFICATE cannot be used ({error.reason or 'no PEM'}): give a private key and the certificate that "
            "belongs to it, as one PEM."
        ) from None
    finally:
        os.close(file)
    return made
