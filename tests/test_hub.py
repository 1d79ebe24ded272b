"""Hub ids without a network: one sentence, at once, and nothing stays switched off."""

import socket
import subprocess
import sys
import time

import pytest
from huggingface_hub import constants

import mechdrift as md
from mechdrift.pairs import hub


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def unknown(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    hub._is_known.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the client tries again"))
    yield
    hub._is_known.cache_clear()


def test_an_id_without_a_network_is_one_sentence_at_once(no_network):
    with pytest.raises(
        md.MechdriftError, match=r"'some/parent' could not be loaded .* check the network if it is an id"
    ):
        md.load_pair(instruct="some/parent", reasoning="some/child")
    assert constants.HF_HUB_OFFLINE is False


def test_a_benchmark_of_the_hub_without_a_network_is_one_sentence(no_network):
    with pytest.raises(md.MechdriftError, match="cannot be loaded from the hub"):
        md.load_probes("xstest")


def test_behind_a_proxy_the_client_is_left_alone(no_network, monkeypatch):
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:3128"})
    with hub.hub_or_cache():
        assert constants.HF_HUB_OFFLINE is False


def test_importing_it_loads_nothing_heavy():
    code = "import sys, mechdrift.pairs.hub; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
