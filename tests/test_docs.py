"""The documents say what is so: README commands are run, links lead somewhere, names and options exist."""

import gzip
import os
import re
import shlex
import subprocess
import sys
import tomllib
import uuid
from hashlib import sha256
from pathlib import Path

import pytest
import sample_site

from mirror import config
from mirror.cli.main import COMMANDS
from mirror.cli.main import main as mirror_main
from mirror.verify.verdict import Claim, Name, Outcome

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [
    p for folder in (ROOT, ROOT / "docs", ROOT / "archives", ROOT / "deploy") for p in sorted(folder.glob("*.md"))
]
PASSPHRASE = b"correct horse battery staple"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def page():
    with sample_site.served() as url:
        yield url


def made_by_others(path: Path) -> None:
    """A WARC without a seal, as other tools write them: two records with digests, and one without."""
    with gzip.open(path, "wb") as file:
        for kind, body in (("warcinfo", b"software: other"), ("resource", b"a"), ("resource", b"b")):
            digest = b"" if kind == "warcinfo" else f"WARC-Block-Digest: sha256:{sha256(body).hexdigest()}\r\n".encode()
            file.write(
                b"WARC/1.1\r\nWARC-Type: %s\r\nWARC-Record-ID: <urn:uuid:%s>\r\nWARC-Date: 2026-11-21T10:00:00Z\r\n"
                b"%sContent-Length: %d\r\n\r\n%s\r\n\r\n"
                % (kind.encode(), str(uuid.uuid4()).encode(), digest, len(body), body)
            )


class Reader:
    """Somebody who types the README's commands into a shell, one after the other, in an empty folder."""

    def __init__(self, folder: Path, page: str) -> None:
        self.cwd = folder / "clone"
        self.cwd.mkdir()
        for name in ("archives", "keys"):
            (self.cwd / name).symlink_to(ROOT / name)
        self._page = page
        credentials = folder / "credentials"  # instead of a person at a prompt
        credentials.mkdir()
        (credentials / "mirror-passphrase").write_bytes(PASSPHRASE)
        (folder / "bin").mkdir()
        command = folder / "bin" / "mirror"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mirror "$@"\n')
        command.chmod(0o755)
        self._where = folder / "cwd"
        names = ("TMPDIR", "SSL_CERT_FILE")
        self._env = {n: os.environ[n] for n in names if n in os.environ} | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "PYTHONPATH": str(ROOT),
            "CREDENTIALS_DIRECTORY": str(credentials), "LANG": "C.UTF-8", "MIRROR_LANG": "en",
        }  # fmt: skip

    def type(self, command: str) -> tuple[int, str]:
        command = command.replace("https://example.org/the-page", self._page)
        command = re.sub(r"^mirror save ", "mirror save --allow-private-hosts ", command)
        done = subprocess.run(
            ["bash", "-c", f"{command}\ncode=$?; pwd > {shlex.quote(str(self._where))}; exit $code"],
            cwd=self.cwd, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        self.cwd = Path(self._where.read_text().strip())
        return done.returncode, done.stdout + done.stderr

    def skeleton(self, text: str) -> list[str]:
        """The lines without what differs from one time to the next: numbers, ids, addresses, column widths."""
        text = text.replace("https://example.org/the-page", "URL").replace(self._page, "URL")
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{8,64}\b|[0-9]+", "#", text)
        return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]


def dialogue(block: str) -> list[tuple[str, int, list[str]]]:
    """(command, exit status, lines shown) of a console block; a comment `# exit status N` says which, else 0."""
    steps: list[tuple[str, int, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            status = re.search(r"# exit status (\d)", line)
            steps.append((line[2:], int(status[1]) if status else 0, []))
        else:
            steps[-1][2].append(line)
    return steps


@pytest.mark.slow
def test_readme_commands_do_what_the_readme_shows(tmp_path, page):
    reader = Reader(tmp_path, page)
    steps = [step for block in blocks(README, "console") for step in dialogue(block)]
    assert len(steps) > 15
    for command, status, shown in steps:
        if command.startswith("mirror save --vantage tor"):
            (settings,) = blocks(README, "toml")
            closed = settings.replace(":9050", ":1")  # there may be a real one on this machine
            with (reader.cwd / "mirror.toml").open("a") as file:
                file.write(closed)
        if "made-by-others" in command:
            made_by_others(reader.cwd / "made-by-others.warc.gz")
        code, output = reader.type(command)
        assert code == status, (command, output)
        assert "Traceback" not in output
        lines = reader.skeleton(output)
        for line in reader.skeleton("\n".join(shown)):
            assert line in ("…", "") or line in lines, (command, line, output)


def test_readme_names_every_command_and_no_option_that_is_not_there(capsys):
    helps = ""
    for name in COMMANDS:
        assert f"mirror {name}" in README, name
        assert mirror_main([name, "--help"]) == 0
        helps += capsys.readouterr().out
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--help"}
    assert options and all(option in helps for option in options), options


@pytest.mark.parametrize("language", ["en", "vi"])
def test_every_help_ends_with_the_exit_status(language, capsys, monkeypatch):
    monkeypatch.setenv("MIRROR_LANG", language)
    for words in ([], *([name] for name in COMMANDS)):
        assert mirror_main([*words, "--help"]) == 0
        out = capsys.readouterr().out
        title = "EXIT STATUS:" if language == "en" else "MÃ THOÁT:"
        tail = out[out.index(title) :].splitlines()
        assert [line.split()[0] for line in tail[1:]] == list("01234567"), words
        assert max(map(len, out.splitlines())) <= 98


def test_vantage_of_the_readme_is_a_valid_configuration():
    (settings,) = blocks(README, "toml")
    assert config.parse(settings.encode()).vantage("tor").proxy == "socks5h://127.0.0.1:9050"


def test_every_named_verdict_and_outcome_is_explained():
    text = (ROOT / "docs" / "verdicts.md").read_text("utf-8")
    for name in Name:
        ends = {line.split("|")[2].strip().split(",")[0] for line in text.splitlines() if f"| `{name.value}` |" in line}
        assert name.outcome.value in ends, name
    for outcome in Outcome:
        assert f"| `{outcome.value}` | {outcome.code} |" in text
    (policy,) = blocks(text, "toml")
    assert set(tomllib.loads(policy)["require"]) < {claim.value for claim in Claim}


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda p: p.name if p.parent == ROOT else f"{p.parent.name}-{p.name}"
)
def test_links_between_documents_lead_somewhere(document):
    text = document.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        assert not path or (document.parent / path).exists(), target
        if anchor and not path:
            titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles], target


def test_run_explains_itself_and_refuses_what_it_does_not_know():
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, ROOT / "run", *words], capture_output=True, text=True, timeout=60)

    helped, wrong = run("--help"), run("sing")
    assert (helped.returncode, wrong.returncode) == (0, 2)
    for verb in ("save", "test", "check", "mirror"):
        assert f"./run {verb}" in helped.stdout and f"./run {verb}" in wrong.stdout
    for verb in re.findall(r"\./run (\w+)", README):
        assert f"./run {verb}" in helped.stdout, verb
