"""Where systems keep what we need: facts about distributions, not settings."""

SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Bundles of trusted certificates (PEM), the first that exists counts."""

KERBEROS_LIBRARY = "libgssapi_krb5.so.2"
"""What speaks Kerberos: the library of MIT. Not every machine has it (Debian: libgssapi-krb5-2)."""
