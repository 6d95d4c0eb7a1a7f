"""sample.py --server against a server of this file: requests, order, faults, resuming, what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import evaluate
import rerank
import sample
from mathref import server
from mathref.data import load_problems
from mathref.decoding import before_stop
from mathref.grader import grade
from mathref.prompts import STOP, few_shot_prompt, generator_prompt
from mathref.runs import run_command
from mathref.samples import read_samples
from mathref.server import base_url, read_completions, retry_after

ROOT = Path(sample.__file__).parent
PROBLEMS = [
    {"id": f"p{i}", "problem": f"What is {i}+{i}?", "answer": str(2 * i), "solution": f"\\boxed{{{2 * i}}}"}
    for i in range(5)
]
PAUSE = server.Client.pause  # the real one, which the tests replace
Answer = tuple[int, dict[str, str], bytes]  # status, headers, body


def choice(request: dict[str, Any], index: int, **more: Any) -> dict[str, Any]:
    """A text that (prompt, seed, index) decide; of six of them one is right for 2+2, say."""
    number = int(request["prompt"].rsplit("+", 1)[1].split("?")[0])
    drawn = hashlib.sha256(f"{request['prompt']} {request['seed']} {index}".encode()).digest()[0] % 6
    text = f" It is \\boxed{{{2 * number + drawn % 3}}}, {request['seed']}."
    return {"index": index, "text": text, "finish_reason": ["stop", "length"][drawn == 5]} | more


def completions(request: dict[str, Any], **more: Any) -> Answer:
    choices = [choice(request, index, **more) for index in range(request["n"])]
    used = {"prompt_tokens": 9, "completion_tokens": 7 * request["n"]}
    return 200, {}, json.dumps({"object": "text_completion", "choices": choices, "usage": used}).encode()


class FakeServer:
    """Answers what `reply` makes of a request; None: the connection is reset."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.reply: Callable[[dict[str, Any]], Answer | None] = completions
        self.release = threading.Event()  # set at the end: no thread of the server outlives the test
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake._lock:
                    fake.requests.append(request)
                    fake.keys.append(self.headers["Authorization"])
                    fake.paths.append(self.path)
                self._send(fake.reply(request))

            def do_GET(self) -> None:
                fake.paths.append(self.path)
                self._send(fake.reply({}))

            def _send(self, answer: Answer | None) -> None:
                if answer is None:
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 s: closing sends a reset
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                    self.connection.close()
                    return
                status, headers, body = answer
                with contextlib.suppress(ConnectionError):  # a client that does not wait any more
                    self.send_response(status)
                    for name, value in ({"Content-Length": str(len(body))} | headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = (
                128  # with the default of 5, connections that come together wait for a second
            )

            def handle_error(self, *_: object) -> None:
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()

    def by_problem(self) -> Counter[str]:
        return Counter(request["prompt"] for request in self.requests)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    one = FakeServer()
    yield one
    one.close()


@pytest.fixture
def other() -> Iterator[FakeServer]:
    one = FakeServer()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before further tries, which are not waited for."""
    found: list[float] = []

    def pause(seconds: float, stopped: threading.Event | None) -> bool:
        found.append(seconds)
        return stopped is not None and stopped.is_set()

    monkeypatch.setattr(server.Client, "pause", staticmethod(pause))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    return path


def arguments(fake: FakeServer, data: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--server", fake.url, "--model", "runs/ssft", "--data", str(data), "--out", str(out)]
    return [*fixed, "--n", "4", *more]


def run(fake: FakeServer, data: Path, out: Path, *more: str) -> int:
    return run_command(sample.main, arguments(fake, data, out, *more))


def failing(n: int, answer: Answer | None) -> Callable[[dict[str, Any]], Answer | None]:
    """The first n tries of every request get `answer`."""
    tries: Counter[str] = Counter()

    def reply(request: dict[str, Any]) -> Answer | None:
        key = json.dumps(request)
        tries[key] += 1
        return answer if tries[key] <= n else completions(request)

    return reply


def error(status: int, body: Any, **headers: str) -> Answer:
    return status, headers, body.encode() if isinstance(body, str) else json.dumps(body).encode()


# ---- what is asked, what is written ------------------------------------------------------------------


def test_requests_are_those_of_the_protocol_with_the_samplers_seeds(fake: FakeServer, data: Path) -> None:
    out = data.parent / "s.jsonl"
    assert (
        run(fake, data, out, "--seed", "3", "--top-p", "0.8", "--max-new-tokens", "50", "--limit", "2") == 0
    )
    expected = []
    for p in PROBLEMS[:2]:
        for index in range(4):
            digest = hashlib.sha256(f"3\0{index}\0{p['id']}".encode()).digest()
            seed = int.from_bytes(digest[:8], "little") >> 33
            expected.append((f"Problem: {p['problem']}\nSolution:", seed))
    assert sorted((r["prompt"], r["seed"]) for r in fake.requests) == sorted(expected)
    assert len({seed for _, seed in expected}) == 8 and all(0 <= seed < 2**31 for _, seed in expected)
    common = {k: v for k, v in fake.requests[0].items() if k not in ("prompt", "seed")}
    assert common == {"model": "runs/ssft", "n": 1, "max_tokens": 50, "temperature": 0.9, "top_p": 0.8,
                      "stop": list(STOP), "logprobs": 1}  # fmt: skip
    assert set(fake.paths) == {"/v1/completions"} and set(fake.keys) == {None}


def test_the_file_is_that_of_the_local_sampler_in_shape(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    out = data.parent / "s.jsonl"
    assert run(fake, data, out) == 0
    meta, problems = read_samples(out)
    assert meta["model"] == "runs/ssft" and meta["server"] == fake.url and meta["model_digest"] is None
    assert [p.id for p in problems] == [p["id"] for p in PROBLEMS]
    for problem in problems:
        seeds = [int(s.text.split(", ")[1].rstrip(".")) for s in problem.samples]
        digests = (hashlib.sha256(f"0\0{i}\0{problem.id}".encode()).digest() for i in range(4))
        assert seeds == [int.from_bytes(digest[:8], "little") >> 33 for digest in digests]
        for s in problem.samples:
            assert s.correct == grade(s.text, problem.answer) and s.text == s.text.strip()
            assert s.logprob is None and s.tokens == 7
    reasons = {s.finish_reason for p in problems for s in p.samples}
    assert reasons == {"stop", "length"} and len({s.correct for p in problems for s in p.samples}) == 2
    assert "20 samples (140 tokens" in capsys.readouterr().out


def test_the_order_of_the_answers_changes_nothing(fake: FakeServer, data: Path) -> None:
    """Eight requests have to be underway before one is answered, and the last one is answered first."""
    waiting: list[str] = []
    several = threading.Condition()

    def backwards(request: dict[str, Any]) -> Answer:
        with several:
            waiting.append(json.dumps(request))
            several.notify_all()
            assert several.wait_for(lambda: len(waiting) >= 8 or len(fake.requests) == 20, timeout=30)
            several.wait_for(lambda: waiting[-1] == json.dumps(request), timeout=0.05)
            waiting.remove(json.dumps(request))
            several.notify_all()
        return completions(request)

    assert run(fake, data, data.parent / "one.jsonl", "--concurrency", "1") == 0
    fake.requests.clear()
    fake.reply = backwards
    assert run(fake, data, data.parent / "many.jsonl", "--concurrency", "8") == 0
    assert (data.parent / "many.jsonl").read_bytes() == (data.parent / "one.jsonl").read_bytes()


def test_few_shot_prompts_are_the_samplers(fake: FakeServer, data: Path) -> None:
    more = [{**p, "id": f"o{i}", "problem": f"And {p['problem']}"} for i, p in enumerate(PROBLEMS)]
    (data.parent / "shots.jsonl").write_text("".join(json.dumps(p) + "\n" for p in more))
    flags = ("--few-shot", "2", "--shots", str(data.parent / "shots.jsonl"), "--limit", "1", "--n", "1")
    out = data.parent / "s.jsonl"
    assert run(fake, data, out, *flags) == 0
    problems = load_problems(str(data)).problems[:1]
    shots = sample.draw_shots(sample.parse_args(arguments(fake, data, out, *flags)), problems)
    assert [r["prompt"] for r in fake.requests] == [few_shot_prompt(shots, problems[0].problem)]
    assert fake.requests[0]["prompt"].count("Solution: \\boxed") == 2
    assert read_samples(out)[0]["few_shot"] == 2


def test_greedy_is_asked_for_once(fake: FakeServer, data: Path) -> None:
    """As here: greedy samples are all equal, so one is drawn, however many are written."""
    assert run_command(sample.main, [*arguments(fake, data, data.parent / "g"), "--temperature", "0"]) == 0
    assert set(fake.by_problem().values()) == {1} and fake.requests[0]["temperature"] == 0
    assert [len({s.text for s in p.samples}) for p in read_samples(data.parent / "g")[1]] == [1] * 5
    assert [len(p.samples) for p in read_samples(data.parent / "g")[1]] == [4] * 5


def test_several_samples_a_request_and_a_server_that_gives_fewer(fake: FakeServer, data: Path) -> None:
    """Of 4 samples in requests of 3, a server that gives two at most is asked for 3, 1 and 1."""
    fake.reply = lambda request: completions(request | {"n": min(request["n"], 2)})
    out = data.parent / "s.jsonl"
    assert run(fake, data, out, "--samples-per-request", "3", "--limit", "1") == 0
    seeds = [hashlib.sha256(f"0\0{i}\0p0".encode()).digest() for i in (0, 2, 3)]
    expected = [(n, int.from_bytes(d[:8], "little") >> 33) for n, d in zip((3, 1, 1), seeds, strict=True)]
    assert sorted((r["n"], r["seed"]) for r in fake.requests) == sorted(expected)
    (first, second, third) = (seed for _, seed in expected)
    texts = [s.text for s in read_samples(out)[1][0].samples]
    assert [int(text.split(", ")[1].rstrip(".")) for text in texts] == [first, first, second, third]
    assert "samples_per_request" in read_samples(out)[0]


def test_choices_are_ordered_by_their_index(fake: FakeServer, data: Path) -> None:
    def shuffled(request: dict[str, Any]) -> Answer:
        return 200, {}, json.dumps({"choices": [choice(request, i) for i in (2, 0, 3, 1)]}).encode()

    for name, fake.reply in (("a", completions), ("b", shuffled)):
        assert run(fake, data, data.parent / name, "--samples-per-request", "4") == 0
    texts = [[s.text for p in read_samples(data.parent / name)[1] for s in p.samples] for name in "ab"]
    assert texts[0] == texts[1] and len(set(texts[0])) > 5
    assert read_samples(data.parent / "b")[1][0].samples[0].tokens is None


@pytest.mark.parametrize(
    ("logprobs", "total", "tokens"),
    [
        ({"token_logprobs": [-0.5, -1.25, -2]}, -3.75, 3),
        ({"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]}, -0.75, 2),
        ({"token_logprobs": [None, -1.25]}, None, 2),
        ({"token_logprobs": [float("nan"), -1.0]}, None, 2),
        ({"content": [{}, 3]}, None, 2),
        ({"token_logprobs": []}, None, 9),
        ({}, None, 9),
        ([-1.0], None, 9),
        (None, None, 9),
    ],
)
def test_logprobs_where_the_server_gives_them(logprobs: Any, total: float | None, tokens: int) -> None:
    answer = {"choices": [{"text": "t", "logprobs": logprobs}], "usage": {"completion_tokens": 9}}
    (found,) = read_completions(answer, 1, ())
    assert (found.logprob, found.n_tokens) == (total, tokens)


def test_a_text_ends_before_a_stop_string_and_a_reason_is_kept() -> None:
    """Some servers keep the stop string; a reason may be missing, or a word of the server's own."""
    texts = ["a\nProblem: b\n\nProblem: c", "a", "b", "c"]
    reasons = ["length", "content_filter", None, "length"]
    answer = {"choices": [{"text": t, "finish_reason": r} for t, r in zip(texts, reasons, strict=True)]}
    found = read_completions(answer, 4, STOP)
    assert [c.text for c in found] == ["a", "a", "b", "c"]
    assert [c.finish_reason for c in found] == ["stop", "content_filter", "unknown", "length"]
    assert before_stop("xaby", ("b", "ab")) == "x" and before_stop("xy", ()) == "xy"


# ---- faults ------------------------------------------------------------------------------------------

WHOLE = completions({"prompt": "1+1?", "seed": 0, "n": 1})[2]
PASSING = {
    "429": error(429, {"error": {"message": "slow down"}}),
    "500": error(500, "oops"),
    "503": error(503, ""),
    "529": error(529, "overloaded"),
    "408": error(408, ""),
    "reset": None,
    "body cut short": (200, {"Content-Length": "9999"}, WHOLE[:50]),
    "body cut in a length that is said to be right": (200, {}, WHOLE[:-5]),
    "chunk cut short": (200, {"Transfer-Encoding": "chunked", "Content-Length": ""}, b"fff\r\n{"),
    "no JSON": (200, {}, b"<html>"),
    "deep JSON": (200, {}, b"[" * 100_000),
    "no UTF-8": (200, {}, b'{"choices": "\xff"}'),
    "no choices": (200, {}, b'{"object": "text_completion"}'),
    "no list": (200, {}, b'{"choices": {"text": "a"}}'),
    "empty list": (200, {}, b'{"choices": []}'),
    "too many": (200, {}, b'{"choices": [{"text": "a"}, {"text": "b"}]}'),
    "no text": (200, {}, b'{"choices": [{"text": null}]}'),
    "a number": (200, {}, b"7"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_leaves_no_trace(fault: str, fake: FakeServer, data: Path, pauses: list[float]) -> None:
    """Each request fails twice, then is answered: the same bytes as without faults."""
    flags = ("--limit", "2", "--n", "2")
    assert run(fake, data, data.parent / "calm.jsonl", *flags) == 0 and not pauses
    fake.requests.clear()
    fake.reply = failing(2, PASSING[fault])
    assert run(fake, data, data.parent / "rough.jsonl", *flags, "--retries", "2") == 0
    assert len(fake.requests) == 3 * 4 and len(pauses) == 2 * 4
    assert (data.parent / "rough.jsonl").read_bytes() == (data.parent / "calm.jsonl").read_bytes()


@pytest.mark.parametrize(("fault", "said"), [
    ("429", "HTTP 429: slow down (3 tries)"), ("503", "HTTP 503: Service Unavailable (3 tries)"),
    ("reset", "no connection, or a lost one"), ("body cut short", "cut short or no JSON, it begins '{"),
    ("no JSON", "its answer is cut short or no JSON, it begins '<html>' (3 tries)"),
    ("no choices", 'holds no 1 to 1 completions: {"object": "text_completion"} (3 tries)'),
])  # fmt: skip
def test_what_does_not_pass_is_one_line(
    fault: str, said: str, fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    fake.reply = lambda request: PASSING[fault]
    out = data.parent / "s.jsonl"
    assert run(fake, data, out, "--retries", "2", "--concurrency", "1") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert said in line and "problem p0" in line and fake.url in line
    assert fake.by_problem()[generator_prompt(PROBLEMS[0]["problem"])] >= 3
    assert out.read_bytes().count(b"\n") == 1  # the meta line: the same command goes on from it
    fake.reply = completions
    assert run(fake, data, out) == 0


def test_no_server_is_one_line(data: Path, capsys: pytest.CaptureFixture) -> None:
    fake = FakeServer()
    fake.close()
    assert run(fake, data, data.parent / "s.jsonl", "--retries", "1") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "no connection" in line and "refused" in line.lower() and "2 tries" in line


def test_waiting_is_told_but_not_by_every_request(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    fake.reply = failing(2, PASSING["503"])
    assert run(fake, data, data.parent / "s.jsonl", "--limit", "2", "--n", "2", "--retries", "2") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "trying again" in line]
    assert len(told) == 1  # of eight pauses
    assert told[0] == f"{fake.url}: HTTP 503: Service Unavailable; trying again in 1 s, 2 tries left"


def test_https_where_there_is_none_is_one_line(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = arguments(fake, data, data.parent / "s.jsonl")
    assert run_command(sample.main, [*flags, "--server", fake.url.replace("http:", "https:")]) == 2
    assert "there is no TLS at this address" in capsys.readouterr().err


def test_a_wrong_address_leaves_no_file_in_the_way(fake: FakeServer, other: FakeServer, data: Path) -> None:
    """Its meta line alone once refused the right address as another run; one sample still does."""
    out = data.parent / "s.jsonl"
    fake.reply = lambda request: error(404, "")
    assert run(fake, data, out) == 2
    assert run(other, data, out) == 0
    before = out.read_bytes()
    fake.reply = completions
    assert run(fake, data, out) == 2 and out.read_bytes() == before


def test_a_server_that_is_silent_is_asked_again(fake: FakeServer, data: Path) -> None:
    """Silent before the first byte, and between two bytes of a body that never ends."""
    silent = iter(["headers", "body"])

    def reply(request: dict[str, Any]) -> Answer:
        kind = next(silent, None)
        if kind == "headers":
            fake.release.wait(30)
        return (200, {"Content-Length": "9999"}, b" " * 9999) if kind else completions(request)

    fake.reply = reply
    assert run(fake, data, data.parent / "s.jsonl", "--timeout", "0.3", "--concurrency", "1") == 0
    assert len(fake.requests) == 22
    assert len(read_samples(data.parent / "s.jsonl")[1]) == 5


def test_a_dripping_body_ends_at_the_timeout(
    monkeypatch: pytest.MonkeyPatch, fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    """A byte now and then kept a connection open for ever: each wait was short, their sum was not bounded."""

    class Dripping:
        status, headers = 200, {"Location": None}

        def read1(self, _: int) -> bytes:
            time.sleep(0.01)
            return b" "

        def __enter__(self) -> Dripping:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(server.urllib.request.OpenerDirector, "open", lambda *_, **__: Dripping())
    assert run(fake, data, data.parent / "s.jsonl", "--timeout", "0.1", "--retries", "0") == 1
    assert "no whole answer within 0.1 s (--timeout) (1 try)" in capsys.readouterr().err


def test_pauses_double_with_jitter(fake: FakeServer, data: Path, pauses: list[float]) -> None:
    fake.reply = failing(8, error(503, ""))
    assert run(fake, data, data.parent / "s.jsonl", "--limit", "1", "--n", "1", "--retries", "8") == 0
    full = [1, 2, 4, 8, 16, 32, 60, 60]
    assert all(0.5 * s <= pause <= s for pause, s in zip(pauses, full, strict=True))
    assert len({pause / s for pause, s in zip(pauses, full, strict=True)}) > 1


def test_a_pause_ends_with_the_run() -> None:
    over = threading.Event()
    assert PAUSE(0.001, over) is False and PAUSE(0.001, None) is False
    over.set()
    assert PAUSE(3600, over) is True


def test_the_server_says_how_long_to_wait(
    fake: FakeServer, data: Path, pauses: list[float], capsys: pytest.CaptureFixture
) -> None:
    one = ("--limit", "1", "--n", "1")
    fake.reply = failing(1, error(429, "", **{"Retry-After": "17"}))
    assert run(fake, data, data.parent / "s.jsonl", *one) == 0
    assert pauses == [17]
    fake.reply = lambda request: error(429, "quota", **{"Retry-After": "86400"})
    assert run(fake, data, data.parent / "t.jsonl", *one) == 1
    assert "quota (1 try; it asks to wait 86400 s)" in capsys.readouterr().err and pauses == [17]


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("12", 0) == 12 and retry_after(" 1.5 ", 0) == 1.5
    assert retry_after("Thu, 01 Jan 1970 00:02:00 GMT", 30) == 90
    for value in (None, "", "-3", "soon", "nan", "inf", "Thu, 01 Jan 1970 00:00:10 GMT", "Thu, 99 Jan"):
        assert retry_after(value, 30) == 0


MISSING = "expected a server with /v1/completions there, and the name of one of its models"


@pytest.mark.parametrize(("status", "body", "said"), [
    (400, {"error": {"message": "max_tokens is too large"}}, "HTTP 400: max_tokens is too large"),
    (401, {"error": "wrong key sk-very-secret"}, "HTTP 401: wrong key [key]"),
    (403, "", "HTTP 403: Forbidden"),
    (404, {"object": "error", "message": "no model `x`"}, f"HTTP 404: no model `x`; {MISSING}"),
    (404, {"detail": "Not Found"}, f"HTTP 404: Not Found; {MISSING}"),
    (405, "", f"HTTP 405: Method Not Allowed; {MISSING}"),
    (501, "", f"HTTP 501: Not Implemented; {MISSING}"),
    (413, "<html>\n<b>too</b>\r\nlarge\x1b[31m</html>", "<html> <b>too</b> large [31m</html>"),
    (422, {"detail": [{"msg": "bad"}]}, '{"detail": [{"msg": "bad"}]}'),
    (400, "x" * 5000, "HTTP 400: " + "x" * 300 + " ..."),
])  # fmt: skip
def test_what_cannot_get_better_is_not_tried_again(
    status: int, body: Any, said: str, fake: FakeServer, data: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch, pauses: list[float],
) -> None:  # fmt: skip
    """The server's own words, in one line, without control characters and without the key."""
    monkeypatch.setenv("MY_KEY", "sk-very-secret\n")
    fake.reply = lambda request: error(status, body)
    flags = ("--api-key-env", "MY_KEY", "--limit", "1", "--n", "1")
    assert run(fake, data, data.parent / "s.jsonl", *flags) == 2
    shown = capsys.readouterr().err
    line = shown.splitlines()[-1]
    assert line.endswith(said) and "problem p0" in line and "secret" not in shown and "\x1b" not in shown
    assert fake.keys == ["Bearer sk-very-secret"] and not pauses
    assert "secret" not in (data.parent / "s.jsonl").read_text()


def test_a_limit_on_the_number_of_samples_is_explained(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    limit = error(400, {"error": {"message": "n must be at most 2"}})
    fake.reply = lambda request: limit if request["n"] > 2 else completions(request)
    assert run(fake, data, data.parent / "s.jsonl", "--samples-per-request", "4") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "n must be at most 2; if that is for their number, lower --samples-per-request" in line
    assert run(fake, data, data.parent / "s2.jsonl", "--samples-per-request", "2") == 0


def test_what_came_before_a_refused_problem_is_kept(fake: FakeServer, data: Path) -> None:
    """And a run that fails does not wait for the other answers: the server holds them back."""

    def reply(request: dict[str, Any]) -> Answer:
        if "2+2" in request["prompt"]:
            return error(400, "too long")
        if "3+3" in request["prompt"]:
            fake.release.wait(60)
        return completions(request)

    fake.reply = reply
    assert run(fake, data, data.parent / "s.jsonl") == 2
    assert not fake.release.is_set()
    assert [p.id for p in read_samples(data.parent / "s.jsonl")[1]] == ["p0", "p1"]


# ---- what is not followed, not read, not accepted ----------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_is_refused(
    status: int, fake: FakeServer, other: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    port = fake.url.rsplit(":", 1)[1]
    same_path = [f"{start}/v1/completions" for start in (other.url, f"https://127.0.0.1:{port}")]
    for target in (*same_path, f"http://localhost:{port}/", "file:///etc/passwd", "//example.com/x"):
        fake.reply = lambda request, target=target: (status, {"Location": target}, b"")
        assert run(fake, data, data.parent / "s.jsonl", "--limit", "1", "--overwrite") == 2
        assert "which is not followed" in capsys.readouterr().err.splitlines()[-1]
    assert not other.paths


def test_a_redirect_on_the_same_server_is_followed(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    def reply(request: dict[str, Any]) -> Answer:
        moved = fake.paths[-1] == "/v1/completions"
        return (307, {"Location": "/api/completions"}, b"") if moved else completions(request)

    fake.reply = reply
    assert run(fake, data, data.parent / "s.jsonl", "--concurrency", "1") == 0
    assert Counter(fake.paths) == {"/v1/completions": 20, "/api/completions": 20}
    fake.reply = lambda request: (302, {"Location": "/v1/completions"}, b"")
    assert run(fake, data, data.parent / "t.jsonl", "--limit", "1", "--n", "1") == 2
    assert "redirects more than 5 times" in capsys.readouterr().err


def test_a_body_without_end_is_not_read(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_BODY", 1 << 20)
    fake.reply = lambda request: (200, {}, b" " * (1 << 20) + completions(request)[2])
    assert run(fake, data, data.parent / "s.jsonl", "--limit", "1", "--n", "1") == 2
    assert "its answer has more than 1 MB" in capsys.readouterr().err and len(fake.requests) == 1
    fake.reply = lambda request: (200, {}, b" " * (1 << 19) + completions(request)[2])
    assert run(fake, data, data.parent / "t.jsonl", "--limit", "1", "--n", "1") == 0


def test_addresses_with_and_without_v1_are_one(fake: FakeServer, data: Path) -> None:
    for url in ("http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"):
        assert base_url(url) == "http://h:8000"
    assert (
        base_url("https://h/api/v1") == "https://h/api" and base_url("http://[::1]:80") == "http://[::1]:80"
    )
    out = data.parent / "s.jsonl"
    assert run(fake, data, out, "--limit", "3") == 0
    asked = len(fake.requests)
    flags = [*arguments(fake, data, out, "--limit", "3"), "--server", f"{fake.url}/v1/"]
    assert run_command(sample.main, flags) == 0 and len(fake.requests) == asked


@pytest.mark.parametrize(("url", "said"), [
    ("localhost:8000", "expected an address like"), ("ftp://h", "expected an address like"),
    ("http://", "expected an address like"), ("http://h:x", "expected an address like"),
    ("http://h:99999", "expected an address like"), ("http://h/v1?key=a", "expected an address like"),
    ("http://h /v1", "expected an address like"), ("http://h\r\nX: y", "expected an address like"),
    ("http://me:hunter2@h", "holds a user or password"),
])  # fmt: skip
def test_bad_addresses_are_one_line(
    url: str, said: str, fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run_command(sample.main, [*arguments(fake, data, data.parent / "s"), "--server", url]) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1 and "hunter2" not in shown
    assert not (data.parent / "s").exists()


@pytest.mark.parametrize(("more", "said"), [
    (["--concurrency", "0"], "--concurrency must be at least 1, got 0"),
    (["--samples-per-request", "0"], "--samples-per-request must be at least 1"),
    (["--timeout", "0"], "--timeout must be above 0"), (["--timeout", "nan"], "--timeout must be above 0"),
    (["--retries", "-1"], "--retries must be at least 0"),
    (["--device", "cpu"], "--device would be ignored with --server: leave it out"),
    (["--batch-rows", "9"], "--batch-rows would be ignored with --server"),
    (["--api-key-env", "NO_SUCH_NAME"], "--api-key-env NO_SUCH_NAME: there is no such environment variable"),
    (["--api-key-env", "BAD_KEY"], "the API key has characters that no key has"),
    (["--top-p", "0"], "--top-p must be above 0"),
])  # fmt: skip
def test_mistakes_are_one_line_and_no_file(
    more: list[str], said: str, fake: FakeServer, data: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("BAD_KEY", "sk-secret\nX-Injected: 1")
    assert run(fake, data, data.parent / "s.jsonl", *more) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1 and "secret" not in shown
    assert not (data.parent / "s.jsonl").exists() and not fake.requests


def test_flags_of_a_server_need_one(capsys: pytest.CaptureFixture) -> None:
    assert run_command(sample.main, ["--model", "tiny", "--concurrency", "4"]) == 2
    assert "--concurrency would be ignored without --server" in capsys.readouterr().err


# ---- keys and names ----------------------------------------------------------------------------------


def test_the_key_is_sent_and_never_shown(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert run(fake, data, data.parent / "s.jsonl") == 0
    assert set(fake.keys) == {"Bearer sk-very-secret"}
    captured = capsys.readouterr()
    assert "secret" not in captured.out + captured.err + (data.parent / "s.jsonl").read_text()
    assert "secret" not in repr(server.Client("http://h", "sk-very-secret"))
    fake.keys.clear()
    assert run(fake, data, data.parent / "t.jsonl", "--api-key-env", "") == 0
    assert set(fake.keys) == {None}


def test_the_only_model_of_a_server_needs_no_name(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    names = ["org/llama:8b"]

    def reply(request: dict[str, Any]) -> Answer:
        listed = json.dumps({"data": [{"id": name} for name in names]}).encode()
        return completions(request) if request else (200, {}, listed)

    fake.reply = reply
    command = ["--server", fake.url, "--data", str(data), "--n", "1", "--out", str(data.parent / "s.jsonl")]
    assert run_command(sample.main, command) == 0
    assert fake.paths[0] == "/v1/models" and {r["model"] for r in fake.requests} == {"org/llama:8b"}
    args = sample.parse_args(command)
    assert sample.default_out(args, names[0]).name == "llama-8b-served-problems-n1-t0.9.jsonl"
    names.append("other")
    assert run_command(sample.main, [*command, "--overwrite"]) == 2
    assert "has 2 models (org/llama:8b, other); name one with --model" in capsys.readouterr().err


# ---- going on, and what comes next -------------------------------------------------------------------


def test_a_cut_file_is_completed_to_the_byte_and_nothing_asked_twice(fake: FakeServer, data: Path) -> None:
    whole, part = data.parent / "whole.jsonl", data.parent / "part.jsonl"
    assert run(fake, data, whole) == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept, n_kept in ((b"".join(lines[:3]), 2), (b"".join(lines[:3]) + lines[3][:40], 2), (lines[0], 0)):
        part.write_bytes(kept)
        fake.requests.clear()
        assert run(fake, data, part, "--concurrency", "3") == 0
        assert part.read_bytes() == whole.read_bytes()
        asked = {generator_prompt(p["problem"]): 4 for p in PROBLEMS[n_kept:]}
        assert fake.by_problem() == asked
    assert run(fake, data, part, "--seed", "1") == 2  # another run


def test_a_killed_run_goes_on_without_torch(fake: FakeServer, data: Path) -> None:
    """kill -9 while the server holds back the third problem; torch cannot be imported in either run."""
    whole, part = data.parent / "whole.jsonl", data.parent / "part.jsonl"
    assert run(fake, data, whole) == 0

    def held(request: dict[str, Any]) -> Answer:
        if "2+2" in request["prompt"]:
            fake.release.wait(120)
        return completions(request)

    fake.reply = held
    code = "import sys; sys.modules['torch'] = None; import sample; sys.exit(sample.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments(fake, data, part)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if part.exists() and part.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    assert part.read_bytes().count(b"\n") == 3  # meta, p0, p1
    fake.reply = completions
    fake.requests.clear()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert part.read_bytes() == whole.read_bytes()
    # Four each of the rest; a request of the killed run may still have been on its way.
    asked = fake.by_problem()
    assert asked.keys() == {generator_prompt(p["problem"]) for p in PROBLEMS[2:]} and min(asked.values()) == 4


@pytest.mark.parity
def test_another_engine_writes_what_the_sampler_writes(fake: FakeServer, data: Path) -> None:
    """The whole way round: a saved folder in transformers, served, sampled: the greedy texts are ours."""
    transformers = pytest.importorskip("transformers", reason="needs transformers (requirements-dev.txt)")
    from mathref.runs import ASSETS
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_model, save_model

    folder = data.parent / "run"
    save_model(load_model(ASSETS / "tiny"), folder)
    load_tokenizer(ASSETS / "tiny").save(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    one_at_a_time = threading.Lock()

    def reply(request: dict[str, Any]) -> Answer:
        inputs = tokenizer(request["prompt"], return_tensors="pt")
        with one_at_a_time:
            written = model.generate(
                **inputs, max_new_tokens=request["max_tokens"], do_sample=False, pad_token_id=0
            )[0, inputs["input_ids"].shape[1] :]
        reason = "stop" if tokenizer.eos_token_id in written else "length"
        text = tokenizer.decode(written, skip_special_tokens=True)  # the client cuts it at a stop string
        return 200, {}, json.dumps({"choices": [{"text": text, "finish_reason": reason}]}).encode()

    fake.reply = reply
    common = ["--limit", "3", "--greedy", "--few-shot", "2", "--max-new-tokens", "50"]
    served, here = data.parent / "served.jsonl", data.parent / "here.jsonl"
    assert (
        run_command(sample.main, ["--server", fake.url, "--model", "m", "--out", str(served), *common]) == 0
    )
    command = ["--model", str(folder), "--device", "cpu", "--out", str(here), *common]
    assert run_command(sample.main, command) == 0
    theirs, ours = (
        [(p.id, s.text, s.answer, s.correct, s.finish_reason) for p in read_samples(f)[1] for s in p.samples]
        for f in (served, here)
    )
    assert theirs == ours and len({text for _, text, *_ in ours}) == 3


def test_a_file_without_logprobs_is_evaluated_and_reranked(
    fake: FakeServer, data: Path, capsys: pytest.CaptureFixture
) -> None:
    """Scored by a shipped base; the likelihood as an evaluator needs the log-probabilities, and says so."""
    out, scored = data.parent / "s.jsonl", data.parent / "scored.jsonl"
    assert run(fake, data, out) == 0 and run(fake, data, data.parent / "g.jsonl", "--greedy", "--n", "1") == 0
    capsys.readouterr()
    assert run_command(evaluate.main, [str(out), str(data.parent / "g.jsonl")]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("runs/ssft")]
    assert len(table) == 1  # greedy and sampled solutions of one served model are one system
    rescore = ["--samples", str(out), "--out", str(scored)]
    assert run_command(rerank.main, ["--evaluator", "tiny", "--device", "cpu", *rescore]) == 0
    assert run_command(evaluate.main, [str(scored)]) == 0
    assert all(s.score is not None for p in read_samples(scored)[1] for s in p.samples)
    assert run_command(rerank.main, ["--evaluator", "likelihood", "--overwrite", *rescore]) == 2
    assert "a sample without 'logprob'" in capsys.readouterr().err
    fake.reply = lambda request: completions(request, logprobs={"token_logprobs": [-0.5, -0.25]})
    assert run(fake, data, out, "--overwrite") == 0
    assert run_command(rerank.main, ["--evaluator", "likelihood", "--overwrite", *rescore]) == 0
