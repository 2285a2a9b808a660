"""All errors of Mirror, one tree. Each class carries the exit code of the command line (proof contract):

MirrorError                1   something we did not foresee
├── UsageError             2   the call's words are wrong
│   └── UrlError           2   a URL that cannot be captured, with the reason
├── RefutedError           3   something contradicts a claim (a proof, a signature, a digest)
├── MalformedError         5   input that does not follow its format; `place` says where
│   └── LimitError         5   input larger or deeper than we accept
├── HomeError              6   the mirror home: missing, locked, read-only, full, damaged
│   └── PassphraseError    6   a secret key could not be opened
└── NetworkError           7   a socket: refused, timed out, blocked by our own guard
    └── BlockedAddressError 7  an address that we refuse to connect to
"""


class MirrorError(Exception):
    """Base of all. `str()` is one sentence for a person: what is wrong and what to do next."""

    exit_code = 1


class UsageError(MirrorError):
    exit_code = 2


class UrlError(UsageError):
    pass


class RefutedError(MirrorError):
    exit_code = 3


class MalformedError(MirrorError):
    exit_code = 5

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


class LimitError(MalformedError):
    pass


class HomeError(MirrorError):
    exit_code = 6


class PassphraseError(HomeError):
    pass


class NetworkError(MirrorError):
    exit_code = 7


class BlockedAddressError(NetworkError):
    pass
