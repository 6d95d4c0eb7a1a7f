"""Completions from a server: the same samples, drawn by another engine through the completions protocol.

Paper: section 5, the N samples of a problem; which engine writes them is nobody's concern.
Choices [P]: the protocol is what vLLM, llama.cpp, Ollama and others have in common, POST URL/v1/completions
with a text prompt (chat endpoints put words of their own around it). A request asks for `samples_per_request`
samples, one by default: some servers refuse several, some ignore the number, some draw them all alike. Its
seed is that of its first sample (decoding.sample_seed), so no sample depends on the order of the answers.
Log-probabilities are the server's; whether end-of-sequence and temperature are in them is for it to say.

What may pass (408, 425, 429, 5xx except 501, timeouts, lost connections, answers that are cut short or hold
no completions) is tried again `retries` times, after pauses that double, with jitter, or when the server
says; pauses are told, one line in TELL_EVERY_S. Anything else ends the run with the server's own words. A
body is read up to MAX_BODY bytes. A redirect is followed to the same scheme, host and port only: neither key
nor prompts go where the user did not send them.
"""

from __future__ import annotations

import email.utils
import functools
import http.client
import itertools
import json
import math
import queue
import random
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

from mathref import __version__
from mathref.decoding import SampleConfig, before_stop, sample_seed

MAX_BODY = 64 << 20  # bytes of an answer; 64 samples of 4,000 tokens with their probabilities are some 25 MB
MAX_WORDS = 300  # characters of a server's error message that are passed on
MAX_BEGINNING = 60  # bytes shown of an answer that is something else
MAX_REDIRECTS = 5
BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0  # before the second try, doubled before each further one; at most
TELL_EVERY_S = 10.0  # however many requests wait
MAX_WAIT_S = 3600.0  # a server that asks for a longer pause is left alone
AHEAD = 4  # requests underway or answered behind the oldest open one, times the concurrency
PASSING = (408, 425, 429)  # beside 5xx except 501: what may be otherwise at the next try
MISSING = (404, 405, 501)  # another kind of server, or a model that it does not have
PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")  # what OpenSSL calls an answer without TLS
T = TypeVar("T")


@dataclass(frozen=True)
class ServedCompletion:
    """One sample as the server gave it; None for what it did not say."""

    text: str
    n_tokens: int | None
    logprob: float | None
    finish_reason: str


class _Passing(Exception):
    """A fault that may pass; `wait_s` is how long the server asks to wait."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


# ---- addresses, headers, bodies ----------------------------------------------------------------------


def base_url(url: str) -> str:
    """The address of a server, http://HOST:PORT or with a path before /v1, without /v1 and slash.

    Raises ValueError for what is no such address, and for one that holds a password, since the samples file
    records it.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # such as a port that is no number
        sound = False
    if not sound or parts.query or parts.fragment or not url.isascii() or any(c.isspace() for c in url):
        raise ValueError(
            f"--server {url!r}: expected an address like http://localhost:8000 or https://HOST/v1"
        )
    if "@" in parts.netloc:
        raise ValueError(
            "--server: the address holds a user or password; put a key into --api-key-env instead"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/").removesuffix("/v1").rstrip("/")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def retry_after(value: str | None, now: float) -> float:
    """Seconds of a Retry-After header, a number or a date, from `now` on; 0 for none and for nonsense."""
    try:
        wait_s = float(value or 0)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(str(value)).timestamp() - now
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, wait_s) if math.isfinite(wait_s) else 0.0


def _server_words(content: bytes) -> str:
    """What a server says of an error, in the shapes that are about, as text of one line."""
    text = content.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        for key in ("error", "message", "detail"):
            found = found.get(key, found) if isinstance(found, dict) else found
        text = found if isinstance(found, str) else text
    except (ValueError, RecursionError):
        pass
    return text


