"""The page on imports names every key and every message, and its commands and recipes do what it says."""

from __future__ import annotations

import ast
import csv
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel
from terminal import returnable

from returnable.adapters.cli.import_ import import_
from returnable.adapters.imports import mapping as models
from returnable.adapters.imports.mapping import Mapping, Value, When, read_mapping
from returnable.adapters.wiring import assemble
from returnable.domain.errors import ErrorCode
from returnable.domain.events import Confirmed, Delivered, RefundRecorded, ReturnAuthorized, Shipped

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")

SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": Mapping,
    "`[file]`": models.FileSection,
    "`[format]`": models.FormatSection,
    "`[status]`": models.StatusSection,
    "`[order]`": models.OrderSection,
    "`[order.customer]`": models.CustomerSection,
    "`[[order.lines]]`": models.LineSection,
    "`[order.shipping]`": models.ShippingSection,
    "`[[order.payments]]`": models.PaymentSection,
    "`[account]`": models.AccountSection,
    "`[[parcels]]`": models.ParcelSection,
    "`[cancellation]`": models.CancellationSection,
    "`[[cancellations]]`": models.PastCancellationSection,
    "`[[cancellations.lines]]`": models.UnitsSection,
    "`[[returns]]`": models.ReturnSection,
    "`[[returns.lines]]`": models.ReturnLineSection,
    "`[[refunds]]`": models.RefundSection,
    "`[[refunds.lines]]`": models.RefundLineSection,
    "Values": Value,
    "Conditions": When,
}
"""Heading on the page → what it describes."""

WITHIN = ("Values", "Conditions")
"""Whose examples are whole tables."""


