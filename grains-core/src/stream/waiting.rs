//! Tasks that wait for the same thing, in the order in which they came. Used under the locks of the other files here.

use std::{collections::VecDeque, task::Waker};

/// A queue of waiting tasks.
///
/// No waker is dropped here: dropping one can drop a task, and with it a stream that wants the lock its caller holds.
/// They are handed out, to be woken or dropped when the lock is released.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    next: u64,
    /// Tickets grow from front to back. As long as the futures that wait, which belong to their callers.
    tasks: VecDeque<(Ticket, Waker)>,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl Waiting {
    /// Keeps the place of `ticket`, or takes the last one and notes it there. Gives back the waker this replaces.
    #[must_use]
    pub(super) fn wait(&mut self, ticket: &mut Option<Ticket>, waker: &Waker) -> Option<Waker> {
        let Some(place) = ticket.and_then(|ticket| self.place(ticket)) else {
            *ticket = Some(Ticket(self.next));
            self.tasks.push_back((Ticket(self.next), waker.clone()));
            self.next += 1;
            return None;
        };
        let known = &mut self.tasks[place].1;
        if known.will_wake(waker) { None } else { Some(std::mem::replace(known, waker.clone())) }
    }

    /// Whether nobody has called `ticket` yet.
    pub(super) fn holds(&self, ticket: Ticket) -> bool {
        self.place(ticket).is_some()
    }

    /// Gives up the place of `ticket`; `None` if it had been called.
    #[must_use]
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let place = self.place(ticket)?;
        self.tasks.remove(place).map(|(_, waker)| waker)
    }

    /// Calls whoever has waited longest.
    #[must_use]
    pub(super) fn call_first(&mut self) -> Option<Waker> {
        self.tasks.pop_front().map(|(_, waker)| waker)
    }

    /// Calls everybody.
    pub(super) fn call_all(&mut self) -> Called {
        Called(std::mem::take(&mut self.tasks))
    }

    fn place(&self, ticket: Ticket) -> Option<usize> {
        self.tasks.binary_search_by_key(&ticket, |(known, _)| *known).ok()
    }
}

/// Tasks to wake.
#[must_use]
#[derive(Debug)]
pub(super) struct Called(VecDeque<(Ticket, Waker)>);

impl Called {
    /// Wakes them all.
    pub(super) fn wake(self) {
        for (_, waker) in self.0 {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::testing::Wakes, *};

    #[test]
    fn the_first_come_is_the_first_called() {
        let (a, b) = (Wakes::new(), Wakes::new());
        let mut waiting = Waiting::default();
        let (mut first, mut second) = (None, None);
        assert!(waiting.wait(&mut first, &a.waker()).is_none());
        assert!(waiting.wait(&mut second, &b.waker()).is_none());
        assert!(waiting.wait(&mut first, &a.waker()).is_none(), "asking again keeps the place");
        waiting.call_first().unwrap().wake();
        assert_eq!((a.count(), b.count()), (1, 0));
        assert!(!waiting.holds(first.unwrap()));
        assert!(waiting.holds(second.unwrap()));
    }

    #[test]
    fn only_the_last_waker_of_a_ticket_is_kept() {
        let (old, new) = (Wakes::new(), Wakes::new());
        let mut waiting = Waiting::default();
        let mut ticket = None;
        drop(waiting.wait(&mut ticket, &old.waker()));
        drop(waiting.wait(&mut ticket, &new.waker()));
        assert_eq!(Arc::strong_count(&old), 1);
        waiting.call_all().wake();
        assert_eq!((old.count(), new.count()), (0, 1));
        assert!(waiting.leave(ticket.unwrap()).is_none());
    }
}
