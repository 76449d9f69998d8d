"""All connections of a worker to its brokers, and the sleep until there is something to do at one of them."""

from __future__ import annotations

from cbw.core.worker.driver import WorkerConnection
from cbw.errors import MORE_FILES, NotReady
from cbw.keys.folder import LinkKeys
from cbw.transport.link import Link
from cbw.transport.places import Places
from cbw.transport.poller import Poller, Waker
from cbw.transport.sockets import new_context
from cbw.worker.limited import RecordEvent
from cbw.worker.link import WorkerLink


class WorkerLinks:
    """The :class:`cbw.core.worker.driver.Brokers` at ``places``, over ZeroMQ. ``waker`` ends its :meth:`wait`.

    Raises:
        NotReady: no descriptors are left.
    """

    def __init__(self, places: Places, waker: Waker, record_event: RecordEvent, keys: LinkKeys | None) -> None:
        self._waker = waker
        self._record_event = record_event
        self._keys = keys
        self._places = places
        self._are_several = places.are_several
        self.links: list[WorkerLink] = []
        """In the order of their numbers: those to the brokers that were given by their addresses come first."""
        self._poller: Poller | None = None  # None: the sources may have changed
        self._context = new_context()
        try:
            for place in places.known:
                link = self.connect(place)
                if not link.reconnect():
                    raise NotReady(link.problem, advice=MORE_FILES)
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float) -> None:
        """Sleep until something has arrived, a connection has changed, or somebody has used the waker."""
        poller = self._poller
        if poller is None:
            sources = (source for link in self.links for source in link.sources)
            poller = self._poller = Poller(self._waker.fileno(), *sources)
        ready = poller.poll(timeout_s)
        if self._waker.fileno() in ready:
            self._waker.clear()
        for link in self.links:
            link.on_ready(ready)

    def look_up(self) -> None:
        self._places.look_up()

    def take_found(self) -> list[str] | None:
        found = self._places.take_found()
        if found is not None:
            self._are_several = self._are_several or len(found) > 1
        return found

    def connect(self, place: str) -> WorkerLink:
        host, _, port = place.rpartition(":")
        address = (host.strip("[]"), int(port))

        def make() -> Link:
            return Link(self._context, [address], self._waker.wake, is_for_worker=True, keys=self._keys)

        link = WorkerLink(place if self._are_several else "", make, self._record_event, self._sources_changed)
        self.links.append(link)
        return link

    def _sources_changed(self) -> None:
        self._poller = None

    def disconnect(self, link: WorkerConnection) -> None:
        for each in self.links:
            if each is link:
                each.close()
        self.links = [each for each in self.links if each is not link]
        self._sources_changed()

    def close(self) -> None:
        """Close all sockets, and wait, at most a second, until what was sent is delivered."""
        for link in self.links:
            link.close()
        self._context.term()
