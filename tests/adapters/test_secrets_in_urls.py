"""No error, and nothing that is printed, holds a password, a token or a key that stands in a URL."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from returnable.adapters.cli.app import run
from returnable.adapters.eventstore.open import migrate_store, open_store
from returnable.adapters.eventstore.postgres import PostgresStore
from returnable.adapters.eventstore.postgres_connections import Limits
from returnable.adapters.eventstore.postgres_place import is_postgres, place_of
from returnable.adapters.publishing.open import open_broker

MARK = "hunter2Zq7x"

SECRETS = st.builds(
    lambda before, after: f"{before}{MARK}{after}",
    st.sampled_from(["", "%00", "%ff", "%E2%82%AC", "+", " ", "\udcff", "%", "é"]),
    st.sampled_from(["", "%00", "%ff", "%zz", "%", " ", "\0", "\n", "'", '"', "\udcff", "%2F", ";", "é", "^", "\\"]),
)

KEYS = st.sampled_from(
    (
        *("password", "PASSWORD", "Password", "%70assword", "pass%77ord", "pass word", "passwrd", "pwd", "sslpassword"),
        *(
            "SSLPASSWORD",
            "scram_client_key",
            "oauth_client_secret",
            "sasl.password",
            "ssl.key.password",
            "seed",
            "token",
        ),
    )
)

SCHEMES = st.sampled_from(
    (
        *("postgresql", "postgres", "POSTGRESQL", "postgresql+psycopg", "mysql", "sqlite", "http", "unknown"),
        *("nats", "tls", "NATS", "amqp", "amqps", "kafka"),
    )
)


@st.composite
def urls(draw: st.DrawFn) -> str:
    """A URL, or what somebody took for one, with a secret in one of the places where people put them."""
    secret, key, scheme = draw(SECRETS), draw(KEYS), draw(SCHEMES)
    where = draw(
        st.sampled_from(["", "127.0.0.1:1", "127.0.0.1:1,127.0.0.1:2", "[::1", "127.0.0.1:99999", "127.0.0.1:x"])
    )
    path = draw(st.sampled_from(["", "/", "/shop", "/a/b", "//", "/shop.db"]))
    more = draw(
        st.sampled_from(["", "&sslmode=disable", "&x", "&schema=No", f"&{key}={secret}", "#x", "&=", "&stream=a.b"])
    )
    return draw(
        st.sampled_from(
            [
                f"{scheme}://shop:{secret}@{where}{path}",
                f"{scheme}://shop:{secret}@{where}{path}?sslmode=nonsense",
                f"{scheme}://{where}{path}?{key}={secret}{more}",
                f"{scheme}://shop@{where}{path}?a=1&{key}={secret}{more}",
                f"{scheme}://shop@{where}{path}#{key}={secret}",
                f"{scheme}:shop:{secret}@{where}{path}",
                f"host=127.0.0.1 port=1 {key}={secret}",
                f"host=127.0.0.1 port=1 {key} = '{secret}'",
            ]
        )
    )


def said_of(error: BaseException) -> Iterator[str]:
    """All that an error says, by itself and by those that it came of."""
    seen: list[BaseException | None] = [None]
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            assert one is not None
            seen.append(one)
            yield from (str(one), repr(one))
            waiting += [one.__cause__, one.__context__]
    yield "".join(traceback.format_exception(error))


def opened(url: str) -> None:
    """Open a store, or be refused at once: nobody listens there."""
    if is_postgres(url):
        PostgresStore(place_of(url), limits=Limits(opening_seconds=0)).close()
    else:
        open_store(url, create=False).close()


def opened_as_broker(url: str) -> None:
    broker = open_broker(url)
    assert MARK not in repr(broker)
    assert MARK not in repr(getattr(broker, "_place", None))
    broker.close()


@pytest.mark.parametrize("open_", [opened, migrate_store, opened_as_broker])
@given(url=urls())
@example(url=f"postgresql://shop@127.0.0.1:1/shop?PASSWORD={MARK}")
@example(url=f"postgresql://shop:{MARK}%00@127.0.0.1:1/shop")
@example(url=f"postgresql://shop@127.0.0.1:1/shop?password={MARK}%00")
@example(url=f"postgresql://shop:{MARK}%ff@127.0.0.1:1/shop")
@example(url=f"postgresql://shop:\udcff{MARK}@127.0.0.1:1/shop")
@example(url=f"postgresql://shop:{MARK}℀@127.0.0.1:1/shop")
@example(url=f"nats://shop:{MARK}℀@127.0.0.1:1")
@example(url=f"mysql://127.0.0.1/shop?pwd={MARK}")
@example(url=f"mysql://shop:{MARK}")
@example(url=f"amqp://127.0.0.1:1/?heartbeat={MARK}")
@settings(max_examples=300, deadline=None)
def test_no_error_holds_the_secret_of_a_url(open_: object, url: str) -> None:
    try:
        open_(url)  # type: ignore[operator]
    except Exception as error:
        refused = error
    else:
        return

    assert type(refused).__module__.startswith("returnable."), repr(refused)
    for said in said_of(refused):
        assert MARK not in said


@pytest.mark.parametrize("key", ["PASSWORD", "%70assword", "passwrd"])
def test_the_command_line_shows_no_secret_of_a_url(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"postgresql://shop@127.0.0.1:1/shop?{key}={quote(MARK)}"

    for command in (
        ["orders", "--store", url],
        ["migrate", "--store", url],
        ["publish", "--to", f"nats://h?{key}={MARK}"],
    ):
        assert run(command) == 2
        said = capsys.readouterr()
        assert MARK not in said.out + said.err
        assert said.err