class _EveryStatus(urllib.request.HTTPErrorProcessor):
    """Hands over every response as it is: no redirect is followed, no status is an exception."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


# ---- what a server is asked, and what it answers -----------------------------------------------------


class _Part(NamedTuple):
    """Samples `first` to `first + count - 1` of a problem, which are asked for together."""

    problem_id: str
    prompt: str
    first: int
    count: int


def request_of(model: str, config: SampleConfig, part: _Part, *, logprobs: bool) -> dict[str, Any]:
    """The request for the samples of a part, as the protocol has it."""
    request = {
        "model": model,
        "prompt": part.prompt,
        "n": part.count,
        "max_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "seed": sample_seed(config.seed, part.problem_id, part.first)
        >> 32,  # servers differ in the bits taken
        "stop": list(config.stop),
    }
    if config.top_k:  # no part of the protocol, though vLLM and llama.cpp know it
        request["top_k"] = config.top_k
    if logprobs:
        request["logprobs"] = 1
    return request


def read_models(answer: Any) -> list[str]:
    """The names of the models that a server lists."""
    try:
        return [str(entry["id"]) for entry in answer["data"]]
    except (TypeError, KeyError):
        raise _Passing("its list of models cannot be read") from None


def _token_logprobs(choice: dict[str, Any]) -> list[Any] | None:
    """A number for each token, from {"token_logprobs": [..]} or {"content": [{"logprob": ..}, ..]}."""
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        return None
    values = found.get("token_logprobs")
    if values is None and isinstance(found.get("content"), list):
        values = [token.get("logprob") if isinstance(token, dict) else None for token in found["content"]]
    return values if isinstance(values, list) and values else None


def _completion(choice: dict[str, Any], stop: Sequence[str], n_tokens: int | None) -> ServedCompletion:
    logprobs, total = _token_logprobs(choice), None
    if logprobs is not None:
        n_tokens = len(logprobs)
        if all(isinstance(value, int | float) and math.isfinite(value) for value in logprobs):
            total = math.fsum(logprobs)
    text = before_stop(choice["text"], stop)
    reason = choice.get("finish_reason")
    if len(text) < len(choice["text"]):
        reason = "stop"
    return ServedCompletion(
        text, n_tokens, total, reason if isinstance(reason, str) and reason else "unknown"
    )


def read_completions(answer: Any, n: int, stop: Sequence[str]) -> list[ServedCompletion]:
    """The 1 to `n` samples of an answer, in the order of their index; text ends before a stop string."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    fits = isinstance(choices, list) and 1 <= len(choices) <= n
    if not fits or not all(isinstance(c, dict) and isinstance(c.get("text"), str) for c in choices):
        raise _Passing(f"its answer holds no 1 to {n} completions: {json.dumps(answer)[:MAX_WORDS]}")
    usage = answer.get("usage")
    used = usage.get("completion_tokens") if isinstance(usage, dict) and len(choices) == 1 else None
    n_tokens = used if type(used) is int else None
    choices.sort(key=lambda c: c["index"] if type(c.get("index")) is int else 0)
    return [_completion(choice, stop, n_tokens) for choice in choices]


# ---- work in parallel, results in order --------------------------------------------------------------


