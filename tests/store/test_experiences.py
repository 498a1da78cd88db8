"""What `auto` has learned, on every store: a row for each endpoint, taken over by the next."""

from __future__ import annotations

from stoker.domain.endpoint import EndpointId
from stoker.store import experiences
from stoker.store.base import Store
from store.places import Place

A, B = EndpointId("a"), EndpointId("b")


def test_there_is_one_row_for_each_endpoint_until_it_is_removed(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.write(lambda tx: experiences.save(tx, {A: '{"x":1}', B: "{}"}, now=1.0))
        await store.write(lambda tx: experiences.save(tx, {A: '{"x":2}'}, now=2.0))
        assert sorted(await store.read(experiences.everything)) == [(A, '{"x":2}'), (B, "{}")]
        await store.write(lambda tx: experiences.remove(tx, [A, EndpointId("unknown")]))
        assert await store.read(experiences.everything) == ((B, "{}"),)

    place.run(body)
