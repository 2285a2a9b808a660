"""What the command line says to people, in English and Vietnamese. The `--json` output is never translated.

`main` calls `choose` once with the environment; commands call `say`. New messages are added to `_TEXT`, both languages.
"""

from __future__ import annotations

from collections.abc import Mapping

_TEXT: dict[str, tuple[str, str]] = {
    "main.description": (
        "Keep a page before it goes: capture it, seal it, and prove it afterwards.",
        "Giữ lại một trang trước khi nó biến mất: lưu, niêm phong, và chứng minh về sau.",
    ),
    "main.more": ("`mirror COMMAND --help` says more.", "`mirror LỆNH --help` để biết thêm."),
    "main.interrupted": ("interrupted", "đã bị ngắt"),
    "main.unexpected": (
        "unexpected error ({kind}); run again with MIRROR_DEBUG=1 to see where",
        "lỗi không lường trước ({kind}); chạy lại với MIRROR_DEBUG=1 để xem chi tiết",
    ),
    "exit.title": ("EXIT STATUS", "MÃ THOÁT"),
    "exit.0": ("verified, or done", "đã xác minh, hoặc đã xong"),
    "exit.1": ("unexpected error", "lỗi không lường trước"),
    "exit.2": ("wrong usage", "dùng sai cách"),
    "exit.3": ("REFUTED: something contradicts a claim", "REFUTED: có điều mâu thuẫn với một khẳng định"),
    "exit.4": (
        "NOT PROVEN: something required is missing or untrusted",
        "NOT PROVEN: thiếu điều bắt buộc, hoặc không tin được điều đó",
    ),
    "exit.5": ("malformed, or over a limit", "sai định dạng, hoặc vượt giới hạn"),
    "exit.6": ("mirror home: missing, locked, full, damaged", "kho mirror: thiếu, bị khóa, đầy, hỏng"),
    "exit.7": ("network", "mạng"),
    "init.summary": ("make a mirror home with a sealing key", "tạo kho mirror với khóa niêm phong"),
    "init.prompt": ("New passphrase for the sealing key: ", "Mật khẩu mới cho khóa niêm phong: "),
    "init.made": ("Made a mirror home in {home}", "Đã tạo kho mirror tại {home}"),
    "init.key": ("Sealing key  {name}", "Khóa niêm phong  {name}"),
    "init.keyid": ("Key id       {keyid}", "Mã khóa          {keyid}"),
    "init.public": ("Public half  {path}", "Phần công khai   {path}"),
    "init.encrypted": (
        "The key is encrypted; without the passphrase nobody can open it, not even us.",
        "Khóa đã được mã hóa; không có mật khẩu thì không ai mở được, kể cả chúng tôi.",
    ),
    "init.plain": (
        "warning: the key is not encrypted; whoever takes {path} can seal in your name",
        "cảnh báo: khóa không được mã hóa; ai lấy được {path} đều có thể niêm phong thay bạn",
    ),
    "init.next": ("Next, type:  {command}", "Tiếp theo, gõ:   {command}"),
    "save.summary": ("capture pages now, seal and verify them", "lưu các trang ngay, niêm phong và xác minh"),
    "save.progress": ("answers so far: {count}, {size}", "đã nhận {count} phản hồi, {size}"),
    "save.line": ("line {number}", "dòng {number}"),
    "save.counts": (
        "requests: {count} · {size} · sealed after {seconds} s",
        "{count} yêu cầu · {size} · niêm phong sau {seconds} giây",
    ),
    "save.more-missing": ("{count} more; see `mirror show {id}`", "còn {count} nữa; xem `mirror show {id}`"),
    "save.cleaned": ("left out of the address: {names}", "đã bỏ khỏi địa chỉ: {names}"),
    "save.error-page": (
        "the site answered {status}: what is kept is its error page",
        "trang trả lời {status}: bản lưu chỉ là trang báo lỗi",
    ),
    "save.not-established": ("not established: {names}", "chưa chứng minh: {names}"),
    "save.no-text": (
        "{id} is kept, but its text could not be read: {reason}; `mirror index rebuild` tries again",
        "đã lưu {id} nhưng chưa đọc được văn bản: {reason}; `mirror index rebuild` sẽ thử lại",
    ),
    "lacks.NOT-LOGGED": ("in no public log", "chưa có trong sổ công khai"),
    "lacks.TIME-UNPROVEN": ("own clock", "chỉ theo đồng hồ máy"),
    "verify.summary": ("say what files prove, offline", "cho biết các tệp chứng minh điều gì, không cần mạng"),
    "verify.nothing": (
        "no .warc or .warc.gz file there; name files or a folder that holds some",
        "không có tệp .warc hay .warc.gz nào; hãy chỉ ra tệp hoặc thư mục có chúng",
    ),
    "verify.VERIFIED": (
        "everything that was required holds",
        "mọi điều được yêu cầu đều đúng",
    ),
    "verify.NOT PROVEN": (
        "nothing contradicts it, but something required is missing or not trusted",
        "không có gì mâu thuẫn, nhưng thiếu điều bắt buộc hoặc không tin được điều đó",
    ),
    "verify.REFUTED": (
        "it contradicts itself or its seal: do not rely on it",
        "tệp mâu thuẫn với chính nó hoặc với dấu niêm phong: đừng dựa vào tệp này",
    ),
    "verify.MALFORMED": (
        "cut off, damaged, or of another format: nothing can be said of it",
        "bị cắt cụt, bị hỏng, hoặc sai định dạng: không thể kết luận gì",
    ),
    "verify.trust": (
        "trusted: the keys in {folder}; required: {claims}",
        "tin các khóa trong {folder}; yêu cầu: {claims}",
    ),
    "verify.no-trust": (
        "trusted: nobody; --trust FOLDER names the public keys that you trust",
        "chưa tin khóa nào; dùng --trust THƯ_MỤC để chỉ ra các khóa công khai mà bạn tin",
    ),
    "verify.total": ("{count} files: {counts}", "{count} tệp: {counts}"),
    "verify.claimed": (
        "claimed by the sealer's clock: {started} to {finished}",
        "theo đồng hồ của người niêm phong: {started} đến {finished}",
    ),
    "keys.summary": ("show the keys of the mirror home", "xem các khóa của kho mirror"),
    "keys.none": ("No keys in {path}.", "Không có khóa nào trong {path}."),
    "keys.encrypted": ("encrypted", "đã mã hóa"),
    "keys.plain": ("NOT encrypted", "CHƯA mã hóa"),
    "keys.absent": ("secret half not here", "không có phần bí mật ở đây"),
    "keys.no-role": ("no role", "không có vai trò"),
    "list.summary": ("list what is kept, newest first", "liệt kê những gì đã lưu, mới nhất trước"),
    "list.none": (
        "Nothing kept yet. Keep a page with:  mirror save URL",
        "Chưa lưu gì. Lưu một trang bằng lệnh:  mirror save URL",
    ),
    "list.none-of": (
        "No capture of {url}. Keep it with:  mirror save URL",
        "Chưa có bản lưu nào của {url}. Lưu bằng lệnh:  mirror save URL",
    ),
    "list.more": ("there are more; --limit N or --all shows them", "còn nữa; dùng --limit N hoặc --all để xem"),
    "list.when": ("WHEN (UTC)", "LÚC (UTC)"),
    "list.state": ("STATE", "T.TRẠNG"),
    "list.size": ("SIZE", "CỠ"),
    "list.target": ("TARGET", "ĐỊA CHỈ"),
    "state.complete": ("complete", "đầy đủ"),
    "state.partial": ("partial", "một phần"),
    "state.failed": ("failed", "thất bại"),
    "show.summary": ("show one capture: what it holds and what it misses", "xem một bản lưu: có gì và thiếu gì"),
    "show.id": ("Capture", "Bản lưu"),
    "show.target": ("Target", "Địa chỉ"),
    "show.when": ("When", "Lúc"),
    "show.state": ("State", "T.trạng"),
    "show.missing": ("{count} of the things the page needs are missing", "thiếu {count} thành phần của trang"),
    "show.page": ("Page", "Trang"),
    "show.no-page": ("no answer was kept", "không có phản hồi nào được lưu"),
    "show.title": ("Title", "Tiêu đề"),
    "show.author": ("Author", "Tác giả"),
    "show.date": ("Dated", "Ngày"),
    "show.language": ("Language", "Ngôn ngữ"),
    "show.no-text": ("No text", "Thiếu chữ"),
    "show.size": ("Size", "Cỡ"),
    "show.contents": (
        "{size}, {records} records, {responses} responses",
        "{size}, {records} bản ghi, {responses} phản hồi",
    ),
    "show.file": ("File", "Tệp"),
    "show.root": ("Root", "Gốc"),
    "show.signer": ("Sealed by", "Khóa ký"),
    "show.not-read": (
        "nobody has read the text of this page yet; `mirror index rebuild` does",
        "chưa đọc văn bản của trang này; hãy chạy `mirror index rebuild`",
    ),
    "show.no-document": (
        "the page of this capture is no HTML document, so it has no text; `mirror show ID --urls` lists what it holds",
        "trang trong bản lưu này không phải HTML nên không có văn bản; xem `mirror show ID --urls`",
    ),
    "show.no-response": (
        "this capture holds no such response; `mirror show {id} --urls` lists them",
        "bản lưu này không có phản hồi đó; xem `mirror show {id} --urls`",
    ),
    "show.raw-terminal": (
        "raw bytes could steer your terminal; send them to a file: mirror show ID --raw URL > FILE",
        "dữ liệu thô có thể điều khiển cửa sổ dòng lệnh; hãy ghi vào tệp: mirror show ID --raw URL > TỆP",
    ),
    "search.summary": ("search the text of kept pages", "tìm trong văn bản của các trang đã lưu"),
    "search.none": (
        "Nothing found. Fewer words, or words without diacritics, find more.",
        "Không tìm thấy. Hãy dùng ít từ hơn, hoặc gõ không dấu.",
    ),
    "index.summary": ("rebuild the index from the captures", "dựng lại chỉ mục từ các bản lưu"),
    "index.done": (
        "Indexed {captures} captures, {texts} with text.",
        "Đã lập chỉ mục {captures} bản lưu, {texts} có văn bản.",
    ),
    "index.skipped": ("left out: {path}: {reason}", "bỏ qua: {path}: {reason}"),
    "index.aside": ("The damaged index was moved to {path}", "Chỉ mục hỏng được chuyển tới {path}"),
    "passphrase.prompt": ("Passphrase for {name}: ", "Mật khẩu cho {name}: "),
    "passphrase.again": ("The same again: ", "Nhập lại: "),
    "passphrase.differ": (
        "the two passphrases differ; run the command again",
        "hai mật khẩu không giống nhau; hãy chạy lại lệnh",
    ),
    "passphrase.empty": (
        "the passphrase is empty; give one, or make the key with --no-passphrase",
        "mật khẩu trống; hãy nhập mật khẩu, hoặc tạo khóa với --no-passphrase",
    ),
    "passphrase.no-terminal": (
        "a passphrase is needed and there is no terminal to ask at; use --passphrase-fd N",
        "cần mật khẩu nhưng không có cửa sổ dòng lệnh để hỏi; hãy dùng --passphrase-fd N",
    ),
}

_column = 0  # of the chosen language in _TEXT


def choose(env: Mapping[str, str]) -> None:
    """Choose the language by the first of MIRROR_LANG, LC_ALL, LC_MESSAGES, LANG that is set; English if unknown."""
    global _column
    names = ("MIRROR_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((env[name] for name in names if env.get(name)), "")
    _column = int(chosen.lower().replace(".", "_").replace("-", "_").split("_")[0] == "vi")


def say(key: str, **fields: object) -> str:
    """Return message `key` in the chosen language with `fields` filled in."""
    return _TEXT[key][_column].format(**fields)
