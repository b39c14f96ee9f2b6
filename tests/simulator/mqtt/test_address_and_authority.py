import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from simulator.mqtt import (
    BrokerAddress,
    BrokerMissingError,
    BrokerStartError,
    MqttError,
    broker as brokers,
    credentials_for,
    start_broker,
)
from simulator.mqtt.authority import Authority

NOW = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize("tls", [None, Path("/somewhere/ca.pem")])
def test_an_address_round_trips_through_its_file(tls, tmp_path):
    address = BrokerAddress("127.0.0.1", 1883, tls, "_", 1000)
    address.write(tmp_path / "broker.json")
    assert BrokerAddress.read(tmp_path / "broker.json") == address


@pytest.mark.parametrize("content", ["", "[]", '{"host": "x"}'])
def test_a_file_that_is_no_address_is_named(content, tmp_path):
    (tmp_path / "broker.json").write_text(content)
    with pytest.raises(MqttError, match=r"broker\.json is not a broker address"):
        BrokerAddress.read(tmp_path / "broker.json")


def test_one_certificate_per_thing_issued_once_and_named_after_it(tmp_path):
    authority = Authority(tmp_path)
    authority.create(NOW)
    authority.create(NOW)
    first = authority.issue("thing-a", NOW)
    assert authority.issue("thing-a", NOW) == first
    certificate = x509.load_pem_x509_certificate(first.certificate.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=thing-a"
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes()))
    assert first.private_key.stat().st_mode & 0o077 == 0


def test_an_authority_that_has_run_out_is_made_anew_with_all_that_it_issued(tmp_path):
    authority = Authority(tmp_path)
    authority.create(NOW)
    old = authority.issue("thing-a", NOW).certificate.read_bytes()
    later = NOW + timedelta(days=40)
    authority.create(later)
    new = authority.issue("thing-a", later).certificate.read_bytes()
    assert new != old
    issuer = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    x509.load_pem_x509_certificate(new).verify_directly_issued_by(issuer)
    assert issuer.not_valid_after_utc > later


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "x" * 65])
def test_a_name_that_cannot_be_a_file_or_common_name_is_refused(name, tmp_path):
    authority = Authority(tmp_path)
    authority.create(NOW)
    with pytest.raises(MqttError, match="cannot be a certificate's name"):
        authority.issue(name, NOW)


def test_a_folder_without_an_authority_is_said_so(tmp_path):
    with pytest.raises(MqttError, match="no certificate authority"):
        credentials_for(BrokerAddress("127.0.0.1", 1, tls=tmp_path / "ca.pem"), "thing-a")


def test_a_missing_broker_names_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(brokers, "mosquitto_program", lambda: None)
    with pytest.raises(BrokerMissingError, match="mosquitto not installed") as caught:
        start_broker(tmp_path, "mosquitto")
    assert "apt install mosquitto" in caught.value.remedy


def test_a_broker_that_does_not_come_up_quotes_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(brokers.IotCoreBroker, "_command", lambda self: ("sh", "-c", "echo no luck; exit 3"))
    with pytest.raises(BrokerStartError, match=r"(?s)exit code 3.*no luck"):
        start_broker(tmp_path, "iotcore")


def test_a_port_that_was_taken_meanwhile_is_exchanged_for_another(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        squatter.listen()
        ports = iter([squatter.getsockname()[1], brokers.free_port()])
        monkeypatch.setattr(brokers, "free_port", lambda: next(ports))
        with start_broker(tmp_path, "mosquitto") as broker:
            assert broker.address.port != squatter.getsockname()[1]
