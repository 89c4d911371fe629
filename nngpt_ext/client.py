"""`Client`: asks a running server, in the words of `Predictor`; it needs no more than httpx and pydantic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from nngpt_ext.channel import open_channel, proxies_of
from nngpt_ext.errors import UserError, typed
from nngpt_ext.predict.answers import Comparison, Explanation, Ranking

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Scored:
    """The answer about one network of many: a ranking, or why there is none."""

    number: int  # of the network in the request, from 0
    ranking: Ranking | None = None
    error: str | None = None


@dataclass(frozen=True)
class ExplainedComparison(Comparison):
    """A comparison with what the command line says beside it."""

    explanation: Explanation | None = None


@dataclass(frozen=True)
class ExplainedRanking(Ranking):
    """A ranking with what the command line says beside it."""

    explanation: Explanation | None = None


class Client:
    """Asks a server that `nngpt-ext serve` started; arguments and answers are those of `Predictor`.

    Args:
        url: of the server, for example `http://127.0.0.1:8377`; a proxy of the environment is used beyond loopback.
        token: the server's token, if it has one.
        adapter: the name of the adapter that answers, if the server has several.
        timeout: seconds for one answer; a busy server is asked again until then.

    Raises:
        UserError: for an argument or a variable of the environment that cannot be used; in every method, for a question
            that the server refuses, and for a server that cannot be reached.
    """

    def __init__(
        self, url: str, *, token: str | None = None, adapter: str | None = None, timeout: float = 60.0
    ) -> None:
        self._http = open_channel(url, token, timeout)
        self._url, self._adapter, self._timeout = url, adapter, float(timeout)

    def compare(
        self, nn_code: str, dataset_1: str, dataset_2: str, *, recipe: Mapping[str, Any] | None = None,
        accuracies: Mapping[str, float] | None = None, nn: str | None = None, structure: Any = None,
        evidence: Mapping[str, Mapping[Any, float]] | None = None,
    ) -> Comparison:  # fmt: skip
        """On which of two datasets the network does better; see `Predictor.compare`."""
        return self._read(Comparison, self._post("/v1/compare", {
            "nn_code": nn_code, "dataset_1": dataset_1, "dataset_2": dataset_2, "recipe": recipe,
            "accuracies": accuracies, "nn": nn, "structure": structure, "evidence": evidence,
        }))  # fmt: skip

    def rank(
        self, nn_code: str, datasets: Iterable[str] | None = None, recipe: Mapping[str, Any] | None = None, *,
        accuracies: Mapping[str, float] | None = None, nn: str | None = None, structure: Any = None,
        evidence: Mapping[str, Mapping[Any, float]] | None = None,
    ) -> Ranking:  # fmt: skip
        """Rank datasets by how well the network does on them; see `Predictor.rank`."""
        return self._read(Ranking, self._post("/v1/rank", {
            "nn_code": nn_code, "datasets": datasets, "recipe": recipe, "accuracies": accuracies, "nn": nn,
            "structure": structure, "evidence": evidence,
        }))  # fmt: skip

    def compare_explained(
        self, nn_code: str, dataset_1: str, dataset_2: str, **given: Any
    ) -> tuple[Comparison, Explanation]:
        """`compare`, and what the command line says beside its answer: the prior, and what it rests on."""
        asked = {"nn_code": nn_code, "dataset_1": dataset_1, "dataset_2": dataset_2, **given, "explain": True}
        return self._explained(self._read(ExplainedComparison, self._post("/v1/compare", asked)))

    def rank_explained(
        self, nn_code: str, datasets: Iterable[str] | None = None, **given: Any
    ) -> tuple[Ranking, Explanation]:
        """`rank`, and what the command line says beside its answer."""
        asked = {"nn_code": nn_code, "datasets": datasets, **given, "explain": True}
        return self._explained(self._read(ExplainedRanking, self._post("/v1/rank", asked)))

    def score(
        self, networks: Sequence[Mapping[str, Any]], datasets: Iterable[str] | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> Iterator[Scored]:  # fmt: skip
        """Rank datasets for many networks; answers come as they are ready, in any order.

        Args:
            networks: mappings with `nn_code` and optionally `nn`, `recipe`, `accuracies`, `structure` and `evidence`.
            datasets: two or more; by default those the adapter was trained on.
            recipe: of the networks without their own.
        """
        import httpx

        response = self._post("/v1/score", {"networks": networks, "datasets": datasets, "recipe": recipe}, stream=True)
        try:
            for line in response.iter_lines():
                yield self._read(Scored, line)
        except httpx.HTTPError as error:
            raise self._lost(error) from None
        finally:
            response.close()

    def adapters(self) -> list[dict[str, Any]]:
        """What the server's adapters are: name, datasets, prompt, what a question needs, how well each was tested."""
        found: list[dict[str, Any]] = json.loads(self._ask("GET", "/v1/adapters").content)
        return found

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _post(self, path: str, given: Mapping[str, Any], stream: bool = False) -> Any:
        kept = {name: value for name, value in given.items() if value is not None}
        if self._adapter is not None:
            kept.setdefault("adapter", self._adapter)
        try:
            body = json.dumps(kept, default=_plain, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:  # ValueError: also half a surrogate pair
            raise UserError(f"the question cannot be written as JSON: {error}") from None
        sent = {"content": body, "headers": {"Content-Type": "application/json"}}
        response = self._ask("POST", path, stream=stream, **sent)
        return response if stream else response.content

    def _ask(self, method: str, path: str, *, stream: bool = False, **sent: Any) -> httpx.Response:
        import httpx

        end = time.monotonic() + self._timeout
        while True:
            try:
                response = self._send(method, path, sent)
                if response.is_success and stream:
                    return response
                response.read()
            except (httpx.HTTPError, UnicodeError) as error:  # UnicodeError: the host of a proxy is no name
                raise self._lost(error) from None
            if response.is_success:
                return response
            stated = response.headers.get("Retry-After", "")
            wait = float(stated) if stated.isdecimal() else 1.0  # a proxy may state a date
            if response.status_code not in (429, 503) or time.monotonic() + wait > end:
                raise self._refused(response)
            time.sleep(wait)

    def _send(self, method: str, path: str, sent: Mapping[str, Any]) -> httpx.Response:
        """An answer of which the head has arrived.

        A kept connection may be closed in the moment in which it is used, and a question may be asked twice.
        """
        import httpx

        try:
            return self._http.send(self._http.build_request(method, path, **sent), stream=True)
        except (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError):
            return self._http.send(self._http.build_request(method, path, **sent), stream=True)

    def _refused(self, response: httpx.Response) -> Exception:
        base = self._http.base_url
        if response.status_code == 404 and base.path != "/":
            without = str(base.join("/")).rstrip("/")
            return UserError(f"{self._url} answered with status 404; is the server's URL {without}, without a path?")
        try:
            detail = str(response.json()["detail"])
        except (ValueError, LookupError, TypeError):
            detail = f"{self._url} answered with status {response.status_code}; is it a server of nngpt-ext serve?"
        return UserError(detail) if response.status_code != 500 else RuntimeError(detail)

    def _lost(self, error: Exception) -> UserError:
        start = typed("start one: nngpt-ext serve --run RUN", "start one in a shell: nngpt-ext serve --run RUN")
        why = str(error) or type(error).__name__
        if proxies := proxies_of(self._http.base_url):
            why += f"; {proxies} is set, so a proxy may have been asked"
        return UserError(f"no answer from {self._url} ({why}); {start}")

    def _explained(self, found: Any) -> tuple[Any, Explanation]:
        own = {one.name: getattr(found, one.name) for one in fields(found) if one.name != "explanation"}
        kind = Comparison if isinstance(found, Comparison) else Ranking
        return kind(**own), found.explanation or Explanation(None)

    def _read(self, kind: Any, content: bytes | str) -> Any:
        from pydantic import TypeAdapter, ValidationError

        if kind not in _READERS:
            _READERS[kind] = TypeAdapter(kind)
        try:
            return _READERS[kind].validate_json(content)
        except ValidationError as error:
            raise UserError(
                f"{self._url} gave another answer than this version reads ({error.error_count()} fields differ); "
                "install the server's version here"
            ) from None


_READERS: dict[Any, Any] = {}  # a pydantic TypeAdapter for each type


def _plain(value: Any) -> Any:
    """A value as JSON has it: structures, numbers of numpy, iterables."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.item() if hasattr(value, "item") else dict(value) if isinstance(value, Mapping) else list(value)
