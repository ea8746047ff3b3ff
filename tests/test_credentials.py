"""Credentials of other clouds: what is taken, what is kept of it, and that none of it shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib import bootstrap, credentials
from chalicelib.config import ConfigError, from_env
from chalicelib.errors import Invalid
from chalicelib.telemetry import log
from chalicelib.telemetry.redaction import redacted
from tests.test_config import CLOUD, ENV

PEM = f"-----BEGIN PRIVATE KEY-----\n{'MIIEvQ' * 10}\n{'abc+/=' * 8}\n-----END PRIVATE KEY-----\n"
SECRET = "q8Q~no-such-secret.of_any-app"
APP = {
    "tenant_id": "11111111-2222-3333-4444-555555555555",
    "client_id": "66666666-7777-8888-9999-000000000000",
    "client_secret": SECRET,
}
KEY = {
    "type": "service_account",
    "client_email": "sailplane@acme.iam.gserviceaccount.com",
    "private_key": PEM,
    "token_uri": "https://oauth2.googleapis.com/token",
}
# What `gcloud iam workload-identity-pools create-cred-config … --aws` writes.
FEDERATED = {
    "universe_domain": "googleapis.com",
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/sailplane/providers/aws",
    "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {
        "environment_id": "aws1",
        "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
        "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
        "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
    },
    "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
    "sailplane@acme.iam.gserviceaccount.com:generateAccessToken",
}
GCP, AZURE = "SAILPLANE_GCP_CREDENTIALS", "SAILPLANE_AZURE_CREDENTIALS"


def test_only_what_is_used_is_kept() -> None:
    """Of a key not its id and its certificates; of a configuration not where a machine's metadata would be."""
    more = {"private_key_id": "1", "auth_uri": "https://accounts.google.com/o/oauth2/auth"}
    assert credentials.gcp(json.dumps({**KEY, **more})) == KEY
    kept = credentials.gcp(json.dumps(FEDERATED))
    assert kept["credential_source"].keys() == {"environment_id", "regional_cred_verification_url"}
    assert kept["audience"] == FEDERATED["audience"]
    assert kept["service_account_impersonation_url"] == FEDERATED["service_account_impersonation_url"]
    assert credentials.azure(json.dumps({**APP, "name": "sailplane"})) == APP


def test_what_is_kept_is_taken_again() -> None:
    """It is what functions read."""
    for kept in (credentials.gcp(json.dumps(KEY)), credentials.gcp(json.dumps(FEDERATED))):
        assert credentials.gcp(json.dumps(kept)) == kept


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *((name, text) for name in (GCP, AZURE) for text in ("x", "[]", "null", "{}", f'"{SECRET}"')),
        (AZURE, {**APP, "tenant_id": "common/../evil"}),
        *((AZURE, {**APP, name: wrong}) for name in APP for wrong in ("", "a b", 1, None, "x" * 2000)),
        (GCP, {**KEY, "type": "authorized_user"}),
        (GCP, {**KEY, "type": ["service_account"]}),
        *(
            (GCP, {**KEY, "token_uri": url})
            for url in ("https://evil.example/token", "http://oauth2.googleapis.com/token")
        ),
        (GCP, {**KEY, "private_key": SECRET}),
        (GCP, {**KEY, "client_email": "me@example.com"}),
        (GCP, {**FEDERATED, "token_url": "https://sts.googleapis.com.evil.example/v1/token"}),
        (GCP, {**FEDERATED, "token_url": "https://sts.googleapis.com/v1/token\n"}),
        (GCP, {**FEDERATED, "service_account_impersonation_url": "https://evil.example/x:generateAccessToken"}),
        (GCP, {**FEDERATED, "audience": "//iam.googleapis.com/x"}),
        (GCP, {**FEDERATED, "credential_source": {"executable": {"command": "/bin/true"}}}),
        (
            GCP,
            {
                **FEDERATED,
                "credential_source": {"environment_id": "aws1", "regional_cred_verification_url": "https://x"},
            },
        ),
        (GCP, {**FEDERATED, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}),
    ],
)
def test_what_is_none_is_refused_and_not_repeated(name: str, found: Any) -> None:
    """Nor what would have our AWS identity signed for, or our key shown to, anybody but Google."""
    text = found if isinstance(found, str) else json.dumps(found)
    with pytest.raises(ConfigError, match=f"^{name}: expected ") as refusal:
        from_env({**ENV, name: text})
    assert not any(value in str(refusal.value) for value in (SECRET, "evil", "MIIEvQ", APP["client_id"]))


def test_without_any_the_sdks_look_for_themselves() -> None:
    """As on a laptop."""
    config = from_env({**ENV, GCP: "", "SAILPLANE_LOCAL_ROOT": "/srv"})
    assert (config.gcp_credentials, config.azure_credentials) == ({}, {})
    assert bootstrap.build(config).settings.cloud_secrets == ()


def test_no_secret_of_them_shows_or_is_logged() -> None:
    """Neither in the repr of configuration and settings, nor in a line of the log, however it is quoted there."""
    config = from_env({**ENV, **CLOUD, GCP: json.dumps(KEY), AZURE: json.dumps(APP)})
    settings = bootstrap.build(config).settings
    assert not any(secret in repr(config) + repr(settings) for secret in (SECRET, "MIIEvQ"))
    known = log.secrets_of(settings)
    for text in (f"AADSTS7000215: {SECRET}", f"no key: {PEM}", f"no key: {PEM!r}", json.dumps(KEY), str(APP)):
        assert not any(secret in redacted(text, known) for secret in (SECRET, "MIIEvQ", "abc+/="))


@pytest.mark.parametrize("text", [PEM, repr(PEM), PEM.replace("PRIVATE", "RSA PRIVATE")], ids=["raw", "quoted", "rsa"])
def test_a_private_key_is_hidden_whose_ever_it_is(text: str) -> None:
    """By its form; what stands around it stays."""
    told = redacted(f"before {text} after")
    assert "MIIEvQ" not in told
    assert (told.startswith("before "), told.endswith(" after")) == (True, True)


def test_a_number_too_long_for_python_is_no_object_either() -> None:
    """It is refused as any other text."""
    with pytest.raises(Invalid, match="expected an object in JSON"):
        credentials.azure("9" * 5000)
