"""Tickets: who shows one goes to its worker, until it is over."""

from __future__ import annotations

from pathlib import Path

from gateway.loopback import endpoint, run, site, until, worker
from stoker.gateway.reservations import RESERVATIONS_MAX, Reservations
from stoker.link.messages import Delta, Report, ReservationEntry


def test_a_ticket_is_good_for_its_endpoint_until_it_expires() -> None:
    tickets = Reservations({})
    tickets.put(ReservationEntry("t", "e", "w", 10.0), 0.0)
    assert tickets.worker_of("t", "e", 9.9) == "w"
    assert tickets.worker_of("t", "e", 9.9) == "w", "whoever was cut may try again"
    assert tickets.worker_of("t", "other", 1.0) is None
    assert tickets.worker_of("t", "e", 10.0) is None
    tickets.sweep(10.0)
    assert len(tickets) == 0


def test_tickets_that_were_shown_are_told_once() -> None:
    tickets = Reservations({})
    tickets.put(ReservationEntry("t", "e", "w", 10.0), 0.0)
    assert tickets.worker_of("t", "other", 1.0) is None
    assert tickets.used == set()
    tickets.worker_of("t", "e", 1.0)
    tickets.worker_of("t", "e", 2.0)
    assert tickets.used == {"t"}


def test_tickets_are_bounded_in_number() -> None:
    tickets = Reservations({})
    for number in range(RESERVATIONS_MAX + 1):
        tickets.put(ReservationEntry(str(number), "e", "w", 10.0), 0.0)
    assert len(tickets) == RESERVATIONS_MAX
    assert tickets.worker_of("0", "e", 1.0) is None


def test_a_request_with_a_ticket_goes_to_its_worker_and_is_told_which(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as one, worker() as two:
            rows = (one.entry("w1", slots=4), two.entry("w2", slots=4, order=2))
            async with site(tmp_path, endpoint(*rows)) as s:
                s.control.seq += 1
                s.control.say(Delta(s.control.seq, reservations=(ReservationEntry("t-1", "id-chat", "w2", 60.0),)))
                await until(lambda: s.control.acked >= s.control.seq)
                for _ in range(3):
                    reply = await s.ask("GET", "/e/chat/x", "X-Stoker-Reservation: t-1")
                    assert (reply.status, reply.header("X-Stoker-Worker")) == (200, "w2")
                assert (len(one.asked), len(two.asked)) == (0, 3)
                assert two.asked[0].header("X-Stoker-Reservation") is None
                await until(lambda: any("t-1" in report.tickets_used for report in s.control.all(Report)))
                s.control.seq += 1
                s.control.say(Delta(s.control.seq, reservations_gone=("t-1",)))
                await until(lambda: s.control.acked >= s.control.seq)
                reply = await s.ask("GET", "/e/chat/x", "X-Stoker-Reservation: t-1")
                assert (reply.status, reply.header("X-Stoker-Reason")) == (410, "reservation_gone")

    run(main)