def part(heading: str, level: str = "###") -> str:
    """The text under a heading, up to the next one of its level or above."""
    found = re.search(
        rf"^{level} {re.escape(heading)}\n(.*?)(?=^#{{2,{len(level)}}} |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert found, heading
    return found.group(1)


def table(heading: str, level: str = "###") -> list[list[str]]:
    """The cells of the tables under a heading, without their headers."""
    rows = [
        re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in part(heading, level).splitlines() if line.startswith("| ")
    ]
    return [
        row for index, row in enumerate(rows) if row[0] != "---" and rows[index + 1 : index + 2] != [["---"] * len(row)]
    ]


def fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """Key as a mapping has it → its field."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def example_of(heading: str) -> dict[str, Any]:
    """The examples of a section as one section, with those of the sections inside it."""
    content: dict[str, Any] = {}
    for name, _, _, example in table(heading):
        key, shown = name.strip("`"), example.strip("`")
        if shown.startswith("["):
            inner = example_of(example)
            content[key] = [inner] if shown.startswith("[[") else inner
        else:
            content |= tomllib.loads(shown)
    return content


def blocks(language: str, text: str = PAGE) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


# ---- the keys --------------------------------------------------------------------------------------------------------


def test_every_part_of_a_mapping_has_its_section() -> None:
    services = {one for one in vars(models).values() if isinstance(one, type) and issubclass(one, models.Closed)}

    assert services - {models.Closed} == set(SECTIONS.values())


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_has_every_key_and_every_key_of_the_page_exists(heading: str) -> None:
    keys = [row[0].strip("`") for row in table(heading)]

    assert keys == list(fields_of(SECTIONS[heading]))


@pytest.mark.parametrize("heading", [heading for heading in SECTIONS if heading not in WITHIN])
def test_a_default_is_what_the_page_says(heading: str) -> None:
    model, whole = SECTIONS[heading], example_of(heading)
    for name, _, default, _ in table(heading):
        key = name.strip("`")
        field = fields_of(model)[key]
        if default == "required":
            assert field.is_required(), key
        elif default == "–":
            assert field.default in (None, ()) or field.default == type(field.default)(), key
        else:
            given = tomllib.loads(f"default = {default.strip('`')}")["default"]
            said = model.model_validate(whole | {key: given})
            assert getattr(said, key) == field.default, key


@pytest.mark.parametrize("heading", WITHIN)
def test_every_example_of_a_value_and_of_a_condition_is_one(heading: str) -> None:
    for name, _, default, example in table(heading):
        key, given = name.strip("`"), tomllib.loads(f"example = {example.strip('`')}")["example"]

        SECTIONS[heading].model_validate(given)

        assert key in given
        assert (default == "required") == fields_of(SECTIONS[heading])[key].is_required()


def test_the_examples_together_are_a_mapping() -> None:
    whole = example_of("Top level")
    del whole["order"]["lines"][0]["tax"]  # which does not go together with that of the order
    del whole["order_id"], whole["refunds"][0]["total"], whole["refunds"][0]["lines"][0]["amount"]

    mapping = Mapping.model_validate(whole)

    assert mapping.model_fields_set == set(Mapping.model_fields) - {"order_id"}
    assert mapping.order is not None
    assert mapping.order.tax is not None
    assert [step for step in models.STEPS if f"| `{step}` |" not in part("Status")] == []


def test_every_option_of_the_command_is_on_the_page() -> None:
    options = {name for one in import_.params if isinstance(one, click.Option) for name in one.opts}

    assert {row[0].strip("`").split()[0] for row in table("Options and exit status")} == options


# ---- the messages ----------------------------------------------------------------------------------------------------

RAISED = ("Refused", "ValueError", "MappingInvalid", "TableUnreadable", "Impossible")


def told(node: ast.expr) -> list[str]:
    """A message with … for what is filled in; nothing where it is no text."""
    if isinstance(node, ast.IfExp):
        return [*told(node.body), *told(node.orelse)]
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)]
    return []


def messages() -> set[str]:
    """Every message that an import can refuse with, from the source."""
    found: set[str] = set()
    for file in sorted((ROOT / "adapters" / "imports").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            named = {
                target.id: told(one.value)
                for one in ast.walk(function)
                if isinstance(one, ast.Assign)
                for target in one.targets
                if isinstance(target, ast.Name)
            }
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in RAISED:
                    place = 2 if call.func.id == "Refused" else 1 if call.func.id == "Impossible" else 0
                    message = call.args[place]
                    found.update(named.get(message.id, []) if isinstance(message, ast.Name) else told(message))
    return {message for message in found if re.search(r"\w", message)}


def test_every_message_of_a_refusal_is_on_the_page() -> None:
    said = set(re.findall(r"`([^`]+)`", part("Refusals", "##")))

    assert len(messages()) > 35
    assert sorted(messages() - said) == []


def test_every_message_on_the_page_is_one() -> None:
    said = {
        message
        for heading in ("The import does not begin", "A row is refused: `row.invalid`")
        for row in table(heading)
        for message in re.findall(r"`([^`]+)`", row[0])
    }

    written_by_pydantic = {"is missing", "is not a known key", "must not be empty"}
    filled_in = {"column … is empty", "column … and … is empty"}
    assert sorted(said - messages() - written_by_pydantic - filled_in) == []


def test_the_codes_on_the_page_are_codes() -> None:
    codes = {row[0].strip("`") for row in table("A command is refused")}

    assert codes <= set(ErrorCode.__args__)  # type: ignore[attr-defined]


# ---- the story -------------------------------------------------------------------------------------------------------


def test_the_story_runs_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "import", tmp_path / "examples" / "import")
    said = ""

    for line in "".join(blocks("console")).splitlines():
        if line.startswith("$ "):
            words = line.removeprefix("$ returnable ").split()
            _, out, err = returnable(*words, folder=tmp_path, RETURNABLE_STORE="sqlite:///shop.db")
            said += f"{line}\n{out}{err}"

    assert said == "".join(blocks("console"))
    assert (tmp_path / "refused.csv").read_text(encoding="utf-8").splitlines() == blocks("csv")[0].splitlines()


# ---- the recipes -----------------------------------------------------------------------------------------------------


def recipe(shop: str, folder: Path) -> tuple[Path, Path]:
    """The mapping and the table of a recipe, as files."""
    (mapping,), (rows,) = blocks("toml", part(shop)), blocks("csv", part(shop))
    files = folder / "shop.toml", folder / "orders.csv"
    files[0].write_text(mapping, encoding="utf-8")
    files[1].write_text(rows.replace("\\\n", ""), encoding="utf-8")
    return files


def imported(shop: str, folder: Path, *orders: dict[str, str]) -> tuple[str, list[Any]]:
    """What the import of a recipe says, and the facts it leaves; of other orders, where they are given."""
    mapping, rows = recipe(shop, folder)
    if orders:
        columns = list(dict.fromkeys(column for order in orders for column in order))
        with rows.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(orders)
    url = f"sqlite:///{folder}/shop.db"
    status, out, err = returnable("import", str(rows), "--mapping", str(mapping), "--store", url)
    refused = "refused for" in out
    assert (status, bool(err)) == (int(refused), refused)
    services = assemble(url)
    events = [entry.event for entry in services.store.read()]
    services.store.close()
    return out, events


def lines_of(events: list[Any]) -> list[list[tuple[str, str, int, int, int]]]:
    return [
        [(line.line_id, line.sku, line.unit_price, line.quantity, line.tax) for line in event.lines]
        for event in events
        if isinstance(event, Confirmed)
    ]


RECIPES = list(re.findall(r"^### (.*)$", part("Recipes", "##"), re.MULTILINE))


@pytest.mark.parametrize("shop", RECIPES)
def test_a_recipe_reads_every_column_of_its_table_but_totals_of_it(shop: str, tmp_path: Path) -> None:
    mapping, rows = recipe(shop, tmp_path)

    read = read_mapping(str(mapping))
    used = {column for _, column in read.columns_used()}
    header = rows.read_text(encoding="utf-8").splitlines()[0]

    assert set(header.split(read.file.delimiter)) - used <= {"Subtotal"}


def test_the_shopify_recipe_imports_its_table(tmp_path: Path) -> None:
    out, events = imported("Shopify", tmp_path)

    assert out.startswith("7 rows, 5 orders: 4 imported, 0 already imported, 1 left out by the mapping, 0 refused")
    assert "cancel_order 1, confirm_order 4, record_refund 2, record_shipment 2, request_cancellation 1" in out
    assert lines_of(events) == [
        [("1", "FERN-1", 1446, 2, 202), ("2", "Tote bag", 1808, 1, 127)],
        [("1", "MUG-1", 2500, 1, 0), ("2", "TIP", 300, 1, 0)],
        [("1", "MUG-1", 2500, 1, 0)],
        [("1", "MUG-1", 2500, 1, 0)],
    ]
    assert paid_back(events) == [("1", 2900, "2026-02-05T22:00:00"), ("1", 500, "2026-02-06T14:00:00")]


def paid_back(events: list[Any]) -> list[tuple[str, int, str]]:
    """Payment, amount and time of every refund of the past."""
    return [
        (tender.payment_id, tender.amount, event.occurred_at.isoformat()[:19])
        for event in events
        if isinstance(event, RefundRecorded)
        for tender in event.tenders
    ]


SHOPIFY = {
    "Name": "#1", "Email": "ann@shop.example", "Financial Status": "paid", "Fulfilled at": "", "Currency": "USD",
    "Subtotal": "60.00", "Shipping": "0.00", "Taxes": "0.00", "Total": "60.00", "Discount Amount": "0.00",
    "Shipping Method": "Standard", "Created at": "2026-02-03 11:00:00 -0500", "Lineitem quantity": "1",
    "Lineitem name": "Poncho", "Lineitem price": "60.00", "Lineitem sku": "PON-1", "Billing Name": "Ann Example",
    "Cancelled at": "", "Payment Method": "Shopify Payments",
}  # fmt: skip


def test_the_shopify_recipe_reads_tips_and_orders_by_telephone(tmp_path: Path) -> None:
    more = {"Phone": "", "Outstanding Balance": "0.00"}
    tip = dict.fromkeys(SHOPIFY, "") | {"Created at": SHOPIFY["Created at"], "Lineitem name": "Tip"}
    tip |= {"Name": "#1", "Lineitem price": "3.00", "Lineitem quantity": "1"}
    by_telephone = SHOPIFY | more | {"Email": "", "Phone": "+15550000001", "Taxes": "3.60", "Total": "66.60"}
    in_the_shop = SHOPIFY | more | {"Name": "#4", "Email": ""}
    not_all_paid = SHOPIFY | more | {"Name": "#5", "Outstanding Balance": "20.00"}

    out, events = imported("Shopify", tmp_path, by_telephone, tip | more, in_the_shop, not_all_paid)

    assert "2 imported, 0 already imported, 0 left out by the mapping, 1 refused" in out
    assert "refused for money.mismatch payments: 1" in out
    assert lines_of(events) == [
        [("1", "PON-1", 6000, 1, 360), ("2", "TIP", 300, 1, 0)],
        [("1", "PON-1", 6000, 1, 0)],
    ]
    assert [event.customer.customer_id for event in events] == ["+15550000001", "#4"]


def test_the_shopify_recipe_refuses_an_order_that_was_refunded_by_nothing(tmp_path: Path) -> None:
    out, events = imported("Shopify", tmp_path, SHOPIFY | {"Financial Status": "refunded"})

    assert "refused for row.invalid amount: 1" in out
    assert events == []


def test_the_shopify_recipe_takes_a_code_for_free_shipping_off_the_shipping(tmp_path: Path) -> None:
    code = SHOPIFY | {"Shipping": "6.00", "Discount Amount": "6.00"}

    _, (confirmed,) = imported("Shopify", tmp_path, code)

    assert (confirmed.lines[0].unit_price, confirmed.shipping_charged) == (6000, 0)


def test_the_shopify_recipe_refuses_two_methods_in_one_cell(tmp_path: Path) -> None:
    out, events = imported("Shopify", tmp_path, SHOPIFY | {"Payment Method": "Shopify Payments + gift_card"})

    assert "refused for row.invalid payments[0].method: 1" in out
    assert events == []


def woo(number: str, quantity: int, total: str, tax: str, paid: str, **more: str) -> dict[str, str]:
    line = f"name:Mug|product_id:7|sku:MUG|quantity:{quantity}|total:{total}|sub_total:{total}"
    return {
        "order_number": number, "order_date": "03/02/2026 18:30:00", "paid_date": "", "status": "processing",
        "shipping_total": "0", "shipping_tax_total": "0", "fee_total": "0", "tax_total": tax, "order_total": paid,
        "order_currency": "GBP", "payment_method": "stripe", "transaction_id": f"ch_{number}", "customer_user": "17",
        "customer_email": "a@shop.example", "line_item_1": line, "line_item_2": "", "tracking_number": "",
        "date_shipped": "", "date_delivered": "",
    } | more  # fmt: skip


def test_the_woocommerce_recipe_splits_totals_and_puts_a_cent_down_to_the_tax(tmp_path: Path) -> None:
    out, events = imported(
        "WooCommerce",
        tmp_path,
        woo("1", 2, "5.85", "0", "5.85"),
        woo("2", 10, "149.38", "29.88", "179.25"),  # whose parts come to a cent more
        woo("3", 2, "16.67", "3.33", "20.00", order_date="13/02/2026 18:30:00"),
        woo("4", 1, "5.00", "0", "5.00", status="pending"),
    )

    assert "3 imported, 0 already imported, 1 left out by the mapping, 0 refused" in out
    assert lines_of(events) == [
        [("1", "MUG", 292, 1, 0), ("1/2", "MUG", 293, 1, 0)],
        [("1", "MUG", 1493, 2, 597), ("1/2", "MUG", 1494, 8, 2390)],
        [("1", "MUG", 833, 1, 166), ("1/2", "MUG", 834, 1, 167)],
    ]
    assert [event.occurred_at.isoformat()[:10] for event in events] == ["2026-02-03", "2026-02-03", "2026-02-13"]


def test_the_woocommerce_recipe_imports_its_table(tmp_path: Path) -> None:
    out, events = imported("WooCommerce", tmp_path)

    assert out.startswith("3 rows, 3 orders: 2 imported, 0 already imported, 1 left out by the mapping, 0 refused")
    (parcel,) = [event for event in events if isinstance(event, Shipped)]
    assert sum(line.quantity for line in parcel.lines) == 5
    assert [event.occurred_at.isoformat() for event in events if isinstance(event, Delivered)] == [
        "2026-02-05T14:00:00+00:00"
    ]
    assert [{line[1] for line in lines} for lines in lines_of(events)] == [{"SCARF-2", "BELT-1", "FEE"}, {"BELT-1"}]
    assert paid_back(events) == [("ch_1", 950, "2026-02-02T09:15:00")]


def test_the_recipes_of_refunds_follow_those_of_their_orders(tmp_path: Path) -> None:
    orders = [
        woo(number, 1, paid, "0", paid, refunded_total="") for number, paid in (("501", "76.40"), ("502", "7.00"))
    ]
    imported("WooCommerce", tmp_path, *orders)

    out, events = imported("WooCommerce refunds", tmp_path)
    again, _ = imported("WooCommerce refunds", tmp_path)

    assert out.startswith("2 rows, 2 orders: 2 imported, 0 already imported, 0 left out by the mapping, 0 refused")
    assert again.startswith("2 rows, 2 orders: 0 imported, 2 already imported, 0 left out by the mapping, 0 refused")
    assert paid_back(events) == [("ch_501", 950, "2026-02-10T11:20:00"), ("ch_502", 700, "2026-02-11T09:00:00")]


def test_the_amazon_recipes_import_their_tables_one_after_the_other(tmp_path: Path) -> None:
    orders, events = imported("Amazon", tmp_path)
    refunds, told = imported("Amazon refunds", tmp_path)
    returns, _ = imported("Amazon returns", tmp_path)

    assert orders.startswith("3 rows, 2 orders: 1 imported, 0 already imported, 1 left out by the mapping, 0 refused")
    (lines,) = lines_of(events)
    assert lines == [
        ("MUG-4", "MUG-4", 2100, 2, 336),
        ("MUG-4-shipping", "SHIPPING", 300, 1, 24),
        ("NAPKIN", "NAPKIN", 1600, 1, 144),
        ("NAPKIN-shipping", "SHIPPING", 300, 1, 24),
    ]
    assert refunds.startswith("6 rows, 2 orders: 1 imported, 0 already imported, 1 left out by the mapping, 0 refused")
    assert paid_back(told) == [("1", 1744, "2026-04-28T16:05:00")]
    assert "request_return 1" in returns
    assert "declined by the policy: 1" in returns


def test_the_magento_recipe_imports_its_table(tmp_path: Path) -> None:
    out, events = imported("Magento-like", tmp_path)

    assert out.startswith("5 rows, 3 orders: 1 imported, 0 already imported, 2 left out by the mapping, 0 refused")
    assert [(line[0], line[1]) for line in lines_of(events)[0]] == [("1", "COAT-M"), ("3", "SOCKS"), ("3/2", "SOCKS")]
    parcels = [(one.parcel_id, sum(line.quantity for line in one.lines)) for one in events if isinstance(one, Shipped)]
    assert parcels == [("1Z-1", 1), ("1Z-2", 2)]
    assert len([event for event in events if isinstance(event, ReturnAuthorized)]) == 1
