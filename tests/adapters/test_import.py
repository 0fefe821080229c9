"""A host's table of orders becomes facts, each once, and what cannot be imported is refused with its reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usual import a_delivered_order

from returnable.adapters.imports.mapping import MappingInvalid, read_mapping
from returnable.adapters.imports.planning import Planner
from returnable.adapters.imports.reading import TableUnreadable, count_rows, read_orders
from returnable.adapters.imports.running import DryRun, Live, Refusal, Summary, run_import
from returnable.adapters.wiring import Services, assemble
from returnable.domain.events import Confirmed, Delivered, ReturnRequested, Shipped, encode
from returnable.domain.policy import bundled_policies
from returnable.testing import Scenario, an_order, request_return

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

ORDERS = """\
name = "shop"
rows = "orders"
{more}
[format]
times = ["%Y-%m-%d %H:%M", "iso"]
zone = "America/New_York"
{format}
[order]
order_id = "id"
confirmed_at = "paid"
currency = {{ value = "USD" }}
{order}
[order.customer]
customer_id = "who"
[[order.lines]]
sku = {{ value = "SKU" }}
unit_price = "price"
{line}
[[order.payments]]
method = {{ value = "card" }}
amount = {{ due = true }}
{sections}
"""


def mapping_text(**services: str) -> str:
    """The usual mapping; pieces can be added."""
    return ORDERS.format(**({"more": "", "format": "", "order": "", "line": "", "sections": ""} | services))


class Shop:
    """A folder with a table and a mapping, and a store to import into."""

    def __init__(self, folder: Path, mapping: str, *rows: str, services: Services | None = None) -> None:
        self.mapping, self.table = folder / "shop.toml", folder / "orders.csv"
        self.mapping.write_text(mapping, encoding="utf-8")
        self.rows(*rows)
        self.services = services or assemble("memory:")
        self.refusals: list[Refusal] = []

    def rows(self, *rows: str) -> None:
        """Replace the table."""
        self.table.write_bytes("\r\n".join((*rows, "")).encode())

    def load(self, trial: bool = False, at: datetime = NOW) -> Summary:
        """Import the table, or try to."""
        self.refusals = []
        mapping = read_mapping(str(self.mapping))
        planner = Planner(mapping)

        def clock() -> datetime:
            return at

        teller = DryRun(self.services.store, bundled_policies(), clock) if trial else Live(self.services, clock)
        orders = read_orders(str(self.table), mapping, planner)
        return run_import(orders, planner, teller, self.refusals.append)

    def events(self, kind: type[Any]) -> list[Any]:
        """The recorded facts of a type."""
        return [e.event for e in self.services.store.read(0, 10_000) if isinstance(e.event, kind)]

    def reason(self) -> tuple[int, str, str]:
        """Row, field and reason of the only refusal."""
        (refusal,) = self.refusals
        return refusal.row, refusal.field, refusal.reason


HEADER = "id,who,paid,price"


def test_a_row_is_an_order_that_was_confirmed_then_and_is_recorded_now(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mapping_text(), HEADER, "A-1,c-1,2026-03-02 10:00,750.00")

    summary = shop.load()

    (order,) = shop.events(Confirmed)
    assert (order.order_id, order.customer.customer_id, order.customer.account_id) == ("A-1", "c-1", None)
    assert order.occurred_at == datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    assert order.recorded_at == NOW
    assert [(payment.payment_id, payment.amount) for payment in order.payments] == [("1", 75000)]
    assert order.command_id == "import/shop/A-1/confirm_order"
    assert (summary.orders, summary.imported, summary.facts) == (1, 1, 1)


def test_importing_again_does_nothing_twice_and_a_new_row_is_imported(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mapping_text(), HEADER, "A-1,c-1,2026-03-02 10:00,750.00")
    shop.load()
    shop.rows(HEADER, "A-1,c-1,2026-03-02 10:00,750.00", "A-2,c-1,2026-03-02 10:00,750.00")

    summary = shop.load(at=NOW + timedelta(days=1))

    assert (summary.imported, summary.already, summary.refused) == (1, 1, 0)
    assert [order.order_id for order in shop.events(Confirmed)] == ["A-1", "A-2"]


def test_a_row_that_changed_since_is_refused_and_what_is_on_record_stays(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mapping_text(), HEADER, "A-1,c-1,2026-03-02 10:00,750.00")
    shop.load()
    shop.rows(HEADER, "A-1,c-1,2026-03-02 10:00,700.00")

    summary = shop.load()

    assert summary.reasons == {"command.conflict": 1}
    assert "imported at 2026-06-01T12:00:00+00:00 with other values" in shop.reason()[2]
    assert [order.lines[0].unit_price for order in shop.events(Confirmed)] == [75000]


def test_an_order_that_is_known_from_elsewhere_is_refused(tmp_path: Path) -> None:
    story = Scenario().given(an_order())
    shop = Shop(tmp_path, mapping_text(), HEADER, "A-1,c-1,2026-03-02 10:00,750.00", services=story.services)

    tried, done = shop.load(trial=True), shop.load()

    assert tried.as_dict() == done.as_dict()
    assert done.reasons == {"order.exists order_id": 1}


PARCELS = """
[[parcels]]
carrier = { value = "ups" }
tracking_number = "track"
shipped_at = "sent"
delivered_at = "came"
"""


def test_parcels_and_deliveries_come_as_they_become_known(tmp_path: Path) -> None:
    header = f"{HEADER},track,sent,came"
    shop = Shop(tmp_path, mapping_text(sections=PARCELS), header, "A-1,c,2026-03-02 10:00,1.00,T-1,2026-03-03 09:00,")
    shop.load()
    shop.rows(header, "A-1,c,2026-03-02 10:00,1.00,T-1,2026-03-03 09:00,2026-03-05 14:00")

    summary = shop.load()

    assert dict(summary.commands) == {"record_delivery": 1}
    assert [(parcel.parcel_id, parcel.tracking_number) for parcel in shop.events(Shipped)] == [("T-1", "T-1")]
    assert [event.occurred_at for event in shop.events(Delivered)] == [datetime(2026, 3, 5, 19, 0, tzinfo=UTC)]


def test_a_hand_over_before_the_approval_is_recorded_with_an_exception(tmp_path: Path) -> None:
    header = f"{HEADER},track,sent,came"
    row = "A-1,c,2026-03-02 10:00,1.00,T-1,2026-03-01 09:00,2026-02-28 14:00"
    shop = Shop(tmp_path, mapping_text(sections=PARCELS), header, row)

    summary = shop.load()

    assert (summary.refused, summary.exceptions) == (0, 2)


def test_a_dry_run_comes_to_the_same_and_writes_nothing(tmp_path: Path) -> None:
    header = f"{HEADER},track,sent,came"
    known = "A-1,c,2026-03-02 10:00,1.00,T-1,2026-03-03 09:00,"
    shop = Shop(tmp_path, mapping_text(sections=PARCELS), header, known)
    shop.load()
    head = shop.services.store.head()
    shop.rows(
        header,
        "A-1,c,2026-03-02 10:00,1.00,T-1,2026-03-03 09:00,2026-03-05 14:00",
        "A-2,c,2026-03-02 10:00,1.00,,,",
        "A-2,c,2026-03-02 10:00,2.00,,,",
        "A-3,c,never,1.00,,,",
    )

    tried = shop.load(trial=True)
    tried_refusals = shop.refusals
    assert shop.services.store.head() == head
    done = shop.load()

    assert tried.as_dict() == done.as_dict()
    assert [(r.row, r.code, r.field) for r in tried_refusals] == [(r.row, r.code, r.field) for r in shop.refusals]
    assert dict(done.commands) == {"record_delivery": 1, "confirm_order": 1}
    assert done.reasons == {"command.conflict": 1, "row.invalid confirmed_at": 1}


def test_an_order_that_cannot_be_read_records_nothing_at_all(tmp_path: Path) -> None:
    header = f"{HEADER},track,sent,came"
    shop = Shop(tmp_path, mapping_text(sections=PARCELS), header, "A-1,c,2026-03-02 10:00,1.00,T-1,soon,")

    summary = shop.load()

    assert (summary.refused, shop.services.store.head()) == (1, 0)
    assert shop.reason() == (2, "shipped_at", "column 'sent': 'soon' is not a time in the format %Y-%m-%d %H:%M, iso")


def test_an_import_that_was_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    header = f"{HEADER},track,sent,came"
    rows = [f"A-{n},c,2026-03-02 10:00,1.00,T-{n},2026-03-03 09:00,2026-03-05 14:00" for n in range(6)]
    shop, whole = Shop(tmp_path, mapping_text(sections=PARCELS), header, *rows), assemble("memory:")
    live = Live(shop.services, lambda: NOW)
    left = iter(range(8))

    class CutOff(Live):
        def carry_out(self, command: Any) -> Any:
            next(left)  # StopIteration after eight commands
            return live.carry_out(command)

    mapping = read_mapping(str(shop.mapping))
    with pytest.raises(StopIteration):
        run_import(
            read_orders(str(shop.table), mapping, Planner(mapping)),
            Planner(mapping),
            CutOff(shop.services, lambda: NOW),
            shop.refusals.append,
        )
    assert 0 < shop.services.store.head() < 18
    resumed = shop.load()
    Shop(tmp_path, mapping_text(sections=PARCELS), header, *rows, services=whole).load()

    stored = [
        [(case, [encode(e.event) for e in events]) for case, events in p.store.cases()] for p in (shop.services, whole)
    ]
    assert stored[0] == stored[1]
    assert (resumed.already, resumed.imported, resumed.commands_on_record) == (2, 4, 8)


# ---- times -----------------------------------------------------------------------------------------------------------


def confirmed_at(tmp_path: Path, paid: str, form: str = "") -> datetime | str:
    """When an order with that time was confirmed, or why it was refused."""
    shop = Shop(tmp_path, mapping_text(format=form), HEADER, f'A-1,c-1,"{paid}",1.00')
    shop.load()
    if shop.refusals:
        return shop.reason()[2]
    moment: datetime = shop.events(Confirmed)[0].occurred_at
    return moment


@pytest.mark.parametrize(
    ("paid", "form", "expected"),
    [
        ("2026-03-02 10:00", "", datetime(2026, 3, 2, 15, 0, tzinfo=UTC)),
        ("2026-03-02T10:00:00+01:00", "", datetime(2026, 3, 2, 9, 0, tzinfo=UTC)),
        ("2025-11-02 01:30", "", datetime(2025, 11, 2, 5, 30, tzinfo=UTC)),
        ("2025-11-02 01:30", 'ambiguous = "later"', datetime(2025, 11, 2, 6, 30, tzinfo=UTC)),
        ("2025-11-02 01:30", 'ambiguous = "refuse"', "'2025-11-02 01:30' occurs twice in America/New_York"),
        ("2026-03-08 02:30", "", datetime(2026, 3, 8, 7, 30, tzinfo=UTC)),
        ("2026-03-08 02:30", 'nonexistent = "refuse"', "'2026-03-08 02:30' does not exist in America/New_York"),
        ("2026-02-30 10:00", "", "is not a time in the format"),
        ("2050-02-20 10:00", "", "is later than the clock"),
        ("1890-02-20 10:00", "", "outside the years"),
        ("9999-12-31T23:00:00-05:00", "", "is not a time in the format"),
    ],
)
def test_times_are_read_in_the_zone_of_the_mapping_by_stated_rules(
    paid: str, form: str, expected: datetime | str, tmp_path: Path
) -> None:
    came = confirmed_at(tmp_path, paid, form)

    assert (expected in came) if isinstance(came, str) and isinstance(expected, str) else came == expected


@pytest.mark.parametrize(
    ("form", "paid", "expected"),
    [
        ('["unix"]', "1772463600", datetime(2026, 3, 2, 15, 0, tzinfo=UTC)),
        ('["unix_ms"]', "1772463600250", datetime(2026, 3, 2, 15, 0, 0, 250_000, tzinfo=UTC)),
        ('["%Y-%m-%d %H:%M:%S %z"]', "2026-03-02 10:00:00 -0500", datetime(2026, 3, 2, 15, 0, tzinfo=UTC)),
        ('["unix"]', "yesterday", "is not a time"),
        ('["unix_ms"]', "9999999999999999", "is not a time"),
        ('["iso"]', "2026-03-02T10:00:00", "has no offset, and the mapping names no format.zone"),
    ],
)
def test_times_may_be_written_in_other_ways(form: str, paid: str, expected: datetime | str, tmp_path: Path) -> None:
    mapping = mapping_text().replace('["%Y-%m-%d %H:%M", "iso"]', form).replace('zone = "America/New_York"', "")
    shop = Shop(tmp_path, mapping, HEADER, f"A-1,c-1,{paid},1.00")

    shop.load()

    came = shop.reason()[2] if shop.refusals else shop.events(Confirmed)[0].occurred_at
    assert (expected in came) if isinstance(came, str) and isinstance(expected, str) else came == expected


# ---- money -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "form", "expected"),
    [
        ("12.5", "", 1250),
        ("$1,480.00", 'thousands = ","', 148000),
        ("1.480,00 US$", 'decimal = ","\nthousands = "."\nsymbols = ["US"]', 148000),
        ("1.480,00 €", 'decimal = ","\nthousands = "."', "'€' is not of USD"),
        ("€20.00", 'symbols = ["€"]', "'€' is not of USD"),
        ("20.00 EUR", 'symbols = ["EUR", "USD"]', "'EUR' is not of USD"),
        ("₿20.00", "", "is not a number"),
        ("-0.000", "", 0),
        ("USD 45.0000", 'symbols = ["USD"]', 4500),
        ("1 480.00", 'thousands = " "', 148000),
        ("1\u00a0480.00", 'thousands = " "', 148000),
        ("14,80.00", 'thousands = ","', "is not a number"),
        ("1,480.00", "", "is not a number"),
        ("12.345", "", "is not a whole amount of USD"),
        ("-3.00", "", "is negative"),
        ("$", "", "is not a number"),
        ("£", "", "'£' is not of USD"),
        ("1e3", "", "is not a number"),
        ("٣.00", "", "is not a number"),
        ("4006381333931", "", "4006381333931 is a trillion or more"),
        ("9" * 5000, "", "is not a number"),
        ("", "", "is empty"),
    ],
)
def test_amounts_are_read_exactly_or_refused(price: str, form: str, expected: int | str, tmp_path: Path) -> None:
    shop = Shop(tmp_path, mapping_text(format=form), HEADER, f'A-1,c-1,2026-03-02 10:00,"{price}"')

    shop.load()

    if isinstance(expected, int):
        assert [order.lines[0].unit_price for order in shop.events(Confirmed)] == [expected]
    else:
        row, field, reason = shop.reason()
        assert (row, field) == (2, "lines[0].unit_price")
        assert expected in reason


def test_a_sign_of_money_is_no_quantity(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mapping_text(line='quantity = "n"'), f"{HEADER},n", "A-1,c-1,2026-03-02 10:00,1.00,$2")

    shop.load()

    assert shop.reason() == (2, "lines[0].quantity", "column 'n': '$' is of money, this is no amount")


def test_a_currency_that_does_not_exist_is_refused_as_such_whatever_sign_is_in_the_cell(tmp_path: Path) -> None:
    mapping = mapping_text().replace('{ value = "USD" }', '{ value = "usd" }')
    shop = Shop(tmp_path, mapping, HEADER, "A-1,c-1,2026-03-02 10:00,€1.00")

    shop.load()

    assert shop.reason() == (2, "currency", "'usd' is not an ISO 4217 currency code")


def test_names_and_times_are_read_as_they_are_written(tmp_path: Path) -> None:
    mapping = mapping_text().replace('customer_id = "who"', 'customer_id = "who"\nname = "name"')
    names = ["山田\u3000太郎", "Jean\u00a0Dupont \U0001fae8", "Ann\r\n\nLee"]
    rows = [f'A-{nth},c-1,2026-03-02t15:00:00.123456789z,1.00,"{name}"' for nth, name in enumerate(names)]
    shop = Shop(tmp_path, mapping, f"{HEADER},name", *rows)

    shop.load()

    assert [order.customer.name for order in shop.events(Confirmed)] == [*names[:2], "Ann Lee"]
    assert {order.occurred_at for order in shop.events(Confirmed)} == {datetime(2026, 3, 2, 15, 0, 0, 123456, UTC)}


def test_a_price_can_be_calculated_and_what_does_not_divide_is_split_to_the_cent(tmp_path: Path) -> None:
    mapping = mapping_text(line='quantity = "n"').replace(
        'unit_price = "price"',
        'unit_price = { sum = ["price", "extra"], minus = [{ column = "off", times = "n" }], divided_by = "n" }',
    )
    header = f"{HEADER},extra,off,n"
    good, split = "A-1,c,2026-03-02 10:00,10.00,2.00,1.50,4", "A-2,c,2026-03-02 10:00,10.00,,,3"
    bad = "A-5,c,2026-03-02 10:00,10.005,,,3"
    none, nothing = "A-3,c,2026-03-02 10:00,10.00,,,", "A-4,c,2026-03-02 10:00,,,,2"
    shop = Shop(tmp_path, mapping, header, good, split, bad, none, nothing)

    shop.load()

    assert [(line.unit_price, line.quantity) for order in shop.events(Confirmed) for line in order.lines] == [
        (150, 4),
        (333, 2),
        (334, 1),
    ]
    assert [(refusal.order_id, refusal.field) for refusal in shop.refusals] == [
        ("A-5", "lines[0].unit_price"),
        ("A-3", "lines"),
        ("A-4", "lines[0].unit_price"),
    ]


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 4), st.integers(0, 300)), min_size=1, max_size=4), st.data()
)
def test_a_discount_is_spread_to_the_cent(lines: list[tuple[int, int, int]], data: st.DataObject) -> None:
    from returnable.adapters.imports.planning import _Bought, _Line, _price, _take_off

    goods = sum(price * quantity for price, quantity, _ in lines)
    discount = data.draw(st.integers(0, goods))
    told = [
        _Line(2, {"line_id": str(n), "quantity": quantity, "tax": f"{tax // 100}.{tax % 100:02}"}, price * quantity)
        for n, (price, quantity, tax) in enumerate(lines)
    ]
    before = goods + sum(tax for _, _, tax in lines)

    _take_off(told, f"{discount // 100}.{discount % 100:02}", None, "USD", 2)
    bought = _Bought.of(told, "USD").lines

    assert _price({"lines": bought}, "USD") == before - discount
    assert sum(line["quantity"] for line in bought) == sum(quantity for _, quantity, _ in lines)
    assert len({line["line_id"] for line in bought}) == len(bought)


def test_a_discount_that_is_more_than_the_goods_is_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mapping_text(order='discount = "off"'), f"{HEADER},off", "A-1,c,2026-03-02 10:00,10.00,10.01")

    shop.load()

    assert shop.reason()[1:] == ("discount", "10.01 is more than the goods cost")


TAXED = """
name = "shop"
rows = "lines"
[format]
zone = "UTC"
[order]
order_id = "id"
confirmed_at = { value = "2026-03-02" }
currency = { value = "USD" }
discount = "off"
tax = "tax"
[order.customer]
customer_id = { value = "c" }
[[order.lines]]
sku = { value = "S" }
unit_price = "price"
quantity = "n"
[[order.payments]]
method = { value = "card" }
amount = "paid"
"""


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # 3.29 over 30.00 and 20.00: 1.974 and 1.316
        (("A-1,15.00,2,,3.29,53.29", "A-1,20.00,1,,,"), [("1", 197), ("2", 132)]),
        # a tie: the cent goes to the earlier line
        (("A-1,10.00,1,,0.01,20.01", "A-1,10.00,1,,,"), [("1", 1), ("2", 0)]),
        # after the discount: 18.33 * 2, 18.34 and 0.00
        (("A-1,20.00,3,5.00,5.50,60.50", "A-1,0.00,1,,,"), [("1", 367), ("1/2", 183), ("2", 0)]),
        (("A-1,20.00,1,,0.00,20.00",), [("1", 0)]),
    ],
)
def test_a_tax_of_the_whole_order_is_spread_to_the_cent(
    rows: tuple[str, ...], expected: list[tuple[str, int]], tmp_path: Path
) -> None:
    shop = Shop(tmp_path, TAXED, "id,price,n,off,tax,paid", *rows)

    summary = shop.load()

    (order,) = shop.events(Confirmed)
    assert summary.refused == 0
    assert [(line.line_id, line.tax) for line in order.lines] == expected


def bought(shop: Shop) -> list[tuple[str, int, int, int]]:
    """Id, price, quantity and tax of every line."""
    return [
        (line.line_id, line.unit_price, line.quantity, line.tax)
        for order in shop.events(Confirmed)
        for line in order.lines
    ]


WHOLE = TAXED.replace('"off"\n', '"off"\nsubtotal = "sub"\nrounding = { value = "0.02" }\n').replace(
    '"n"\n', '"n"\ngoods = true\n[order.shipping]\ncharged = "ship"\n'
)
"""With a subtotal, shipping, and a tolerance."""

WHOLE_HEADER = "id,price,n,off,sub,ship,tax,paid"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("A-1,47.00,1,6.00,47.00,6.00,0,47.00", ([("1", 4700, 1, 0)], 0)),  # a code for free shipping
        ("A-1,47.00,1,8.00,45.00,6.00,0,45.00", ([("1", 4500, 1, 0)], 0)),  # partly for the goods
        ("A-1,47.00,1,5.00,42.00,6.00,0,48.00", ([("1", 4200, 1, 0)], 600)),
        ("A-1,47.00,1,5.00,,6.00,0,48.00", ([("1", 4200, 1, 0)], 600)),  # no subtotal: all of it
        ("A-1,10.00,3,,30.00,,5.98,36.00", ([("1", 1000, 3, 600)], 0)),  # two cents of rounding go to the tax
        ("A-1,10.00,3,,30.00,,6.01,36.00", ([("1", 1000, 3, 600)], 0)),
        ("A-1,10.00,3,,30.00,,5.97,36.00", "36.00 USD were paid"),
        ("A-1,47.00,1,9.00,45.00,6.00,0,44.00", "1.00 of the discount are left when goods and shipping are paid"),
        ("A-1,47.00,2,0,47.00,0,0,47.00", "the goods cost 94.00, which less 0.00 is not 47.00"),
        ("A-1,47.00,1,0,48.00,0,0,48.00", "the goods cost 47.00, which less 0.00 is not 48.00"),
    ],
)
def test_a_discount_may_be_of_the_shipping_and_cents_of_rounding_are_tax(
    row: str, expected: tuple[list[tuple[str, int, int, int]], int] | str, tmp_path: Path
) -> None:
    shop = Shop(tmp_path, WHOLE, WHOLE_HEADER, row)

    shop.load()

    if isinstance(expected, str):
        assert expected in shop.reason()[2]
    else:
        (order,) = shop.events(Confirmed)
        assert (bought(shop), order.shipping_charged) == expected


def test_cents_of_rounding_are_none_in_a_currency_without_cents(tmp_path: Path) -> None:
    in_yen = WHOLE.replace('{ value = "USD" }', '{ value = "JPY" }')
    shop = Shop(tmp_path, in_yen, WHOLE_HEADER, "A-1,1000.00,3,,3000,,300,3300.00", "A-2,1000,3,,3000,,300,3301")

    shop.load()

    assert bought(shop) == [("1", 1000, 3, 300)]
    assert shop.reason()[2].startswith("3301 JPY were paid")


@pytest.mark.parametrize(
    ("total", "quantity", "expected"),
    [
        ("100.00", 3, [("L", 3333, 2, 0), ("L/2", 3334, 1, 0)]),
        ("5.85", 2, [("L", 292, 1, 0), ("L/2", 293, 1, 0)]),
        ("0.01", 3, [("L", 0, 2, 0), ("L/2", 1, 1, 0)]),
        ("9.00", 3, [("L", 300, 3, 0)]),
    ],
)
def test_the_total_of_a_line_is_split_to_the_cent(
    total: str, quantity: int, expected: list[tuple[str, int, int, int]], tmp_path: Path
) -> None:
    mapping = TAXED.replace('"price"', '{ column = "price", divided_by = "n" }').replace(
        "sku =", 'line_id = "line"\nsku ='
    )
    shop = Shop(tmp_path, mapping, "id,line,price,n,off,tax,paid", f"A-1,L,{total},{quantity},,,{total}")

    shop.load()

    assert bought(shop) == expected


@given(st.integers(1, 9), st.integers(1, 100_000), st.data())
def test_no_cent_is_lost_between_a_total_and_its_units(quantity: int, total: int, data: st.DataObject) -> None:
    """Whatever the discount, the second line has an id that no other line has."""
    from returnable.adapters.imports.planning import _Bought, _Line, _take_off

    ids = data.draw(st.lists(st.sampled_from(["A", "A/2", "A/3", "A/2/2", "B"]), min_size=1, unique=True))
    off = data.draw(st.integers(0, total * len(ids)))
    told = [_Line(2, {"line_id": one, "quantity": quantity, "tax": "0"}, total) for one in ids]

    _take_off(told, f"{off // 100}.{off % 100:02}", None, "USD", 2)
    lines = _Bought.of(told, "USD").lines

    prices = [round(float(line["unit_price"]) * 100) for line in lines]
    assert sum(price * line["quantity"] for price, line in zip(prices, lines, strict=True)) == total * len(ids) - off
    assert len({line["line_id"] for line in lines}) == len(lines)


def test_the_second_line_of_a_split_takes_an_id_that_is_free(tmp_path: Path) -> None:
    mapping = TAXED.replace("sku =", 'line_id = "line"\nsku =')
    rows = "A-1,A,20.00,3,5.01,,55.99", "A-1,A/2,1.00,1,,,"
    shop = Shop(tmp_path, mapping, "id,line,price,n,off,tax,paid", *rows)

    shop.load()

    assert [line[0] for line in bought(shop)] == ["A", "A/3", "A/2"]


def test_a_line_that_is_no_goods_has_no_part_in_discount_and_tax(tmp_path: Path) -> None:
    mapping = TAXED.replace(
        "[[order.payments]]",
        '[[order.lines]]\nwhen = { column = "tip", empty = false }\nsku = { value = "TIP" }\nunit_price = "tip"\n'
        "goods = false\n[[order.payments]]",
    )
    shop = Shop(tmp_path, mapping, "id,price,n,off,tax,paid,tip", "A-1,10.00,1,2.00,0.80,11.80,3.00")

    shop.load()

    assert bought(shop) == [("1", 800, 1, 80), ("2", 300, 1, 0)]


def test_a_column_that_is_optional_may_be_missing_and_no_other(tmp_path: Path) -> None:
    mapping = TAXED.replace("[format]", '[file]\noptional = ["off"]\n[format]')
    shop = Shop(tmp_path, mapping, "id,price,n,tax,paid", "A-1,10.00,1,0.80,10.80")

    shop.load()

    assert bought(shop) == [("1", 1000, 1, 80)]
    with pytest.raises(MappingInvalid, match="has no column 'tax'"):
        Shop(tmp_path, mapping, "id,price,n,paid", "A-1,10.00,1,10.00").load()


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ('rounding = { value = "0.01" }', "order: rounding goes with the tax of the order"),
        ('subtotal = "price"', "order: subtotal goes with a discount and with shipping"),
    ],
)
def test_subtotal_and_rounding_need_what_they_are_about(order: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(mapping_text(order=order), encoding="utf-8")

    with pytest.raises(MappingInvalid, match=reason):
        read_mapping(str(file))


def test_a_tax_on_goods_that_cost_nothing_is_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path, TAXED, "id,price,n,off,tax,paid", "A-1,10.00,1,10.00,0.80,0.80")

    summary = shop.load()

    assert summary.reasons == {"money.mismatch tax": 1}
    assert shop.reason() == (2, "tax", "0.80 is a tax on goods that cost nothing")


def test_payments_must_add_up_unless_the_mapping_takes_what_is_due(tmp_path: Path) -> None:
    paid = '[[order.payments]]\nmethod = { value = "gift" }\npayment_id = { value = "g" }\namount = "gift"\n'
    shipping = '[order.shipping]\ncharged = "ship"\n'
    mapping = mapping_text(sections=paid + shipping)
    header = f"{HEADER},gift,ship"
    rows = ("A-1,c,2026-03-02 10:00,10.00,4.00,2.00", "A-2,c,2026-03-02 10:00,10.00,12.00,2.00")
    shop = Shop(tmp_path, mapping, header, *rows, "A-3,c,2026-03-02 10:00,10.00,12.01,2.00")

    shop.load()

    payments = [[(one.payment_id, one.amount) for one in order.payments] for order in shop.events(Confirmed)]
    assert payments == [[("1", 800), ("g", 400)], [("g", 1200)]]
    assert shop.reason()[1:] == ("payments", "the other payments are 0.01 more than the order's price")


# ---- lines -----------------------------------------------------------------------------------------------------------

EXAMPLE = Path(__file__).parents[2] / "examples" / "import"


def test_the_example_imports_what_its_comments_say(tmp_path: Path) -> None:
    shop = Shop(tmp_path, (EXAMPLE / "webshop.toml").read_text(encoding="utf-8"))
    shop.table.write_bytes((EXAMPLE / "webshop.csv").read_bytes())

    summary, again = shop.load(), shop.load()

    assert (summary.rows, summary.orders, summary.imported, summary.left_out, summary.refused) == (7, 6, 3, 1, 2)
    assert [(refusal.row, refusal.order_id, refusal.code) for refusal in shop.refusals] == [
        (6, "1004", "money.mismatch"),
        (7, "1005", "row.invalid"),
    ]
    assert (again.already, again.facts) == (3, 0)
    first, second, third = shop.events(Confirmed)
    assert [(line.line_id, line.unit_price, line.quantity) for line in first.lines] == [
        ("1", 148000, 1),
        ("2", 2000, 2),
    ]
    assert [(line.line_id, line.unit_price, line.quantity) for line in second.lines] == [
        ("1", 1833, 2),
        ("1/2", 1834, 1),
    ]
    assert (third.customer.customer_id, third.customer.account_id) == ("cho@shop.example", None)
    parcels = [(one.parcel_id, [(line.line_id, line.quantity) for line in one.lines]) for one in shop.events(Shipped)]
    assert parcels == [("FX-9001", [("1", 1)]), ("FX-9002", [("2", 2)]), ("1Z-4455", [("1", 2), ("1/2", 1)])]
    (back,) = shop.events(ReturnRequested)
    assert (back.return_id, [(line.line_id, line.reason) for line in back.lines]) == ("RMA-1", [("1", "too large")])


LINES = """
name = "shop"
rows = "lines"
[format]
zone = "UTC"
[order]
order_id = "id"
confirmed_at = "paid"
currency = "currency"
[order.customer]
customer_id = "who"
[[order.lines]]
sku = "sku"
unit_price = "price"
quantity = "n"
[[order.payments]]
method = { value = "card" }
amount = { due = true }
[[parcels]]
holds = "row"
parcel_id = "box"
carrier = { value = "ups" }
tracking_number = { template = "{box}-{id}", default = "none" }
shipped_at = "sent"
[[returns]]
return_id = { template = "R-{id}" }
requested_at = "back"
channel = { value = "portal" }
resolution = { value = "refund" }
[[returns.lines]]
line_id = "line"
quantity = "back_n"
"""
LINES_HEADER = "id,paid,currency,who,sku,price,n,box,sent,back,back_n,line"


def test_rows_of_one_order_stand_together_and_its_own_values_in_one_of_them(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        LINES,
        LINES_HEADER,
        "A-1,2026-03-02,USD,c-1,S-1,10.00,1,B-1,2026-03-03,2026-03-04,1,1",
        "A-1,,,,S-2,5.00,2.0,B-1,2026-03-03,,,",
        "A-1,,,,GIFT,0.00,0,,,,,",
        "A-2,2026-03-02,USD,c-2,S-1,10.00,1,,,,,",
    )

    summary = shop.load()

    assert (summary.rows, summary.orders, summary.imported, summary.declined) == (4, 2, 2, 1)
    lines = [[(line.line_id, line.sku, line.quantity) for line in order.lines] for order in shop.events(Confirmed)]
    assert lines == [[("1", "S-1", 1), ("2", "S-2", 2)], [("1", "S-1", 1)]]
    (parcel,) = shop.events(Shipped)
    assert (parcel.tracking_number, [line.line_id for line in parcel.lines]) == ("B-1-A-1", ["1", "2"])


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (
            "A-1,,USD,c-9,S-2,5.00,1,,,,,",
            (3, "customer.customer_id", "column 'who': 'c-9', but another row of this order"),
        ),
        ("A-1,,,,S-2,5.00,1,B-1,2026-03-09,,,", (3, "shipped_at", "parcel 'B-1' has 2026-03-09")),
        ("A-1,,,,S-2,5.00,half,,,,,", (3, "lines[1].quantity", "column 'n': 'half' is not a number")),
        ("A-1,,,,S-2,5.00,1.5,,,,,", (3, "lines[1].quantity", "column 'n': 1.5 is not a whole number")),
        ("A-1,,,,,5.00,1,,,,,", (3, "lines[1].sku", "column 'sku' is empty")),
        ("A-1,,,,S-2,5.00,1", (3, "", "has 7 cells, the header has 12")),
        (",,,,S-2,5.00,1,,,,,", (3, "order_id", "is empty")),
    ],
)
def test_rows_of_an_order_that_contradict_each_other_are_refused(
    second: str, expected: tuple[int, str, str], tmp_path: Path
) -> None:
    first = "A-1,2026-03-02,USD,c-1,S-1,10.00,1,B-1,2026-03-03,,,"
    shop = Shop(tmp_path, LINES, LINES_HEADER, first, second)

    shop.load()

    row, field, reason = shop.reason()
    assert (row, field) == expected[:2]
    assert reason.startswith(expected[2])


def test_a_quantity_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path, mapping_text(line='quantity = "n"'), f"{HEADER},n", f"A-1,c,2026-03-02 10:00,1.00,{'9' * 5000}.5"
    )

    shop.load()

    assert shop.reason()[:2] == (2, "lines[0].quantity")


@pytest.mark.parametrize("n", ["-1", "-2.0", "-0.5"])
def test_a_negative_quantity_is_refused_as_such_and_not_by_what_follows_of_it(n: str, tmp_path: Path) -> None:
    mapping = mapping_text(line='quantity = "n"').replace(
        'unit_price = "price"', 'unit_price = { column = "price", divided_by = "n" }'
    )
    shop = Shop(tmp_path, mapping, f"{HEADER},n", f"A-1,c,2026-03-02 10:00,10.00,{n}")

    shop.load()

    assert shop.reason() == (2, "lines[0].quantity", f"column 'n': {float(n):g} is negative")


def test_an_order_whose_lines_are_all_left_out_is_refused_in_plain_words(tmp_path: Path) -> None:
    row = "A-1,2026-03-02,USD,c-1,S-1,10.00,0,,,,,"
    shop = Shop(tmp_path, LINES, LINES_HEADER, row, row)

    summary = shop.load()

    assert summary.reasons == {"row.invalid lines": 1}
    assert shop.reason()[2] == "the order has none: every line lacks a quantity or does not meet its condition"


BACK = """
[[returns]]
return_id = "first"
requested_at = "first_at"
channel = { value = "portal" }
[[returns.lines]]
quantity = "first_n"
reason = { value = "too long" }
[[returns]]
return_id = "second"
requested_at = "second_at"
channel = { value = "portal" }
[[returns.lines]]
quantity = "second_n"
"""


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("3", "", [[("1", 2, "too long"), ("1/2", 1, "too long")]]),
        ("2", "1", [[("1", 2, "too long")], [("1/2", 1, "")]]),
        ("1", "2", [[("1", 1, "too long")], [("1", 1, ""), ("1/2", 1, "")]]),
    ],
)
@pytest.mark.parametrize("line_id", ["", 'line_id = "line"\n'])
def test_units_of_a_line_that_a_discount_split_go_back_from_both_parts(
    line_id: str, first: str, second: str, expected: list[list[tuple[str, int, str]]], tmp_path: Path
) -> None:
    back = BACK.replace('quantity = "', f'{line_id}quantity = "')
    mapping = mapping_text(order='discount = "off"', line='quantity = "n"\nline_id = "line"', sections=PARCELS + back)
    header = f"{HEADER},off,n,line,track,sent,came,first,first_at,first_n,second,second_at,second_n"
    row = "A-1,c,2026-03-02 10:00,20.00,5.00,3,1,T,2026-03-03 10:00,2026-03-04 10:00"
    shop = Shop(tmp_path, mapping, header, f"{row},R-1,2026-03-05 10:00,{first},R-2,2026-03-06 10:00,{second}")

    summary = shop.load()

    asked = [
        [(one.line_id, one.quantity, one.reason or "") for one in back.lines] for back in shop.events(ReturnRequested)
    ]
    assert (summary.refused, asked) == (0, expected)


def test_more_units_of_a_split_line_than_were_bought_are_refused(tmp_path: Path) -> None:
    mapping = mapping_text(order='discount = "off"', line='quantity = "n"', sections=PARCELS + BACK)
    header = f"{HEADER},off,n,track,sent,came,first,first_at,first_n,second,second_at,second_n"
    row = "A-1,c,2026-03-02 10:00,20.00,5.00,3,T,2026-03-03 10:00,2026-03-04 10:00,R-1,2026-03-05 10:00,4,,,"
    shop = Shop(tmp_path, mapping, header, row)

    summary = shop.load()

    assert [reason.split()[0] for reason in summary.reasons] == ["quantity.exceeded"]


def test_what_does_not_meet_the_condition_of_a_return_need_not_be_a_quantity(tmp_path: Path) -> None:
    conditional = LINES.replace("[[returns.lines]]", '[[returns.lines]]\nwhen = { column = "back", empty = false }')
    shop = Shop(
        tmp_path, conditional, LINES_HEADER, "A-1,2026-03-02,USD,c-1,S-1,10.00,1,,,,none,", "A-1,,,,S-2,1.00,1,,,,,"
    )

    shop.load()

    assert shop.refusals == []


# ---- status, conditions, accounts, cancellations ---------------------------------------------------------------------

STATUS = """
[status]
column = "status"
[status.means]
new = ["confirmed"]
done = ["confirmed", "account", "shipped", "delivered"]
maybe = ["confirmed", "account?", "cancelled?", "shipped?", "delivered?", "returned?"]
gone = ["confirmed", "cancelled"]
back = ["confirmed", "shipped", "delivered", "returned"]
test = "skip"
"""
SECTIONS = """
[account]
account_id = "account"
[cancellation]
requested_at = "stop"
channel = { value = "email" }
order_copy = { value = true }
[[returns]]
return_id = "rma"
requested_at = "asked"
channel = { value = "portal" }
[[returns.lines]]
quantity = { column = "rma", values = {}, default = "1" }
"""
STATUS_HEADER = f"{HEADER},status,account,track,sent,came,stop,rma,asked"


def test_a_status_says_what_happened(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        mapping_text(more="", sections=STATUS + PARCELS + SECTIONS),
        STATUS_HEADER,
        "A-1,c,2026-03-02 10:00,1.00,new,acc,T,2026-03-03 10:00,2026-03-04 10:00,2026-03-02 11:00,R-1,2026-03-05 10:00",
        "A-2,c,2026-03-02 10:00,1.00,done,acc,T,2026-03-03 10:00,2026-03-04 10:00,,,",
        "A-3,c,2026-03-02 10:00,1.00,maybe,,,,,,,",
        "A-4,c,2026-03-02 10:00,1.00,gone,,,,,2026-03-02 11:00,,",
        "A-5,c,2026-03-02 10:00,1.00,test,,,,,,,",
        "A-6,c,2026-03-02 10:00,1.00,back,,T,2026-03-03 10:00,2026-03-04 10:00,,R-6,2026-03-05 10:00",
    )

    summary = shop.load()

    assert dict(summary.commands) == {
        "confirm_order": 5,
        "link_account": 1,
        "record_shipment": 2,
        "record_delivery": 2,
        "request_cancellation": 1,
        "request_return": 1,
    }
    assert (summary.left_out, summary.refused, summary.imported) == (1, 0, 5)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("done,acc,,,,,,", "shipped_at"),
        ("done,acc,T,2026-03-03 10:00,,,,", "delivered_at"),
        ("done,,T,2026-03-03 10:00,2026-03-04 10:00,,,", "account_id"),
        ("gone,,,,,,,", "requested_at"),
        ("back,,T,2026-03-03 10:00,2026-03-04 10:00,,R-1,", "requested_at"),
        ("unheard of,,,,,,,", "status"),
    ],
)
def test_what_the_status_says_and_the_row_does_not_is_refused(row: str, field: str, tmp_path: Path) -> None:
    mapping = mapping_text(sections=STATUS + PARCELS + SECTIONS)
    shop = Shop(tmp_path, mapping, STATUS_HEADER, f"A-1,c,2026-03-02 10:00,1.00,{row}")

    shop.load()

    assert shop.reason()[:2] == (2, field)
    assert shop.services.store.head() == 0


@pytest.mark.parametrize(
    ("status", "section", "field"),
    [
        ("done", "[account]", "account_id"),
        ("gone", "[cancellation]", "requested_at"),
        ("back", "[[returns]]", "requested_at"),
    ],
)
def test_a_step_that_must_have_happened_is_not_lost_to_a_condition(
    status: str, section: str, field: str, tmp_path: Path
) -> None:
    sections = SECTIONS.replace(section, f'{section}\nwhen = {{ column = "who", in = ["nobody"] }}')
    row = "acc,T,2026-03-03 10:00,2026-03-04 10:00,,R-1,2026-03-05 10:00"
    shop = Shop(
        tmp_path,
        mapping_text(sections=STATUS + PARCELS + sections),
        STATUS_HEADER,
        f"A-1,c,2026-03-02 10:00,1.00,{status},{row}",
        f"A-2,c,2026-03-02 10:00,1.00,maybe,{row}",
    )

    shop.load()

    assert shop.reason() == (2, field, "its condition is not met, but the status says that it happened")


def test_of_several_sections_of_returns_one_is_enough_for_a_status_that_says_returned(tmp_path: Path) -> None:
    means = '[status]\ncolumn = "status"\nmeans = { back = ["confirmed", "shipped", "delivered", "returned"] }\n'
    header = f"{HEADER},status,track,sent,came,first,first_at,first_n,second,second_at,second_n"
    row = "c,2026-03-02 10:00,20.00,back,T,2026-03-03 10:00,2026-03-04 10:00"
    shop = Shop(
        tmp_path,
        mapping_text(sections=means + PARCELS + BACK),
        header,
        f"A-1,{row},,,,R-2,2026-03-06 10:00,1",
        f"A-2,{row},,,,,,",
    )

    shop.load()

    assert [back.return_id for back in shop.events(ReturnRequested)] == ["R-2"]
    assert shop.reason() == (3, "requested_at", "is empty, but the status says that it happened")


def test_orders_and_parts_of_them_can_be_left_out_by_conditions(tmp_path: Path) -> None:
    only = 'only = [{ column = "region", in = ["us"] }, { column = "b2b", empty = true }]'
    when = PARCELS + 'when = { column = "how", not_in = ["pickup", ""] }\n'
    header = f"{HEADER},track,sent,came,region,b2b,how"
    rest = "T-1,2026-03-03 09:00,"
    shop = Shop(
        tmp_path,
        mapping_text(more=only, sections=when),
        header,
        f"A-1,c,2026-03-02 10:00,1.00,{rest},us,,post",
        f"A-2,c,2026-03-02 10:00,1.00,{rest},us,,pickup",
        f"A-3,c,2026-03-02 10:00,1.00,{rest},eu,,post",
        f"A-4,c,2026-03-02 10:00,1.00,{rest},us,yes,post",
    )

    summary = shop.load()

    assert (summary.imported, summary.left_out) == (2, 2)
    assert dict(summary.commands) == {"confirm_order": 2, "record_shipment": 1}


def test_a_return_id_of_another_order_is_refused_in_a_dry_run_too(tmp_path: Path) -> None:
    story = Scenario().given(a_delivered_order(), request_return(return_id="R-6", at="2026-03-09 12:00"))
    row = "A-9,c,2026-03-02 10:00,1.00,back,,T,2026-03-03 10:00,2026-03-04 10:00,,R-6,2026-03-05 10:00"
    mapping = mapping_text(sections=STATUS + PARCELS + SECTIONS)
    shop = Shop(tmp_path, mapping, STATUS_HEADER, row, services=story.services)

    tried, done = shop.load(trial=True), shop.load()

    assert tried.reasons == done.reasons == {"return.exists return_id": 1}


def test_values_are_matched_looked_up_and_read_as_yes_or_no(tmp_path: Path) -> None:
    line = 'final_sale = "sale"\ndescription = { column = "note", match = "^[A-Z]+" }'
    mapping = mapping_text(line=line, format='true = ["Ja"]\nfalse = ["Nein"]\nempty = ["-"]')
    mapping = mapping.replace('order_id = "id"', 'order_id = { column = "id", match = "^#(\\\\d+)$" }')
    mapping = mapping.replace('{ value = "card" }', '{ column = "by", values = { v = "visa" } }')
    header = f"{HEADER},sale,note,by"
    shop = Shop(
        tmp_path,
        mapping,
        header,
        "#17,c,2026-03-02 10:00,1.00,JA,ABCdef,v",
        "18,c,2026-03-02 10:00,1.00,Ja,A,v",
        "#19,c,2026-03-02 10:00,1.00,maybe,A,v",
        "#20,c,2026-03-02 10:00,1.00,-,-,w",
    )

    shop.load()

    (order,) = shop.events(Confirmed)
    assert (order.order_id, order.lines[0].final_sale, order.lines[0].description) == ("17", True, "ABC")
    assert [(refusal.row, refusal.field) for refusal in shop.refusals] == [
        (3, "order_id"),
        (4, "lines[0].final_sale"),
        (5, "payments[0].method"),
    ]


def test_the_longest_ids_still_have_a_command_id_of_their_own(tmp_path: Path) -> None:
    long = "x" * 127
    shop = Shop(
        tmp_path,
        mapping_text(),
        HEADER,
        *(f"{long}{end},c,2026-03-02 10:00,1.00" for end in "ab"),
        "a/b,c,2026-03-02 10:00,1",
    )

    summary = shop.load()

    ids = [order.command_id for order in shop.events(Confirmed)]
    assert summary.imported == 3
    assert len(set(ids)) == 3
    assert all(len(one) <= 128 for one in ids)
    assert ids[2] == "import/shop/a%2Fb/confirm_order"


# ---- the table -------------------------------------------------------------------------------------------------------


def test_other_encodings_delimiters_and_blank_lines_are_read(tmp_path: Path) -> None:
    form = '[file]\nencoding = "latin-1"\ndelimiter = ";"'
    shop = Shop(tmp_path, mapping_text(more=form))
    shop.table.write_bytes("id;who;paid;price\n\nA-1;Zoë;2026-03-02 10:00;1.00\n".encode("latin-1"))

    shop.load()

    assert [order.customer.customer_id for order in shop.events(Confirmed)] == ["Zoë"]
    assert count_rows(str(shop.table), read_mapping(str(shop.mapping)).file) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "orders.csv: is empty"),
        (b"id,who,paid\n", "has no column 'price'"),
        (b"id,who,paid,price,price\n", "has more than one column 'price'"),
        (b'id,who,paid,price\nA-1,"c"x,2026-03-02,1\n', "orders.csv: row 2: "),
        (b"id,who,paid,price\nA-1,\xff,2026-03-02,1\n", "not utf-8"),
    ],
)
def test_a_file_that_is_no_such_table_is_one_clear_error(content: bytes, expected: str, tmp_path: Path) -> None:
    shop = Shop(tmp_path, mapping_text())
    shop.table.write_bytes(content)

    with pytest.raises((TableUnreadable, MappingInvalid)) as caught:
        shop.load()

    assert expected in str(caught.value)


# ---- the mapping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "shop"', "", "name: is missing"),
        ('name = "shop"', 'name = "a/b"', "name: "),
        ('rows = "orders"', 'rows = "cells"', "rows: "),
        ('rows = "orders"', 'rows = "orders"\nnonsense = 1', "nonsense: is not a known key"),
        (
            'unit_price = "price"',
            'unit_price = { colum = "price" }',
            "order.lines.0.unit_price.colum: is not a known key",
        ),
        ('unit_price = "price"', "unit_price = {}", "order.lines.0.unit_price: needs exactly one of"),
        ('unit_price = "price"', 'unit_price = { column = "a", value = "b" }', "column and value are given"),
        ('unit_price = "price"', 'unit_price = { column = "a", match = "(" }', "is not a regular expression"),
        ('unit_price = "price"', "unit_price = { due = true }", "due is only for the amount of a payment"),
        ('zone = "America/New_York"', 'zone = "Mars/Base"', "format.zone: "),
        ('zone = "America/New_York"', 'decimal = ","\nthousands = ","', "decimal and thousands are the same"),
        ('zone = "America/New_York"', 'true = ["1"]\nfalse = ["1"]', "'1' is both true and false"),
        ("[format]", '[file]\nencoding = "utf-99"\n[format]', "file.encoding: 'utf-99' is not a text encoding"),
        ("[format]", '[status]\ncolumn = "s"\nmeans = { x = ["shiped"] }\n[format]', "'shiped' is not a step"),
        ("[format]", '[status]\ncolumn = "s"\nmeans = { x = ["shipped"] }\n[format]', "not skipped needs confirmed"),
        (
            'rows = "orders"',
            'rows = "orders"\nonly = [{ column = "x" }]',
            "only.0: needs exactly one of in, not_in and empty",
        ),
        ("[format]", "[format", "not TOML"),
        ('zone = "America/New_York"', "true = []", "format.true: must not be empty"),
        ('zone = "America/New_York"', "false = []", "format.false: must not be empty"),
        ('zone = "America/New_York"', 'false = [""]', "format.false.0: must not be empty"),
        *(
            (
                "[format]",
                f'[file]\nencoding = "{name}"\n[format]',
                f"file.encoding: '{name}' is not a text encoding",
            )
            for name in ("rot13", "hex", "base64", "zip", "undefined")
        ),
        *(
            ("[format]", f'[file]\ndelimiter = "{one}"\n[format]', " is not a delimiter: give a tab")
            for one in ("", ";;", "\\n", "\\r", "\\u0000", "\\u0007", "a", "é", "1", '\\"', "\\u2028")
        ),
        *(
            (
                'currency = { value = "USD" }',
                f'currency = {{ value = "USD" }}\nshipping = {{ charged = {{ {more} }} }}',
                f"order.shipping.charged: {reason}",
            )
            for more, reason in (
                ('sum = ["a"], match = "b"', "match and values apply to a text, not to a sum"),
                ('sum = ["a"], values = { b = "c" }', "match and values apply to a text, not to a sum"),
                ("due = true", "due is only for the amount of a payment"),
            )
        ),
        (
            '"price"',
            "{ sum = [{ due = true }] }",
            "order.lines.0.unit_price.sum.0: due is only for the amount of a payment",
        ),
        (
            "{ due = true }",
            "{ sum = [{ due = true }] }",
            "order.payments.0.amount.sum.0: due is only for the amount of",
        ),
        ('{ value = "card" }', "{ due = true }", "order.payments.0.method: due is only for the amount of a payment"),
        *(
            ("{ due = true }", f"{{ due = true, {more} }}", "order.payments.0.amount: due excludes all other keys")
            for more in ('minus = ["price"]', 'times = "price"', 'divided_by = "price"', 'match = "1"', 'default = "1"')
        ),
        (
            "[[order.payments]]",
            '[[order.payments]]\nmethod = { value = "a" }\namount = { due = true }\n[[order.payments]]',
            "order.payments: only one payment can be due",
        ),
        *(
            (old, f"{key} = {{ {calculation} }}", f"{place}: sum, minus, times and divided_by are for amounts")
            for old, key, place in (
                ('order_id = "id"', "order_id", "order.order_id"),
                ('confirmed_at = "paid"', "confirmed_at", "order.confirmed_at"),
                ('customer_id = "who"', "customer_id", "order.customer.customer_id"),
                ('sku = { value = "SKU" }', 'sku = "a"\ndescription', "order.lines.0.description"),
                ('sku = { value = "SKU" }', 'sku = "a"\nfinal_sale', "order.lines.0.final_sale"),
            )
            for calculation in (
                'sum = ["a"]',
                'column = "a", minus = ["b"]',
                'column = "a", times = "b"',
                'column = "a", divided_by = "b"',
            )
        ),
        *(
            ("[format]", f'[status]\ncolumn = "s"\nmeans = {{ x = {steps} }}\n[format]', f"status.means: x: {reason}")
            for steps, reason in (
                ('["confirmed", "delivered"]', "delivered needs shipped or shipped?"),
                ('["confirmed", "delivered?"]', "delivered needs shipped or shipped?"),
                ('["confirmed", "shipped", "shipped?"]', "'shipped' appears more than once"),
                ('["confirmed", "account"]', "account must have happened, but there is no [account]"),
                ('["confirmed", "shipped"]', "shipped must have happened, but there is no [[parcels]]"),
                (
                    '["confirmed", "shipped?", "delivered"]',
                    "delivered must have happened, but there is no delivered_at in [[parcels]]",
                ),
                ('["confirmed", "cancelled"]', "cancelled must have happened, but there is no [cancellation]"),
                ('["confirmed", "returned"]', "returned must have happened, but there is no [[returns]]"),
            )
        ),
    ],
)
def test_a_mapping_that_says_something_else_is_an_error_naming_the_place(
    old: str, new: str, expected: str, tmp_path: Path
) -> None:
    text = mapping_text()
    assert old in text

    file = tmp_path / "shop.toml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(MappingInvalid) as caught:
        read_mapping(str(file))

    assert str(caught.value).startswith(f"{file}: ")
    assert expected in str(caught.value)


def test_a_tax_of_the_order_and_one_of_its_lines_do_not_go_together(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(mapping_text(order='tax = "taxes"', line='tax = "tax"'), encoding="utf-8")

    with pytest.raises(MappingInvalid, match="order: give tax for the order or for its lines, not for both"):
        read_mapping(str(file))


@pytest.mark.parametrize("delimiter", [",", ";", "\\t", "|", "~", "^", " "])
def test_a_delimiter_may_be_a_tab_or_a_sign(delimiter: str, tmp_path: Path) -> None:
    shop = Shop(
        tmp_path, mapping_text(more=f'[file]\ndelimiter = "{delimiter}"').replace('"%Y-%m-%d %H:%M"', '"%Y-%m-%d"')
    )
    cells = delimiter.replace("\\t", "\t")
    shop.table.write_text(f"{cells.join(HEADER.split(','))}\n{cells.join(['A-1', 'c', '2026-03-02', '1.00'])}\n")

    shop.load()

    assert [order.order_id for order in shop.events(Confirmed)] == ["A-1"]


def test_parcels_of_rows_need_rows_that_are_lines(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(mapping_text(sections=PARCELS + 'holds = "row"\n'), encoding="utf-8")

    with pytest.raises(MappingInvalid, match='holds = "row" is for rows = "lines"'):
        read_mapping(str(file))


def test_a_mapping_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MappingInvalid, match="cannot be read"):
        read_mapping(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(MappingInvalid, match="not UTF-8"):
        read_mapping(str(tmp_path / "latin.toml"))


def test_the_usual_order_of_the_tests_is_what_an_import_makes_of_it(tmp_path: Path) -> None:
    live = Scenario().given(an_order(account_id=None))
    shop = Shop(tmp_path, mapping_text(), HEADER, "A-1,c-1,2026-03-02 10:00,750.00")

    shop.load()

    (one,), (other,) = ([e.event for e in p.store.read()] for p in (live.services, shop.services))
    alike = {"occurred_at", "order_id", "currency", "cancel_by", "pins"}
    assert one.model_dump(include=alike) == other.model_dump(include=alike)
