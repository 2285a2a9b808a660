import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror import config
from mirror.errors import HomeError


def parse(text: str) -> config.Config:
    return config.parse(text.encode())


def refused(text: str, match: str) -> None:
    with pytest.raises(HomeError, match=match):
        parse(text)


def test_empty_file_is_all_defaults():
    assert parse("") == config.Config()
    assert config.CaptureConfig().max_response_bytes == 4 * 2**30
    assert config.CaptureConfig().allow_invalid_tls is False


def test_file_of_a_new_home_is_the_defaults_and_its_key():
    assert config.parse(config.initial(["k-1"])) == config.Config(seal=config.SealConfig(keys=("k-1",)))


def test_commented_lines_of_a_new_home_are_valid_when_uncommented():
    text = config.initial(["k"]).decode()
    active = "\n".join(
        line[2:] if line.startswith("# ") and (" = " in line or "[" in line) else line for line in text.splitlines()
    )
    settings = parse(active)
    assert settings.capture == config.CaptureConfig()
    assert settings.vantage("tor").proxy == "socks5h://127.0.0.1:9050"


def test_every_setting_has_a_check():
    for checks, kind, extra in (
        (config._CAPTURE, config.CaptureConfig, set()),
        (config._VANTAGE, config.Vantage, {"name"}),
        (config._SEAL, config.SealConfig, set()),
    ):
        assert checks.keys() | extra == {f.name for f in dataclasses.fields(kind)}


def test_every_default_passes_its_own_check():
    for f in dataclasses.fields(config.CaptureConfig):
        value = getattr(config.CaptureConfig(), f.name)
        assert config._CAPTURE[f.name](dict(value) if f.name == "extra_headers" else value, f.name) == value


def test_unknown_key_is_refused_with_the_nearest_named():
    refused("[capture]\nconections = 3", r"\[capture\] conections: unknown, the nearest known is `connections`")
    refused("[vantage.tor]\nproxi = ''", "`proxy`")
    refused("[captur]", "`capture`")
    refused("qqqqqq = 1", "unknown; correct")


@pytest.mark.parametrize(
    "line",
    [
        "connections = 0",
        "connections = true",
        "connections = 1.0",
        'connections = "24"',
        "connections_per_host = 100000",
        "retries = -1",
        "page_timeout_s = 0",
        "page_timeout_s = nan",
        "page_timeout_s = inf",
        "page_timeout_s = true",
        "allow_invalid_tls = 1",
        'allow_invalid_tls = "no"',
        'user_agent = ""',
        'user_agent = "a\\r\\nCookie: x"',
        'user_agent = "a "',
        "user_agent = 5",
        'languages = "vi;;en"',
        'languages = "tiếng Việt"',
        "extra_headers = []",
        'extra_headers = {"a b" = "x"}',
        'extra_headers = {"A" = "x", "a" = "y"}',
        'extra_headers = {"A" = "x\\n"}',
        'extra_headers = {"A" = 5}',
    ],
)
def test_wrong_type_or_range_is_refused_by_name(line):
    refused(f"[capture]\n{line}", rf"mirror\.toml: \[capture\] {line.split()[0]}")


@pytest.mark.parametrize("name", ["Cookie", "authorization", "Host", "Transfer-Encoding", "User-Agent", "Referer"])
def test_headers_that_name_a_person_or_frame_a_message_are_refused(name):
    refused(f'[capture.extra_headers]\n{name} = "x"', name)


def test_settings_are_read():
    settings = parse("""
        [capture]
        page_timeout_s = 5
        languages = "en-GB, vi;q=0.5, *;q=0.1"
        extra_headers = {"DNT" = "1", "Sec-GPC" = "1"}
        [vantage.tor]
        proxy = "socks5h://user:pass@[::1]:9050"
        languages = "fr"
        [vantage.office-2]
        proxy = "http://proxy.example:3128"
        extra_headers = {}
        [seal]
        keys = ["a", "b"]
    """)
    assert settings.capture.page_timeout_s == 5.0 and isinstance(settings.capture.page_timeout_s, float)
    assert settings.capture.extra_headers == (("DNT", "1"), ("Sec-GPC", "1"))
    assert settings.vantage("tor").languages == "fr" and settings.vantage("tor").extra_headers is None
    assert settings.vantage("office-2").extra_headers == ()
    assert settings.seal.keys == ("a", "b")


def test_proxy_that_resolves_names_here_is_refused_with_the_reason():
    refused('[vantage.a]\nproxy = "socks5://127.0.0.1:9050"', "resolver.*socks5h")
    refused('[vantage.a]\nproxy = "socks4://127.0.0.1:9050"', "socks5h")


@pytest.mark.parametrize(
    "proxy",
    ["", "127.0.0.1:9050", "https://p:1", "SOCKS5H://p:1", "socks5h://p", "socks5h://p:0", "socks5h://p:65536",
     "socks5h://p:1/", "http://p:1?x", "http://p:1#x", "http://a b:1", "http://p:1\\n", "socks5h://:1", "direct"],
)  # fmt: skip
def test_other_proxies_are_refused_and_never_mean_none(proxy):
    refused(f'[vantage.a]\nproxy = "{proxy}"', "proxy")


def test_password_of_a_proxy_is_not_in_repr():
    assert "hunter2" not in repr(parse('[vantage.a]\nproxy = "http://u:hunter2@p:1"'))


def test_unknown_vantage_names_the_nearest():
    with pytest.raises(HomeError, match="`tor`"):
        parse("[vantage.tor]").vantage("tot")


def test_odd_vantage_and_key_names_are_refused():
    refused('[vantage."../x"]', "lower-case")
    refused("[vantage]\ntor = 5", "table")
    for keys in ('"a"', "[5]", '["a", "a"]', '["../a"]', '[""]'):
        refused(f"[seal]\nkeys = {keys}", "key names")


@pytest.mark.parametrize("data", [b"\xff", b"[", b"a = " + b"[" * 20_000, b"[a]\n[a]"])
def test_what_is_not_toml_is_a_home_error(data):
    with pytest.raises(HomeError):
        config.parse(data)


def test_missing_and_oversized_files_are_home_errors(tmp_path):
    with pytest.raises(HomeError, match="cannot be read"):
        config.load(tmp_path / "mirror.toml")
    (tmp_path / "mirror.toml").write_bytes(b"#" * (config.MAX_BYTES + 2))
    with pytest.raises(HomeError, match="larger"):
        config.load(tmp_path / "mirror.toml")


@given(st.integers(), st.sampled_from(sorted(config._CAPTURE)))
def test_any_number_anywhere_is_taken_or_refused_as_home_error(number, key):
    try:
        assert getattr(parse(f"[capture]\n{key} = {number}").capture, key) == number
    except HomeError as e:
        assert key in str(e)
