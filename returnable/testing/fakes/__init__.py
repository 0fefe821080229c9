"""A payment gateway, a carrier and a mailbox for tests. They implement the ports of :mod:`returnable.domain.effects`, keep
their own books, and fail as a test scripts it.

    world = FakeWorld(clock)
    world.gateway.captures("p-1", "750.00")
    world.gateway.next_refund().times_out_after_charging()
    ...
    assert world.gateway.refunded("p-1") == "530.00"
    assert not world.gateway.differences(desk.ledger())
    world.verify()

Nothing waits, and the given clock is the only time. Whatever comes from outside (webhooks, scans, mails) comes out of
``world.due()`` once the clock has passed its instant. With ``FakeWorld(clock, seed=7, trouble=0.2)`` about every fifth call
and message is in trouble. Which one, and how, is a pure function of the seed, of the key, and of how often it was tried.
Safe to use from many threads.
"""