def _work(tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (task := tasks.get()) is not None:
        future, call = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # whatever it is, it is raised where the result is asked for
                future.set_exception(error)


def in_order(calls: Iterable[Callable[[], T]], workers: int) -> Iterator[T]:
    """The results of `calls` in their order, `workers` of them running at a time.

    The threads are daemons, and not an executor's, which a program would wait for: an interrupted one is not
    to hang for the minutes that a server may still take to answer.
    """
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(workers):
        threading.Thread(target=_work, args=(tasks,), daemon=True).start()
    pending: deque[Future[T]] = deque()
    try:
        for call in calls:
            pending.append(Future())
            tasks.put((pending[-1], call))
            if len(pending) > AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for _ in range(workers):
            tasks.put(None)


# ---- the client --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """A server, and how it is asked. Errors: ValueError for what asking again does not mend, ConnectionError
    for what did not pass in `retries` further tries; each one line, in which the key does not occur.
    """

    url: str  # of base_url
    key: str | None = field(default=None, repr=False)
    samples_per_request: int = 1
    concurrency: int = 16  # requests underway
    timeout_s: float = 600.0  # for a connection, for the next bytes, and for the whole of a body
    retries: int = 5
    logprobs: bool = True  # ask for them
    tell: Callable[[str], None] = lambda line: None  # is told why it waits
    _told: list[float] = field(default_factory=lambda: [-math.inf], repr=False)  # when that was last

    def __post_init__(self) -> None:
        bounds = [
            ("samples-per-request", self.samples_per_request, self.samples_per_request >= 1, "at least 1"),
            ("concurrency", self.concurrency, self.concurrency >= 1, "at least 1"),
            ("timeout", self.timeout_s, 0 < self.timeout_s <= 1e6, "above 0 and at most 1,000,000 seconds"),
            ("retries", self.retries, self.retries >= 0, "at least 0"),
        ]
        for name, value, holds, allowed in bounds:
            if not holds:
                raise ValueError(f"--{name} must be {allowed}, got {value!r}")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ValueError("the API key has characters that no key has; look at its environment variable")

    @functools.cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        """One for all requests: from Python 3.12 on, making one reads the system's certificates, 50 ms."""
        return urllib.request.build_opener(_EveryStatus)

    def only_model(self) -> str:
        """The name of the model where the server has just one; ValueError lists several."""
        names = self.ask("/v1/models", None, read_models)
        if len(names) != 1:
            listed = ", ".join(map(self._shown, names[:10])) or "none"
            raise ValueError(f"{self.url} has {len(names)} models ({listed}); name one with --model")
        return names[0]

    def draw(
        self, model: str, config: SampleConfig, problems: Iterable[tuple[str, str]]
    ) -> Iterator[list[ServedCompletion]]:
        """config.n completions of each (problem id, prompt), problem by problem in their order."""
        distinct, step = config.n_distinct, self.samples_per_request
        starts = range(0, distinct, step)
        parts = (
            _Part(problem_id, prompt, first, min(step, distinct - first))
            for problem_id, prompt in problems
            for first in starts
        )
        stopped = threading.Event()
        calls = (functools.partial(self._draw_part, model, config, part, stopped) for part in parts)
        answers = in_order(calls, self.concurrency)
        try:
            while found := list(itertools.chain.from_iterable(itertools.islice(answers, len(starts)))):
                yield found * (config.n // distinct)
        finally:
            stopped.set()
            answers.close()

    def _draw_part(
        self, model: str, config: SampleConfig, part: _Part, stopped: threading.Event
    ) -> list[ServedCompletion]:
        """All samples of the part; a server that gives fewer than it is asked for is asked for the rest."""
        found: list[ServedCompletion] = []
        while (missing := part.count - len(found)) > 0:
            rest = _Part(part.problem_id, part.prompt, part.first + len(found), missing)
            request = request_of(model, config, rest, logprobs=self.logprobs)
            read = functools.partial(read_completions, n=missing, stop=config.stop)
            try:
                found += self.ask("/v1/completions", request, read, stopped)
            except ConnectionError as error:
                raise ConnectionError(f"problem {part.problem_id}: {error}") from None
            except ValueError as error:
                hint = "; if that is for their number, lower --samples-per-request" if missing > 1 else ""
                raise ValueError(f"problem {part.problem_id}, {missing} samples: {error}{hint}") from None
        return found

    def ask(
        self, path: str, request: Any, read: Callable[[Any], T], stopped: threading.Event | None = None
    ) -> T:
        """Send `request` (None: GET) until `read` makes something of the answer."""
        body = None if request is None else json.dumps(request).encode()
        for attempt in itertools.count(1):
            try:
                return read(self._exchange(path, body))
            except _Passing as fault:
                if attempt > self.retries or fault.wait_s > MAX_WAIT_S:
                    tries = f"{attempt} tries" if attempt > 1 else "1 try"
                    wait = f"; it asks to wait {fault.wait_s:.0f} s" if fault.wait_s > MAX_WAIT_S else ""
                    raise ConnectionError(f"{self.url}: {self._shown(str(fault))} ({tries}{wait})") from None
                backoff = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                pause = max(backoff, fault.wait_s)
                self._tell_of(fault, pause, self.retries + 1 - attempt)
                if self.pause(pause, stopped):
                    raise ConnectionError("stopped") from None
        raise AssertionError("unreachable")

    def _tell_of(self, fault: _Passing, pause: float, left: int) -> None:
        now = time.monotonic()
        if now - self._told[0] >= TELL_EVERY_S:
            self._told[0] = now
            tries = f"{left} tries left" if left > 1 else "one try left"
            self.tell(f"{self.url}: {self._shown(str(fault))}; trying again in {pause:.0f} s, {tries}")

    @staticmethod
    def pause(seconds: float, stopped: threading.Event | None) -> bool:
        """Wait, or less if the run is over; returns whether it is."""
        return (stopped or threading.Event()).wait(seconds)

    def _exchange(self, path: str, body: bytes | None) -> Any:
        """One request and its answer as JSON; raises _Passing or ValueError."""
        url = self.url + path
        for _ in range(MAX_REDIRECTS + 1):
            status, headers, content = self._send(url, body)
            if not (status in (301, 302, 303, 307, 308) and headers["Location"]):
                return self._checked(path, status, headers, content)
            target = urljoin(url, headers["Location"])
            if _origin(target) != _origin(self.url):
                raise ValueError(
                    f"{self.url} redirects to {self._shown(target)}, which is not followed; if that is the "
                    "server, name it with --server"
                )
            url = target
        raise ValueError(f"{self.url} redirects more than {MAX_REDIRECTS} times")

    def _send(self, url: str, body: bytes | None) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One HTTP exchange: status, headers and body."""
        headers = {"Content-Type": "application/json", "User-Agent": f"mathref/{__version__}"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(url, data=body, headers=headers)
        deadline = time.monotonic() + self.timeout_s
        try:
            with self._opener.open(request, timeout=self.timeout_s) as response:
                return response.status, response.headers, self._body(response, deadline)
        except (OSError, http.client.HTTPException) as error:
            raise self._fault(error) from None

    def _fault(self, error: OSError | http.client.HTTPException) -> Exception:
        """What an exchange that did not come about means: it may pass, or not."""
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ValueError(f"{self.url}: its certificate is not trusted ({cause})")
        if isinstance(cause, ssl.SSLError) and cause.reason in PLAIN:
            return ValueError(f"{self.url}: there is no TLS at this address ({cause}); is it http:// ?")
        if isinstance(cause, TimeoutError):
            return _Passing(f"no whole answer within {self.timeout_s:g} s (--timeout)")
        return _Passing(f"no connection, or a lost one ({cause or type(cause).__name__})")

    def _body(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        content = bytearray()
        while block := response.read1(1 << 16):
            content += block
            if len(content) > MAX_BODY:
                raise ValueError(
                    f"{self.url}: its answer has more than {MAX_BODY >> 20} MB; is this the right server?"
                )
            if time.monotonic() > deadline:
                raise TimeoutError
        return bytes(content)

    def _checked(self, path: str, status: int, headers: http.client.HTTPMessage, content: bytes) -> Any:
        if 200 <= status < 300:
            try:
                return json.loads(content)
            except (ValueError, RecursionError):
                begins = self._shown(content[:MAX_BEGINNING].decode("utf-8", "replace"))
                raise _Passing(f"its answer is cut short or no JSON, it begins {begins!r}") from None
        words = self._shown(_server_words(content)) or http.client.responses.get(status, "no reason given")
        said = f"HTTP {status}: {words}"
        if status in MISSING:  # before the 5xx: 501 is one, and no further try mends it
            hint = f"expected a server with {path} there, and the name of one of its models"
            raise ValueError(f"{self.url} refuses the request, {said}; {hint}")
        if status in PASSING or status >= 500:
            raise _Passing(said, retry_after(headers["Retry-After"], time.time()))
        raise ValueError(f"{self.url} refuses the request, {said}")

    def _shown(self, text: str) -> str:
        """Text of the server as part of one line: no control characters, not too long, without the key."""
        if self.key:
            text = text.replace(self.key, "[key]")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= MAX_WORDS else line[:MAX_WORDS] + " ..."
