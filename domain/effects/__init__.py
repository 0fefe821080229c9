"""What the desk's events ask of the world outside, and what comes back: payments, parcels and mails.

Decisions never call outside. An event records the intent (``RefundRequested``, ``ReturnAuthorized``). A worker of the host
follows the events and calls one of these ports under a key that follows from the event alone. Then it gives the desk the
answer as a command. Every answer makes its commands (``receipt.commands()``), under ids that follow from the answer: the same
answer is recorded once, even if it comes by the call and by a notice, or before and after a crash. An answer that contradicts
an earlier one is another answer, and the desk records it, too.

A call has three ends: an answer, a definite no, and no answer (``OutcomeUnknown``). Without an answer the call may have
been carried out, or may still be: ask ``find`` before you try again, and try again under the same key only.

Amounts are in minor units and above zero, instants are aware and in UTC. A host implements the ports for its provider;
``returnable.testing.fakes`` implements them for tests.
"""
