"""The TLS of relayctl as a client: that of Python, as strict as `verified`.

Under `relayctl doctor` and `relayctl bench`.
"""

import ssl


def verifying(ca_file: str = "") -> ssl.SSLContext:
    """A context that verifies chain and host name.

    Python's default takes the common name where a certificate has no DNS name; clients in the
    field and `verified` do not (RFC 9525).

    Args:
        ca_file: a PEM file of the authorities that are trusted; "" for those of the system.

    Raises:
        ssl.SSLError: the file holds no certificate.
        OSError: the file cannot be read.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.hostname_checks_common_name = False
    return context
